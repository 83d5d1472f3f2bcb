"""Backends against a FaultyServer; whatever hangs fails after a few seconds instead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.ground.types import Deadlines
from tests.support.faulty_server import FaultyServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SHORT = Deadlines(connect_s=2.0, request_s=2.0, load_s=2.0, first_token_s=2.0, between_tokens_s=2.0)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        running.runtime = True
        yield running


@pytest.fixture
async def backend(server: FaultyServer) -> AsyncIterator[AsyncLMStudioBackend]:
    """An asynchronous backend with short deadlines."""
    async with asyncio.timeout(10):
        opened = AsyncLMStudioBackend(server.info, deadlines=SHORT)
        yield opened
        await opened.close()
