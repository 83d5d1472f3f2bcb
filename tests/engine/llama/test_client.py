"""What is sent to llama.cpp's server and what its answers become, against a server made here."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from lmstrix.engine.llama.client import LlamaClient, LlamaRefusalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MOST_BYTES = 64 * 2**20


@asynccontextmanager
async def answering(status: int = 200, **fields: Any) -> AsyncIterator[tuple[LlamaClient, list[bytes]]]:
    """A client, and the bodies that its server has got."""
    bodies: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.json_response(fields, status=status)

    application = web.Application(client_max_size=MOST_BYTES)
    application.router.add_post("/tokenize", answer)
    async with TestServer(application) as server:
        client = LlamaClient(str(server.make_url("/")))
        try:
            yield client, bodies
        finally:
            await client.close()


@pytest.mark.parametrize(
    "body", [{}, {"content": ""}, {"a": 1, "content": 'é "\n\U0001f600' * 700_000, "b": [None, True]}]
)
async def test_what_is_sent_is_the_body_however_long(body: dict[str, Any]) -> None:
    async with answering() as (client, bodies):
        await client.post("/tokenize", body)
    assert json.loads(bodies[0]) == body


async def test_others_have_their_turn_while_a_long_text_is_encoded() -> None:
    text = "the quick brown fox " * 1_000_000
    turns = itertools.count()
    async with answering() as (client, bodies):
        sending = asyncio.create_task(client.post("/tokenize", {"content": text}))
        while not (bodies or sending.done()):
            next(turns)
            await asyncio.sleep(0)
        await sending
    assert next(turns) >= len(text) // 2**20


async def test_a_request_too_long_for_the_memory_says_so() -> None:
    async with answering(500, error={"code": 500, "message": "std::bad_alloc"}) as (client, _):
        with pytest.raises(LlamaRefusalError, match="insufficient memory for a request of this length"):
            await client.post("/tokenize", {"content": "a long text"})
