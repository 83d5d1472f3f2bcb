"""Watching a server: cheaply, through its death and return, past one that hangs, and without touching what it holds."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.engine import EmbeddedEngine
from lmstrix.ground.errors import BackendUnavailableError
from lmstrix.ground.paths import resolve_paths
from lmstrix.ground.settings import Settings
from lmstrix.service import monitoring
from lmstrix.service.monitoring import LIMITS, Monitoring
from lmstrix.service.workspace import Workspace
from tests.engine.pools import SCRIPTED, scripted_models
from tests.support.faulty_server import FaultyServer, closed_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from lmstrix.core.monitoring import MonitorSnapshot

SHORT = replace(LIMITS, server_s=2.0, machine_s=0.5)


@pytest.fixture
async def watch(home: Path) -> AsyncIterator[Callable[[str], Monitoring]]:
    """Makes one for a server at an address, closed at the end."""
    made: list[Monitoring] = []

    def make(address: str) -> Monitoring:
        workspace = Workspace(paths=resolve_paths({"LMSTRIX_HOME": str(home)}), settings=Settings(server=address))
        made.append(Monitoring(workspace, 1.0, SHORT))
        return made[-1]

    async with asyncio.timeout(60):
        yield make
        for each in made:
            await each.close()


async def until(watched: Monitoring, true: Callable[[MonitorSnapshot], bool]) -> MonitorSnapshot:
    """Look until something is seen."""
    async with asyncio.timeout(20):
        while not true(seen := await watched.read()):
            await asyncio.sleep(0.05)
    return seen


async def test_an_engine_that_works(watch: Callable[[str], Monitoring], tmp_path: Path) -> None:
    import httpx

    with EmbeddedEngine(scripted_models(tmp_path / "models")) as engine:
        watched = watch(engine.address)
        await watched.open()
        first = await watched.read()
        assert first.reading is not None
        assert first.reading.models == ()  # and it loads none
        body = {"model": SCRIPTED, "prompt": "2+3=", "max_tokens": 1}
        async with httpx.AsyncClient(base_url=f"http://{engine.address}", timeout=30) as http:
            await http.post("/v1/completions", json=body)
            await watched.read()
            await http.post("/v1/completions", json={**body, "prompt": "story", "max_tokens": 300})
        seen = await watched.read()
        assert seen.reading is not None
        (model,) = seen.reading.models
        assert model.decode_tokens_per_second is not None
        assert model.decode_tokens_per_second > 0
        assert (model.answered, model.waiting, model.running) == (2, 0, 0)
        assert seen.machine is not None
        assert model.memory is not None
        assert (seen.machine.engine_bytes or 0) > model.memory.resident_bytes


async def test_an_engine_that_goes_and_comes_back(watch: Callable[[str], Monitoring], tmp_path: Path) -> None:
    models = scripted_models(tmp_path / "models")
    with EmbeddedEngine(models) as engine:
        port = engine.port
        watched = watch(engine.address)
        await watched.open()
        assert (await watched.read()).problem is None
    gone = await until(watched, lambda seen: seen.problem is not None)
    assert gone.reading is None
    assert gone.machine is not None
    later = await until(watched, lambda seen: seen.problem_s > 0)
    assert later.server == gone.server
    with EmbeddedEngine(models, port=port):
        back = await until(watched, lambda seen: seen.problem is None)
    assert back.reading is not None
    assert back.problem_s == 0.0


async def test_a_server_that_hangs_holds_nothing_up(watch: Callable[[str], Monitoring]) -> None:
    with FaultyServer() as server:
        watched = watch(server.address)
        await watched.open()
        assert (await watched.read()).problem is None
        server.faults.mute = {"listLoaded"}
        seen = await watched.read()
        assert seen.problem is not None
        assert "2 s" in seen.problem
        # It hangs since it was asked, which was so long ago.
        assert seen.problem_s > 1
        server.faults.mute = set()
        back = await until(watched, lambda seen: seen.problem is None)
        assert back.reading is not None
        assert not back.reading.tells_work
        assert {"loadModel", "unloadModel", "getOrLoad"}.isdisjoint(server.endpoints())


async def test_a_reading_of_the_machine_that_hangs(
    watch: Callable[[str], Monitoring], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(monitoring, "read_cards", lambda: release.wait(20))
    with FaultyServer() as server:
        watched = watch(server.address)
        await watched.open()
        try:
            seen = await watched.read()
        finally:
            release.set()
        assert seen.reading is not None
        assert seen.machine is not None
        assert seen.machine.cards == ()


async def test_without_a_server_there_is_nothing_to_watch(watch: Callable[[str], Monitoring]) -> None:
    with pytest.raises(BackendUnavailableError):
        await watch(f"127.0.0.1:{closed_port()}").open()


async def test_an_engine_is_asked_once_per_look(
    watch: Callable[[str], Monitoring], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    asked: list[str] = []
    get = httpx.AsyncClient.get

    async def counted(client: httpx.AsyncClient, url: str) -> httpx.Response:
        asked.append(url)
        return await get(client, url)

    monkeypatch.setattr(AsyncLMStudioBackend, "list_loaded", lambda _self: asked.append("list_loaded"))
    with EmbeddedEngine(scripted_models(tmp_path / "models")) as engine:
        watched = watch(engine.address)
        await watched.open()
        monkeypatch.setattr(httpx.AsyncClient, "get", counted)
        for _ in range(3):
            await watched.read()
    assert asked == ["/api/lmstrix/activity"] * 3
