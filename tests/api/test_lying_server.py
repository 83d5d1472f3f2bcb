"""A server that sends what no server should, or never stops sending: every wait ends, and says so."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.api.discovery import find_server
from lmstrix.api.portal import Portal
from lmstrix.core.answers.streaming import StreamingManager
from lmstrix.ground import errors
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import Deadlines, GenerationRequest
from tests.api.conftest import SHORT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.faulty_server import FaultyServer

NO_OBJECTS = ["null", "5", "[]", '"text"', "true"]
CONFIG = LoadConfig(context_length=100)


@pytest.mark.parametrize("frame", NO_OBJECTS)
async def test_a_frame_that_is_no_object_ends_the_wait(
    frame: str, backend: AsyncLMStudioBackend, server: FaultyServer
) -> None:
    server.faults.frames["listLoaded"] = frame
    with pytest.raises(errors.BackendUnavailableError):
        await backend.list_loaded()
    server.faults.frames.clear()
    assert await backend.list_loaded() == []  # over a new connection


@pytest.mark.parametrize("frame", NO_OBJECTS)
async def test_a_frame_that_is_no_object_ends_a_load_and_an_answer(
    frame: str, backend: AsyncLMStudioBackend, server: FaultyServer
) -> None:
    server.faults.frames["loadModel"] = frame
    with pytest.raises(errors.BackendUnavailableError):
        await backend.load("acme/tiny", CONFIG, instance_id="mine")
    server.faults.frames.clear()
    await backend.load("acme/tiny", CONFIG, instance_id="mine")
    server.faults.frames["predict"] = frame
    with pytest.raises(errors.BackendUnavailableError):
        await StreamingManager(backend).result("mine", GenerationRequest(raw_prompt="2+3="))


async def test_progress_without_end_is_no_reason_to_wait_longer(server: FaultyServer) -> None:
    server.faults.load = "drip"
    async with asyncio.timeout(10), AsyncLMStudioBackend(server.info, deadlines=Deadlines(load_s=0.3)) as backend:
        with pytest.raises(errors.LoadTimeoutError):
            await backend.load("acme/tiny", CONFIG, instance_id="mine")
    assert server.cancelled == ["loadModel"]


async def test_a_greeting_that_drips_is_none(server: FaultyServer, home: Path) -> None:
    server.faults.greeting = "drip"
    async with asyncio.timeout(10):
        with pytest.raises(errors.BackendUnavailableError, match="did not answer"):
            await find_server(server.address, timeout_s=0.2)


async def test_closing_ends_though_the_sdk_does_not(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmstudio.async_api import _AsyncSession

    let_go = asyncio.Event()

    async def never(self: object) -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(10):
        backend = AsyncLMStudioBackend(server.info, deadlines=SHORT)
        await backend.list_loaded()
        monkeypatch.setattr(_AsyncSession, "disconnect", never)
        await backend.close()
        let_go.set()


async def test_closing_does_not_wait_for_a_deaf_load(server: FaultyServer) -> None:
    server.faults.load = "deaf"
    async with asyncio.timeout(10):
        backend = AsyncLMStudioBackend(server.info, deadlines=Deadlines(load_s=0.1))
        with pytest.raises(errors.LoadTimeoutError):
            await backend.load("acme/tiny", CONFIG, instance_id="mine")
        server.faults.mute.add("listLoaded")  # not even the question what came of it is answered
        await backend.close()


def test_a_worker_thread_that_hangs_does_not_hold_up_the_end() -> None:
    portal, let_go, begun = Portal(), threading.Event(), threading.Event()

    def hang() -> bool:
        begun.set()
        assert threading.current_thread().daemon
        return let_go.wait(20)

    async def steps() -> None:
        async with asyncio.timeout(0.1):
            await asyncio.to_thread(hang)

    with pytest.raises(TimeoutError):
        portal.run(steps())
    assert begun.is_set()
    portal.close()
    let_go.set()


def test_worker_threads_hand_back_what_they_return_and_raise() -> None:
    portal = Portal()
    assert portal.run(asyncio.to_thread(str.upper, "a")) == "A"
    with pytest.raises(ZeroDivisionError):
        portal.run(asyncio.to_thread(divmod, 1, 0))
    portal.close()
