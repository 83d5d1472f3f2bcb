"""A headless Chromium, driven through its DevTools protocol: what a page really does, not what its source says."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--remote-debugging-port=0",
)
START_S, CALL_S = 60.0, 30.0


def find_chromium() -> str | None:
    """The browser on this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Tab:
    """One tab. `requests` are the addresses it asked for, `messages` what its console and its policies said."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self.messages: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(self._waiting[number], CALL_S)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, address: str) -> None:
        """Go to an address and wait until it has loaded."""
        self._loaded.clear()
        await self.call("Page.navigate", url=address)
        await asyncio.wait_for(self._loaded.wait(), CALL_S)

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    async def press(self, key: str, code: int = 0) -> None:
        """A key; `code` is its virtual key code where it is no letter."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    async def type(self, text: str) -> None:
        """Text into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def size(self, width: int, height: int = 900) -> None:
        """The size of the window."""
        mobile = width < 600
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )

    async def prefer(self, scheme: str) -> None:
        """Light or dark, as the reader's system says."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def picture(self, path: Path, *, whole: bool = True) -> None:
        """A screenshot."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    async def _read(self) -> None:
        async for message in self._socket:
            value = message.json()
            waiting = self._waiting.pop(value.get("id", 0), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(value)
            parameters = value.get("params", {})
            match value.get("method"):
                case "Page.loadEventFired":
                    self._loaded.set()
                case "Network.requestWillBeSent":
                    self.requests.append(parameters["request"]["url"])
                case "Log.entryAdded":
                    self.messages.append(parameters["entry"]["text"])
                case "Runtime.exceptionThrown":
                    self.messages.append(str(parameters["exceptionDetails"]))


class Browser:
    """A running browser."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._address = address

    @asynccontextmanager
    async def tab(self, *, scripts: bool = True) -> AsyncIterator[Tab]:
        """A new tab; without `scripts` as for a reader who has switched them off."""
        async with self._session.put(f"http://{self._address}/json/new?about:blank") as response:
            target = await response.json()
        async with self._session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            tab = Tab(socket)
            for domain in ("Page", "Network", "Log", "Runtime"):
                await tab.call(f"{domain}.enable")
            if not scripts:
                await tab.call("Emulation.setScriptExecutionDisabled", value=True)
            try:
                yield tab
            finally:
                tab._reader.cancel()
                with suppress(asyncio.CancelledError):
                    await tab._reader
        async with self._session.get(f"http://{self._address}/json/close/{target['id']}") as response:
            await response.read()


@asynccontextmanager
async def start_chromium(executable: str) -> AsyncIterator[Browser]:
    """A browser with a profile of its own, gone in the end."""
    profile = Path(tempfile.mkdtemp(prefix="lmstrix-chromium-"))
    process = await asyncio.create_subprocess_exec(
        executable,
        *FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        env={**os.environ, "HOME": str(profile), "XDG_CONFIG_HOME": str(profile), "XDG_CACHE_HOME": str(profile)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        address = await asyncio.wait_for(_devtools_address(process.stderr), START_S)
        drain = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as session:
            yield Browser(session, address)
            with suppress(aiohttp.ClientError, asyncio.TimeoutError):
                async with session.get(f"http://{address}/json/version") as response:
                    socket = (await response.json())["webSocketDebuggerUrl"]
                async with session.ws_connect(socket) as connection:
                    await connection.send_json({"id": 1, "method": "Browser.close"})
                    await asyncio.wait_for(process.wait(), 10)
        await drain
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _devtools_address(stderr: asyncio.StreamReader) -> str:
    while line := (await stderr.readline()).decode("utf-8", "replace"):
        if "DevTools listening on ws://" in line:
            return line.split("ws://")[1].split("/")[0]
    raise AssertionError("chromium ended before it listened")
