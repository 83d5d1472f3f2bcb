"""One load per model, whoever asks for it, and an instance that stays as long as somebody uses it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, cast

import pytest

from lmstrix.core.answers.shared_loads import SharedLoads
from lmstrix.ground.deadline import Deadline
from lmstrix.ground.errors import OutOfMemoryError, TimeLimitError
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.ground.backend import ModelBackend

CONFIG, LARGER = LoadConfig(context_length=4096), LoadConfig(context_length=8192)


class Server:
    """One model that takes a moment to load, as callers see it who share loads."""

    def __init__(self, *, fails: bool = False, load_s: float = 0.02) -> None:
        self.loaded: list[LoadedModel] = []
        self.unloaded: list[str] = []
        self.tries = 0
        self._fails = fails
        self._load_s = load_s

    def shared(self, locks: Path | None = None, notify: Callable[[str], None] | None = None) -> SharedLoads:
        return SharedLoads(cast("ModelBackend", self), server="here", locks=locks, notify=notify)

    async def unload(self, instance_id: str, *, kind: str) -> None:
        self.loaded = [model for model in self.loaded if model.instance_id != instance_id]
        self.unloaded.append(instance_id)

    async def get(
        self, loads: SharedLoads, config: LoadConfig = CONFIG, deadline: Deadline | None = None
    ) -> tuple[LoadedModel, bool]:
        wanted = config.context_length or 0

        async def find() -> LoadedModel | None:
            await asyncio.sleep(0)
            return next((model for model in self.loaded if model.context_length >= wanted), None)

        async def load() -> LoadedModel:
            self.tries += 1
            await asyncio.sleep(self._load_s)
            if self._fails:
                raise OutOfMemoryError("no room")
            self.loaded.append(instance(f"m-{self.tries}", wanted))
            return self.loaded[-1]

        return await loads.get("m", config, find=find, load=load, deadline=deadline)


def instance(instance_id: str, context_length: int) -> LoadedModel:
    return LoadedModel(
        instance_id=instance_id,
        instance_reference=instance_id,
        model_key="m",
        kind="llm",
        path="p",
        context_length=context_length,
        max_context_length=32768,
    )


async def test_fifty_callers_load_once() -> None:
    server = Server()
    loads = server.shared()
    got = await asyncio.gather(*(server.get(loads) for _ in range(50)))
    assert server.tries == 1
    assert [here for _, here in got].count(True) == 1
    assert {model.instance_id for model, _ in got} == {"m-1"}


async def test_a_load_that_fails_fails_for_all_who_waited_for_it() -> None:
    server = Server(fails=True)
    loads = server.shared()
    got = await asyncio.gather(*(server.get(loads) for _ in range(50)), return_exceptions=True)
    assert server.tries == 1
    assert all(isinstance(outcome, OutOfMemoryError) for outcome in got)
    with pytest.raises(OutOfMemoryError):  # who comes afterwards tries again
        await server.get(loads)
    assert server.tries == 2


async def test_who_wants_another_context_is_not_told_of_a_failure_that_is_not_its_own() -> None:
    server = Server(fails=True)
    loads = server.shared()
    got = await asyncio.gather(server.get(loads, LARGER), server.get(loads), return_exceptions=True)
    assert [type(outcome) for outcome in got] == [OutOfMemoryError] * 2
    assert server.tries == 2


async def test_who_wants_less_than_what_is_being_loaded_uses_that() -> None:
    server = Server()
    loads = server.shared()
    await asyncio.gather(server.get(loads, LARGER), server.get(loads), server.get(loads))
    assert server.tries == 1


async def test_a_caller_that_leaves_does_not_take_the_others_along() -> None:
    server = Server(load_s=0.05)
    loads = server.shared()
    first = asyncio.create_task(server.get(loads))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(server.get(loads)) for _ in range(3)]
    await asyncio.sleep(0.01)
    first.cancel()
    async with asyncio.timeout(5):
        got = await asyncio.gather(*others)
    assert server.tries == 2
    assert len({model.instance_id for model, _ in got}) == 1


async def test_the_time_of_who_waits_counts() -> None:
    server = Server(load_s=60)
    loads = server.shared()
    first = asyncio.create_task(server.get(loads))
    await asyncio.sleep(0.01)
    with pytest.raises(TimeLimitError, match="that another call began"):
        await server.get(loads, deadline=Deadline(0.05))
    first.cancel()


async def test_two_of_one_home_take_turns_and_the_second_is_told(tmp_path: Path) -> None:
    server, notes = Server(load_s=0.2), list[str]()
    mine, others = (server.shared(tmp_path / "locks", notes.append) for _ in range(2))
    async with asyncio.timeout(10):
        got = await asyncio.gather(server.get(mine), server.get(others))
    assert server.tries == 1
    assert {model.instance_id for model, _ in got} == {"m-1"}
    assert notes == ["waiting for another LMStrix that is loading m"]


HOLDER = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


async def test_a_lock_is_free_when_its_holder_dies(tmp_path: Path) -> None:
    server = Server()
    loads = server.shared(tmp_path / "locks")
    await server.get(loads)
    (lock,) = (tmp_path / "locks").iterdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        server.loaded.clear()
        with pytest.raises(TimeLimitError, match="another LMStrix that is loading m"):
            await server.get(loads, deadline=Deadline(0.1))
    finally:
        holder.kill()
        holder.communicate()
    async with asyncio.timeout(10):
        await server.get(loads)
    assert server.tries == 2


async def test_without_a_folder_for_locks_models_are_loaded_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = Server()
    loads = server.shared(tmp_path / "file" / "locks")
    async with asyncio.timeout(10):
        await server.get(loads)
    assert server.tries == 1


async def test_the_last_who_uses_an_instance_unloads_it() -> None:
    server = Server()
    loads = server.shared()
    got = await asyncio.gather(*(server.get(loads) for _ in range(3)))
    ((loaded, _), *_) = got
    assert loads.in_use == {"m-1"}
    for keep in (True, False):
        assert loads.is_shared(loaded)
        await loads.leave(loaded, keep=keep)
        assert server.unloaded == []
    await loads.leave(loaded, keep=True)
    assert server.unloaded == ["m-1"]
    assert loads.in_use == frozenset()


async def test_who_has_it_first_does_not_unload_it_before_those_who_waited_have_it() -> None:
    server = Server()
    loads = server.shared()

    async def use() -> None:
        loaded, here = await server.get(loads)
        await loads.leave(loaded, keep=not here)

    await asyncio.gather(*(use() for _ in range(20)))
    assert (server.tries, server.unloaded) == (1, ["m-1"])


async def test_who_gave_up_waiting_holds_nothing() -> None:
    server = Server(load_s=0.05)
    loads = server.shared()
    first = asyncio.create_task(server.get(loads))
    await asyncio.sleep(0.01)
    with pytest.raises(TimeLimitError):
        await server.get(loads, deadline=Deadline(0.01))
    loaded, _ = await first
    assert not loads.is_shared(loaded)
    await loads.leave(loaded, keep=False)
    assert server.unloaded == ["m-1"]
