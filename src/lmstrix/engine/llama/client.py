"""HTTP to one child's llama.cpp server: requests that answer at once, and streams of server-sent events.

Every request has a connection of its own. llama.cpp closes idle connections on its side, and a request that meets such
a closing one fails; connecting to a unix socket costs less than finding out.
"""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_EVENT_END = b"\n\n"
_DATA = b"data: "
_DONE = b"[DONE]"
_NO_MEMORY = "std::bad_alloc"
_PIECE_CHARACTERS = 2**20
"""As many are encoded at once: everything else in this process waits for 6 ms."""

JsonObject = dict[str, Any]


class LlamaRefusalError(Exception):
    """llama.cpp answered with an error. `code` is its HTTP status, `kind` its own word for it, `body` all of it."""

    def __init__(self, code: int, body: Mapping[str, Any]) -> None:
        self.code = code
        self.kind = str(body.get("type", "unknown"))
        message = str(body.get("message", "no reason given"))
        self.message = (
            f"insufficient memory for a request of this length ({message})" if message == _NO_MEMORY else message
        )
        self.body = body
        super().__init__(self.message)


class LlamaGoneError(Exception):
    """The connection was refused or broke: the process is ending, or has ended."""


class LlamaClient:
    """Requests to the server at `address`, as xllamacpp reports it: unix:///path or http://host:port."""

    def __init__(self, address: str, *, api_key: str | None = None) -> None:
        connector: aiohttp.BaseConnector
        if address.startswith("unix://"):
            # No limit on connections: requests queue for llama.cpp's slots, not for a way to reach it.
            connector = aiohttp.UnixConnector(path=address.removeprefix("unix://"), limit=0, force_close=True)
            base_url = "http://llama"
        else:
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            base_url = address
        self._session = aiohttp.ClientSession(
            base_url=base_url,
            connector=connector,
            # A long prompt is silent for minutes; only connecting has a time by which it must be done.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            # Large enough that a slow reader of ours rarely makes llama.cpp wait with a full socket.
            read_bufsize=2**20,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Drop every connection; llama.cpp stops what it does for them."""
        await self._session.close()

    async def get(self, path: str) -> Any:
        """What a GET answers, parsed."""
        return await self._request("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """What a POST of `body` answers, parsed."""
        return await self._request("POST", path, body)

    async def post_text(self, path: str, body: Mapping[str, Any]) -> bytes:
        """What a POST of `body` answers, as it came: for answers too long to be parsed without need."""
        status, raw = await self._exchange("POST", path, body)
        if status != 200:
            _parsed(status, raw)
        return raw

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        return _parsed(*await self._exchange(method, path, body))

    async def _exchange(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        data = None if body is None else await _encoded(body)
        try:
            self._check_open()
            async with self._session.request(method, path, data=data) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, OSError) as exc:
            raise LlamaGoneError(str(exc)) from exc

    def _check_open(self) -> None:
        if self._session.closed:
            raise ConnectionError("the model's connections are closed")

    @asynccontextmanager
    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[list[JsonObject]]]:
        """The events answering a POST, in batches of what had arrived; leaving the context stops llama.cpp."""
        try:
            self._check_open()
            response = await self._session.post(path, data=await _encoded(body))
        except (aiohttp.ClientError, OSError) as exc:
            raise LlamaGoneError(str(exc)) from exc
        try:
            if response.status != 200:
                _parsed(response.status, await response.read())
            yield _event_batches(response)
        except (aiohttp.ClientError, OSError) as exc:
            raise LlamaGoneError(str(exc)) from exc
        finally:
            # Closing before the end is how llama.cpp learns to stop generating.
            response.close()


async def _encoded(body: Mapping[str, Any]) -> bytes | io.BytesIO:
    """`body` as JSON. A long text in it is encoded and sent piece by piece, others having their turn in between."""
    encoded = bytearray(b"{")
    for name, value in body.items():
        if len(encoded) > 1:
            encoded += b","
        encoded += json.dumps(name).encode() + b":"
        if not isinstance(value, str) or len(value) <= _PIECE_CHARACTERS:
            encoded += json.dumps(value).encode()
            continue
        encoded += b'"'
        for start in range(0, len(value), _PIECE_CHARACTERS):
            encoded += json.dumps(value[start : start + _PIECE_CHARACTERS])[1:-1].encode()
            await asyncio.sleep(0)
        encoded += b'"'
    encoded += b"}"
    return bytes(encoded) if len(encoded) <= _PIECE_CHARACTERS else io.BytesIO(encoded)


def _parsed(status: int, raw: bytes) -> Any:
    try:
        body = json.loads(raw)
    except ValueError as exc:
        # Its HTTP library tells its own errors in plain text.
        raise LlamaRefusalError(status, {"message": raw[:500].decode(errors="replace")}) from exc
    if status != 200 or (isinstance(body, dict) and "error" in body):
        error = body.get("error", body) if isinstance(body, dict) else {}
        raise LlamaRefusalError(status, error if isinstance(error, dict) else {"message": str(error)})
    return body


async def _event_batches(response: aiohttp.ClientResponse) -> AsyncIterator[list[JsonObject]]:
    """Split the stream at blank lines; comment lines (pings) carry nothing and are dropped."""
    rest = b""
    async for chunk in response.content.iter_any():
        # A chunk may end anywhere, also in the middle of a character; only whole events are decoded.
        *events, rest = (rest + chunk).split(_EVENT_END)
        batch = [json.loads(event[len(_DATA) :]) for event in events if _carries_json(event)]
        for event in batch:
            if "error" in event:
                raise LlamaRefusalError(int(event["error"].get("code", 500)), event["error"])
        if batch:
            yield batch


def _carries_json(event: bytes) -> bool:
    return event.startswith(_DATA) and not event.startswith(_DONE, len(_DATA))
