"""Connections that never get to the point: they end in time, say why, and keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from typing import TYPE_CHECKING

import aiohttp
import httpx
import pytest

from lmstrix.engine import EmbeddedEngine
from lmstrix.engine.connections import ConnectionLimits, Connections
from lmstrix.engine.protocol import session
from tests.engine.conftest import SCRIPTED
from tests.engine.raw_client import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from lmstrix.engine.records import LogEvent

HURRIED = ConnectionLimits(
    header_s=0.3,
    idle_s=0.3,
    body_grace_s=0.3,
    body_bytes_per_second=1000,
    handshake_bytes=2000,
    most=8,
)
HALF_A_HEADER = b"GET /lmstudio-greeting HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
GREETING = b"GET /lmstudio-greeting HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
UPGRADE = (
    b"GET /llm HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(scope="module")
def log() -> list[LogEvent]:
    """What the hurried engine logged."""
    return []


@pytest.fixture(scope="module")
def hurried(models_dir: Path, log: list[LogEvent]) -> Iterator[EmbeddedEngine]:
    """An engine with little patience and room for few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmstrix.engine.server.Connections", functools.partial(Connections, limits=HURRIED))
        patch.setattr(session, "AUTH_TIMEOUT_S", 0.3)
        with EmbeddedEngine(models_dir, memory_limit=2**30, on_log=log.append) as engine:
            yield engine


class RawConnection:
    """A socket that says what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> bytes:
        """All that comes until the other side closes."""
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                return await self._reader.read()
        return b""

    async def some(self) -> bytes:
        """The next answer whole; its header and body may come apart."""
        async with asyncio.timeout(30):
            header = await self._reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", header)
            return header + (await self._reader.readexactly(int(length[1])) if length else b"")


@contextlib.asynccontextmanager
async def opened(engine: EmbeddedEngine, data: bytes = b"") -> AsyncIterator[RawConnection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
    connection = RawConnection(reader, writer)
    connection.say(data)
    try:
        yield connection
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def reason_in(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"])


class TestTimes:
    async def test_half_a_header(self, hurried: EmbeddedEngine) -> None:
        async with opened(hurried, HALF_A_HEADER) as connection:
            answer = await connection.answer()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert reason_in(answer) == "The request's header was not complete after 0.3 s."

    async def test_a_header_in_drops(self, hurried: EmbeddedEngine) -> None:
        async with opened(hurried, HALF_A_HEADER) as connection:

            async def drip() -> None:
                while True:
                    connection.say(b"x")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            answer = await connection.answer()
            dripping.cancel()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")

    async def test_not_a_word(self, hurried: EmbeddedEngine) -> None:
        async with opened(hurried) as connection:
            assert await connection.answer() == b""

    async def test_nothing_after_an_answer(self, hurried: EmbeddedEngine) -> None:
        async with opened(hurried, GREETING) as connection:
            assert b"200 OK" in await connection.some()
            # While it is kept open, a further request is as good as the first.
            connection.say(GREETING)
            assert b"200 OK" in await connection.some()
            assert await connection.answer() == b""

    async def test_half_a_header_after_an_answer(self, hurried: EmbeddedEngine) -> None:
        async with opened(hurried, GREETING) as connection:
            assert b"200 OK" in await connection.some()
            connection.say(HALF_A_HEADER)
            assert (await connection.answer()).startswith(b"HTTP/1.1 408")

    @pytest.mark.parametrize(
        "framing", [b"Content-Length: 100000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"]
    )
    async def test_a_body_in_drops(self, hurried: EmbeddedEngine, framing: bytes) -> None:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        async with opened(hurried, head + framing) as connection:
            answer = await connection.answer()
        assert answer.startswith(b"HTTP/1.1 408")
        assert "body came too slowly" in reason_in(answer)

    async def test_a_steady_body_takes_its_time(self, hurried: EmbeddedEngine) -> None:
        prompt = json.dumps({"model": SCRIPTED, "prompt": "2+3=", "max_tokens": 1, "user": "x" * 6000}).encode()

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(prompt), 1000):
                yield prompt[start : start + 1000]
                await asyncio.sleep(0.15)

        async with httpx.AsyncClient(base_url=f"http://{hurried.address}", timeout=30) as client:
            assert (await client.post("/v1/completions", content=pieces())).status_code == 200

    async def test_an_upgrade_that_never_authenticates(self, hurried: EmbeddedEngine) -> None:
        async with opened(hurried, UPGRADE) as connection:
            answer = await connection.answer()
        assert b"101 Switching Protocols" in answer
        assert b"No authentication frame came within 0.3 s" in answer

    async def test_too_much_before_authentication(self, hurried: EmbeddedEngine) -> None:
        async with aiohttp.ClientSession() as client, client.ws_connect(f"ws://{hurried.address}/llm") as socket:
            with contextlib.suppress(ConnectionError):
                await socket.send_str("x" * 4000)
            async with asyncio.timeout(30):
                assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)

    async def test_an_authenticated_client_may_be_silent(self, hurried: EmbeddedEngine) -> None:
        async with connected(hurried.address, "llm") as client:
            await asyncio.sleep(1)
            assert (await client.rpc("listLoaded"))["type"] == "rpcResult"

    async def test_an_answer_takes_the_time_it_takes(self, hurried: EmbeddedEngine) -> None:
        body = {"model": SCRIPTED, "messages": [{"role": "user", "content": "a story"}], "max_tokens": 400}
        async with httpx.AsyncClient(base_url=f"http://{hurried.address}", timeout=30) as client:
            answer = await client.post("/v1/chat/completions", json={**body, "stream": True})
            assert answer.text.endswith("data: [DONE]\n\n")


class TestNumbers:
    async def test_a_flood_keeps_nobody_out(self, models_dir: Path, log: list[LogEvent]) -> None:
        limits = ConnectionLimits(most=8)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lmstrix.engine.server.Connections", functools.partial(Connections, limits=limits))
            with EmbeddedEngine(models_dir, on_log=log.append) as engine:
                async with contextlib.AsyncExitStack() as stack:
                    settled = await stack.enter_async_context(connected(engine.address, "llm"))
                    first = await stack.enter_async_context(opened(engine, HALF_A_HEADER))
                    flood = [await stack.enter_async_context(opened(engine, HALF_A_HEADER)) for _ in range(20)]
                    async with httpx.AsyncClient() as client:
                        answer = await client.get(f"http://{engine.address}/lmstudio-greeting", timeout=30)
                    assert answer.json() == {"lmstudio": True}
                    # The longest to have kept us waiting made room, and was told; who has a session was not asked.
                    told = await first.answer()
                    assert told == b"" or "too many connections" in reason_in(told)
                    assert (await settled.rpc("listLoaded"))["type"] == "rpcResult"
                    del flood
        lines = [event.text for event in log if "that may be open are" in event.text]
        assert lines == ["all 8 that may be open are: those that ask for nothing make room"]

    async def test_where_all_are_at_work_a_newcomer_is_told(self, models_dir: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            limits = ConnectionLimits(most=2)
            patch.setattr("lmstrix.engine.server.Connections", functools.partial(Connections, limits=limits))
            with EmbeddedEngine(models_dir) as engine:
                async with connected(engine.address, "llm"), connected(engine.address, "system"):
                    async with opened(engine) as third:
                        answer = await third.answer()
                    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable")
                    assert reason_in(answer) == "There are too many connections: try again later."
                async with asyncio.timeout(30):
                    while not (await _greets(engine)):
                        await asyncio.sleep(0.01)


async def _greets(engine: EmbeddedEngine) -> bool:
    async with opened(engine, GREETING) as connection:
        return b"200 OK" in await connection.some()


def test_limits_leave_files_for_models() -> None:
    assert 0 < Connections(lambda _: None).limits.most <= 1000
