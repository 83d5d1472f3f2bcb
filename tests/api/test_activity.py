"""What the client learns of a server's work: all of an engine, nothing of another server, and which failure it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.api.activity import server_activity
from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.api.discovery import find_server
from lmstrix.engine import EmbeddedEngine
from lmstrix.ground.access import ServerAccess
from lmstrix.ground.errors import AuthenticationError, BackendTimeoutError, BackendUnavailableError
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import ServerInfo
from tests.engine.pools import SCRIPTED, scripted_models
from tests.support.faulty_server import FaultyServer, closed_port, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "sk-lm-abcdEF12:abcdefghijKLMNOP1234"
ACCESS = ServerAccess(api_token=TOKEN)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    with EmbeddedEngine(scripted_models(tmp_path_factory.mktemp("models")), api_token=TOKEN) as running:
        yield running


async def test_an_engine_tells_what_it_does(engine: EmbeddedEngine) -> None:
    server = await find_server(engine.address)
    async with AsyncLMStudioBackend(server, access=ACCESS) as backend:
        await backend.load(SCRIPTED, LoadConfig(context_length=2048), instance_id="mine", ttl_s=60.0)
        told = await server_activity(server, access=ACCESS, limit_s=10.0)
    assert told is not None
    assert told.resident_bytes > 0
    assert told.loading == ()
    (model,) = told.models
    assert (model.instance_id, model.model_key, model.kind) == ("mine", SCRIPTED, "llm")
    assert (model.context_length, model.ttl_s, model.idle_s, model.requests) == (2048, 60.0, None, ())
    assert model.memory is not None
    assert model.memory.weights_bytes > 0


async def test_a_wrong_token_is_said(engine: EmbeddedEngine) -> None:
    with pytest.raises(AuthenticationError):
        await server_activity(await find_server(engine.address), access=ServerAccess(), limit_s=10.0)


async def test_another_server_is_not_even_asked() -> None:
    with FaultyServer() as server:
        info = ServerInfo(address=server.address, engine="lmstudio")
        assert await server_activity(info, access=ServerAccess(), limit_s=10.0) is None
        assert not server.paths


async def test_an_engine_of_an_earlier_version_tells_nothing() -> None:
    with FaultyServer() as server:
        info = ServerInfo(address=server.address, engine="embedded")
        assert await server_activity(info, access=ServerAccess(), limit_s=10.0) is None


async def test_a_server_that_is_gone() -> None:
    info = ServerInfo(address=f"127.0.0.1:{closed_port()}", engine="embedded")
    with pytest.raises(BackendUnavailableError):
        await server_activity(info, access=ServerAccess(), limit_s=10.0)


async def test_a_server_that_hangs_is_waited_for_no_longer_than_was_said() -> None:
    with listening(None) as address, pytest.raises(BackendTimeoutError):
        await server_activity(ServerInfo(address=address, engine="embedded"), access=ServerAccess(), limit_s=0.2)
