"""What is read around a load: the server's own figures before differences of free memory, which must be large."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.core.context.attempts import HeldLoad, LoadAttempts
from lmstrix.core.context.logbook import Logbook
from lmstrix.core.context.report import ContextTestOptions, Subject
from lmstrix.core.history import History
from lmstrix.core.history.conditions import UNKNOWN, Conditions
from lmstrix.core.registry.results import Configuration
from lmstrix.ground.types import InstanceMemory, ServerMemory
from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB, GIB = 2**20, 2**30


class TellingBackend(AsyncLMStudioBackend):
    """A server that says what it takes, as our engine does."""

    taken: InstanceMemory | None = None
    free: ServerMemory | None = None

    async def memory(self) -> ServerMemory | None:
        return self.free

    async def instance_memory(self, instance_id: str) -> InstanceMemory | None:
        return self.taken


async def unknown_conditions() -> Conditions:
    return UNKNOWN


def instance_of(memory_bytes: int) -> InstanceMemory:
    return InstanceMemory(
        memory_bytes=memory_bytes,
        limited_by="control group",
        weights_bytes=1,
        kv_cache_bytes=1,
        recurrent_state_bytes=0,
        compute_buffer_bytes=1,
        resident_bytes=memory_bytes - 10 * MIB,
        peak_resident_bytes=1,
    )


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer(FaultyModel(declared=8192)) as running:
        yield running


async def load(
    server: FaultyServer,
    folder: Path,
    *,
    cost_bytes: int,
    free: list[int],
    taken: InstanceMemory | None = None,
    told: ServerMemory | None = None,
) -> tuple[HeldLoad, InstanceMemory | None]:
    """Load 2,048 tokens while the host says `free`, one after the other; what was seen, and what is seen later."""
    key = next(iter(server.models.values())).key
    backend = TellingBackend(server.info)
    backend.taken, backend.free = taken, told
    subject = Subject(
        model_key=key,
        path=f"{key}.gguf",
        declared=8192,
        ceiling=8192,
        cost=lambda _: cost_bytes,
        budget_bytes=None,
        configuration=Configuration(),
    )
    with History(folder / "history.db") as history:
        run_id = history.journal.begin_run("test")
        attempts = LoadAttempts(
            backend,
            Logbook(history.journal, run_id, subject, lambda _: None),
            subject,
            ContextTestOptions(),
            new_instance_id=lambda: "lmstrix-one",
            read_memory=lambda: free.pop(0) if free else None,
            read_conditions=unknown_conditions,
        )
        await attempts.load(2048)
        assert attempts.latest is not None
        if taken is not None:
            backend.taken = replace(taken, memory_bytes=taken.memory_bytes + MIB)
        later = await attempts.read_instance()
        await attempts.release()
        assert await attempts.read_instance() is None
    await backend.close()
    return attempts.latest, later


async def test_the_servers_own_figures_are_exact_however_small(server: FaultyServer, tmp_path: Path) -> None:
    told = ServerMemory(
        available_bytes=200 * MIB,
        limited_by="memory limit",
        machine_bytes=300 * MIB,
        machine_limited_by="control group",
        boot_id="b",
    )
    held, later = await load(
        server, tmp_path, cost_bytes=90 * MIB, free=[9 * GIB], taken=instance_of(80 * MIB), told=told
    )
    # Of what it takes, 10 MiB are still to be touched.
    assert (held.memory_bytes, held.exact, held.free_bytes) == (80 * MIB, True, 290 * MIB)
    assert held.seconds > 0
    # After a prefill the peak is read anew.
    assert later is not None
    assert later.memory_bytes == 81 * MIB


async def test_differences_of_free_memory_are_read_around_large_loads(server: FaultyServer, tmp_path: Path) -> None:
    held, later = await load(server, tmp_path, cost_bytes=4 * GIB, free=[9 * GIB, 5 * GIB])
    assert (held.memory_bytes, held.exact, held.free_bytes) == (4 * GIB, False, 5 * GIB)
    assert later is None


async def test_small_differences_and_mapped_weights_say_nothing(server: FaultyServer, tmp_path: Path) -> None:
    small, _ = await load(server, tmp_path, cost_bytes=GIB, free=[5 * GIB])
    assert (small.memory_bytes, small.exact, small.free_bytes) == (None, False, 5 * GIB)
    mapped, _ = await load(server, tmp_path, cost_bytes=4 * GIB, free=[9 * GIB, 8 * GIB])
    assert (mapped.memory_bytes, mapped.free_bytes) == (None, 8 * GIB)


async def test_where_nobody_says_anything_nothing_is_known(server: FaultyServer, tmp_path: Path) -> None:
    held, _ = await load(server, tmp_path, cost_bytes=4 * GIB, free=[])
    assert (held.memory_bytes, held.exact, held.free_bytes) == (None, False, None)
