"""What is left out of a request is not on the wire, whose token it carries, and what a round trip takes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.api.openai import AsyncOpenAIBackend
from lmstrix.api.round_trip import round_trip_s
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.types import GenerationRequest, Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ASKED = GenerationRequest(messages=(Message(role="user", text="a"),), max_tokens=5, temperature=0.0, seed=7)


@asynccontextmanager
async def listening(bodies: list[dict[str, Any]]) -> AsyncIterator[int]:
    """A server that keeps the bodies of requests and refuses them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            bodies.append(json.loads(await reader.readexactly(length)))
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(20):
            yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_what_is_left_out_is_not_sent() -> None:
    bodies: list[dict[str, Any]] = []
    async with listening(bodies) as port:
        for leave_out in ((), ("seed", "stream_options")):
            backend = AsyncOpenAIBackend(f"http://127.0.0.1:{port}", leave_out=leave_out)
            with pytest.raises(LMStrixError):
                [event async for event in backend.stream("m", ASKED)]
            await backend.close()
    whole, less = bodies
    assert set(whole) - set(less) == {"seed", "stream_options"}
    assert less == {name: value for name, value in whole.items() if name in less}


@pytest.mark.parametrize("name", ["model", "messages", "prompt", "stream"])
def test_what_makes_a_request_cannot_be_left_out(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        AsyncOpenAIBackend("http://127.0.0.1:1", leave_out=(name,))


async def test_a_round_trip_is_measured_where_somebody_listens() -> None:
    async with listening([]) as port:
        assert (await round_trip_s(f"127.0.0.1:{port}") or 0) > 0
    assert await round_trip_s(f"127.0.0.1:{port}") is None
