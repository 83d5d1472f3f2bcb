"""What the client learns of memory: from our engine all of it, from any other server nothing, and never an error."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.api.discovery import find_server
from lmstrix.engine import EmbeddedEngine
from lmstrix.ground.access import ServerAccess
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import ServerInfo
from tests.engine.pools import SCRIPTED, scripted_models
from tests.support.faulty_server import closed_port, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 2**30
TOLD = {
    "available_bytes": 1,
    "limited_by": "memory limit",
    "machine_bytes": 2,
    "machine_limited_by": "host",
    "boot_id": "b",
}
TOKEN = "sk-lm-abcdEF12:abcdefghijKLMNOP1234"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    """An engine with a token and a limit."""
    models = scripted_models(tmp_path_factory.mktemp("models"))
    with EmbeddedEngine(models, memory_limit=GIB, api_token=TOKEN) as running:
        yield running


async def test_the_engine_tells_what_models_may_take_and_what_one_takes(engine: EmbeddedEngine) -> None:
    async with (
        asyncio.timeout(60),
        AsyncLMStudioBackend(await find_server(engine.address), access=ServerAccess(api_token=TOKEN)) as backend,
    ):
        before = await backend.memory()
        assert before is not None
        assert (before.available_bytes, before.limited_by) == (GIB, "memory limit")
        name = "lmstrix/of a kind"
        await backend.load(SCRIPTED, LoadConfig(context_length=2048), instance_id=name)
        taken, after = await backend.instance_memory(name), await backend.memory()
        assert taken is not None
        assert after is not None
        assert after.boot_id == before.boot_id
        # The engine charges its limit with what it predicted, and reads what came of it.
        assert taken.memory_bytes == pytest.approx(before.available_bytes - after.available_bytes, rel=0.15)
        assert taken.weights_bytes > 0
        assert taken.kv_cache_bytes > 0
        assert taken.peak_resident_bytes >= taken.resident_bytes > taken.kv_cache_bytes
        await backend.unload(name)
        assert await backend.instance_memory(name) is None
        assert await backend.memory_shortage(name) is None  # it ended, and memory had nothing to do with it
        emptied = await backend.memory()
        assert emptied is not None
        assert emptied.available_bytes == before.available_bytes
        assert emptied.machine_bytes > GIB


async def test_without_its_token_the_engine_tells_nothing(engine: EmbeddedEngine) -> None:
    for path in ("/api/lmstrix/memory", f"/api/lmstrix/memory/instance?instance_id={SCRIPTED}"):
        assert httpx.get(f"http://{engine.address}{path}").status_code == 401
    assert await AsyncLMStudioBackend(await find_server(engine.address)).memory() is None


async def test_lm_studio_is_not_even_asked() -> None:
    with listening(None) as address:  # it would wait for an answer here
        backend = AsyncLMStudioBackend(ServerInfo(address=address, engine="lmstudio"))
        async with asyncio.timeout(2):
            assert await backend.memory() is None
            assert await backend.instance_memory("any") is None
            assert await backend.memory_shortage("any") is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"error": "Unexpected endpoint or method. (GET /api/lmstrix/memory)"}),
        (200, {"error": "Unexpected endpoint"}),
        (200, TOLD | {"available_bytes": -1}),
        (200, TOLD | {"machine_limited_by": "something new"}),
        (200, [1]),
        (200, None),
    ],
)
async def test_an_engine_that_says_it_otherwise_has_said_nothing(status: int, body: Any) -> None:
    content = b"<html>" if body is None else json.dumps(body).encode()
    with listening(_answer(status, content)) as address:
        backend = AsyncLMStudioBackend(ServerInfo(address=address, engine="embedded"))
        assert await backend.memory() is None
        assert await backend.instance_memory("any") is None
        assert await backend.memory_shortage("any") is None


async def test_an_engine_that_is_gone_has_said_nothing() -> None:
    backend = AsyncLMStudioBackend(ServerInfo(address=f"127.0.0.1:{closed_port()}", engine="embedded"))
    assert await backend.memory() is None


def _answer(status: int, content: bytes) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content
