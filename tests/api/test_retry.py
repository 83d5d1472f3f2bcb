"""What is asked again, how often and for how long; and what never is."""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.api import retry
from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.api.discovery import find_server
from lmstrix.api.openai import AsyncOpenAIBackend
from lmstrix.api.rest import fetch_capabilities
from lmstrix.api.retry import RetryLimits, with_retries
from lmstrix.core.answers.streaming import StreamingManager
from lmstrix.ground.access import ServerAccess
from lmstrix.ground.errors import BackendUnavailableError
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.paths import Paths
from lmstrix.ground.types import Deadlines, GenerationRequest, ServerInfo
from tests.support.faulty_server import closed_port

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from tests.support.faulty_server import FaultyServer

ATTEMPTS = RetryLimits().attempts
MODELS = '{"models":[{"key":"acme/tiny"}]}'


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks again does so for ever."""
    monkeypatch.setattr(retry, "LIMITS", RetryLimits(attempts=1_000_000_000))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(home=tmp_path, models_dir=tmp_path, lmstudio_home=None)


LISTINGS: dict[str, Callable[[AsyncLMStudioBackend], Coroutine[Any, Any, object]]] = {
    "listDownloadedModels": AsyncLMStudioBackend.list_downloaded,
    "listLoaded": AsyncLMStudioBackend.list_loaded,
}


@pytest.mark.parametrize("endpoint", LISTINGS)
async def test_a_listing_whose_connection_breaks_is_asked_again(
    backend: AsyncLMStudioBackend, server: FaultyServer, endpoint: str
) -> None:
    server.faults.cuts[endpoint] = 1
    assert isinstance(await LISTINGS[endpoint](backend), list)
    assert server.endpoints().count(endpoint) == (2 if endpoint == "listDownloadedModels" else 3)  # of both kinds


@pytest.mark.parametrize("endpoint", LISTINGS)
async def test_a_listing_that_keeps_breaking_ends(
    backend: AsyncLMStudioBackend, server: FaultyServer, endpoint: str
) -> None:
    server.faults.cuts[endpoint] = inf
    with pytest.raises(BackendUnavailableError, match="was lost while it was asked to list its"):
        await LISTINGS[endpoint](backend)
    assert ATTEMPTS <= server.endpoints().count(endpoint) <= 2 * ATTEMPTS


@pytest.mark.usefixtures("endless")
async def test_the_deadline_of_the_caller_ends_it_too(server: FaultyServer) -> None:
    server.faults.cuts["listDownloadedModels"] = inf
    backend = AsyncLMStudioBackend(server.info, deadlines=Deadlines(request_s=0.5))
    began_at = time.perf_counter()
    with pytest.raises(BackendUnavailableError, match="was lost"):
        await backend.list_downloaded()
    assert 0.4 < time.perf_counter() - began_at < 5
    await backend.close()


@pytest.mark.parametrize("place", ["/system", "auth"])
async def test_connecting_is_tried_again(backend: AsyncLMStudioBackend, server: FaultyServer, place: str) -> None:
    server.faults.cuts[place] = 1
    await backend.list_downloaded()
    assert server.paths["/system"] == 2


@pytest.mark.parametrize("place", ["/system", "auth"])
async def test_a_server_that_never_lets_anybody_in(
    backend: AsyncLMStudioBackend, server: FaultyServer, place: str
) -> None:
    server.faults.cuts[place] = inf
    with pytest.raises(BackendUnavailableError):
        await backend.list_downloaded()
    assert server.paths["/system"] == ATTEMPTS


@pytest.mark.usefixtures("endless")
async def test_what_may_have_happened_is_asked_once(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    await backend.load("acme/tiny", LoadConfig(context_length=1000), instance_id="mine")
    streaming = StreamingManager(backend)
    asked: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "predict": lambda: streaming.result("mine", GenerationRequest(raw_prompt="2+3=")),
        "loadModel": lambda: backend.load("acme/tiny", LoadConfig(context_length=1000), instance_id="other"),
        "unloadModel": lambda: backend.unload("mine"),
    }
    for endpoint, ask in asked.items():
        before = server.endpoints().count(endpoint)
        server.faults.cuts[endpoint] = inf
        with pytest.raises(BackendUnavailableError, match="was lost"):
            await ask()
        assert server.endpoints().count(endpoint) == before + 1


async def test_a_rest_page_whose_connection_breaks_is_asked_again(server: FaultyServer) -> None:
    server.faults.pages["/api/v1/models"] = (200, MODELS)
    server.faults.cuts["/api/v1/models"] = ATTEMPTS - 1
    assert list(await fetch_capabilities(server.info)) == ["acme/tiny"]
    server.faults.cuts["/api/v1/models"] = inf
    with pytest.raises(BackendUnavailableError):
        await fetch_capabilities(server.info)
    assert server.paths["/api/v1/models"] == 2 * ATTEMPTS


async def test_how_often_is_the_users_to_say(server: FaultyServer) -> None:
    server.faults.pages["/api/v1/models"] = (200, MODELS)
    server.faults.cuts["/api/v1/models"] = 1
    with pytest.raises(BackendUnavailableError):
        await fetch_capabilities(server.info, access=ServerAccess(retries=0))
    assert server.paths["/api/v1/models"] == 1
    server.faults.cuts["/api/v1/models"] = ATTEMPTS + 1
    assert list(await fetch_capabilities(server.info, access=ServerAccess(retries=ATTEMPTS + 1))) == ["acme/tiny"]


async def test_so_is_the_listing_of_an_openai_server(server: FaultyServer) -> None:
    server.faults.pages["/v1/models"] = (200, '{"data":[{"id":"tiny"}]}')
    server.faults.cuts["/v1/models"] = 1
    backend = AsyncOpenAIBackend(f"http://{server.address}")
    assert await backend.list_models() == ["tiny"]
    server.faults.pages["/v1/models"] = (503, '{"error":{"message":"Loading model"}}')
    with pytest.raises(BackendUnavailableError, match=r"is not ready \(Loading model\)"):
        await backend.list_models()
    assert server.paths["/v1/models"] == 2 + ATTEMPTS
    await backend.close()


async def test_a_greeting_that_breaks_off_is_asked_again(server: FaultyServer, paths: Paths) -> None:
    server.faults.cuts["/lmstudio-greeting"] = 1
    assert (await find_server(server.address, paths=paths, environ={})).address == server.address
    server.faults.cuts["/lmstudio-greeting"] = inf
    with pytest.raises(BackendUnavailableError, match="is another program"):
        await find_server(server.address, paths=paths, environ={})
    assert server.paths["/lmstudio-greeting"] == 2 + ATTEMPTS


@pytest.mark.usefixtures("endless")
async def test_where_nobody_listens_nobody_is_asked_twice(paths: Paths) -> None:
    address = f"127.0.0.1:{closed_port()}"
    backend, openai = (
        AsyncLMStudioBackend(ServerInfo(address=address, engine="lmstudio"), deadlines=Deadlines(connect_s=None)),
        AsyncOpenAIBackend(f"http://{address}"),
    )
    asked: list[Callable[[], Coroutine[Any, Any, object]]] = [
        backend.connect,
        openai.list_models,
        lambda: fetch_capabilities(ServerInfo(address=address, engine="lmstudio"), timeout_s=None),
        lambda: find_server(address, paths=paths, environ={}, timeout_s=1e6),
    ]
    for ask in asked:
        async with asyncio.timeout(5):
            with pytest.raises(BackendUnavailableError):
                await ask()
    await asyncio.gather(backend.close(), openai.close())


async def test_the_failure_that_is_known_beats_the_time_that_ran_out() -> None:
    attempts = 0

    async def attempt() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ConnectionResetError("broken")
        await asyncio.sleep(60)

    with pytest.raises(ConnectionResetError, match="broken"):
        await with_retries(attempt, passes=lambda exc: isinstance(exc, ConnectionError), limit_s=0.3)
    attempts = 1
    with pytest.raises(TimeoutError):
        await with_retries(attempt, passes=lambda exc: isinstance(exc, ConnectionError), limit_s=0.05)
