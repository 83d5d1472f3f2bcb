"""`monitor`: looks at a server again and again, without loading, unloading or disturbing anything.

An engine of ours is asked once per look, LM Studio for what it lists as loaded. Whatever does not answer in time is
left out of that look: a server that hangs or goes away is said, and asked again; memory and cards are read in threads.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from lmstrix.api.activity import server_activity
from lmstrix.core.benchmark.energy import LEAST_PERIODS
from lmstrix.core.benchmark.power import PowerSampler
from lmstrix.core.benchmark.power_sources import open_power_sources
from lmstrix.core.memory.cards import Cards, read_cards
from lmstrix.core.memory.host import HostMemory, read_host_memory
from lmstrix.core.monitoring import (
    MachineReading,
    MeanPower,
    MonitorSnapshot,
    reading_of_engine,
    reading_of_listing,
)
from lmstrix.ground.access import access_to
from lmstrix.ground.addresses import local_port
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.tasks import within
from lmstrix.ground.text import one_line
from lmstrix.service.connection import Connection, connect_running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import psutil

    from lmstrix.core.benchmark.power import PowerSource
    from lmstrix.core.monitoring import ServerReading
    from lmstrix.ground.activity import ServerActivity
    from lmstrix.service.workspace import Workspace

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorLimits:
    """How long to wait, and how often to ask what is costly to read."""

    server_s: float = 3.0
    """For all that a look asks: an engine takes milliseconds, an old LM Studio leaves one question open for 1 s."""
    machine_s: float = 0.5
    """For memory and cards, which are read on while the last reading is shown."""
    cards_every_s: float = 2.0
    """Where NVML is missing, nvidia-smi is started for it."""
    processes_every_s: float = 10.0
    """Finding who listens on a port asks every process of the machine, which takes 50 ms with 100 of them."""
    power_period_s: float = 0.2


LIMITS: Final = MonitorLimits()


class Monitoring:
    """A look at the server in use with each `read`; `open` it first, and `close` it. `interval_s` is between looks."""

    def __init__(self, workspace: Workspace, interval_s: float, limits: MonitorLimits = LIMITS) -> None:
        self._workspace = workspace
        self._interval_s = interval_s
        self._limits = limits
        self._connection: Connection | None = None
        self._name = ""
        self._port: int | None = None
        self._tells_work = True
        self._before: ServerActivity | None = None
        self._lost_at: float | None = None
        self._open = ExitStack()
        self._sources: list[PowerSource] = []
        self._power: PowerSampler | None = None
        self._memory = _Reading(lambda: read_host_memory(with_gpus=False), every_s=0.0)
        self._cards = _Reading(read_cards, every_s=limits.cards_every_s)
        self._processes = _Reading(self._engine_processes, every_s=limits.processes_every_s)

    async def open(self) -> None:
        """Find the server. Raises BackendUnavailableError where there is none."""
        await self._connect()
        if self._port is not None:
            period_s = self._limits.power_period_s
            self._sources = await asyncio.to_thread(open_power_sources, period_s)
            self._power = self._open.enter_context(PowerSampler(self._sources, period_s=period_s))

    async def close(self) -> None:
        """Hang up."""
        self._open.close()
        await self._hang_up()

    async def read(self) -> MonitorSnapshot:
        """What is going on now, as far as it is told in time."""
        began = time.monotonic()
        (reading, problem), machine = await asyncio.gather(self._ask_server(), self._read_machine())
        now = time.monotonic()
        # A server that hangs does so from when it was asked, not from when we gave up.
        self._lost_at = None if problem is None else self._lost_at or began
        return MonitorSnapshot(
            at=datetime.now(UTC),
            server=self._name,
            is_local=self._port is not None,
            reading=reading,
            problem=problem,
            problem_s=0.0 if self._lost_at is None else now - self._lost_at,
            machine=await self._with_engine(machine, reading),
        )

    async def snapshots(self) -> AsyncGenerator[MonitorSnapshot]:
        """A look now and one every interval, until it is closed. Raises BackendUnavailableError as `open` does."""
        try:
            await self.open()
            while True:
                began = time.monotonic()
                yield await self.read()
                # Who takes longer over a look than the interval gets the next one at once, and none that is old.
                await asyncio.sleep(max(0.0, self._interval_s - (time.monotonic() - began)))
        finally:
            await self.close()

    # The server

    async def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = await connect_running(self._workspace.paths, self._workspace.settings)
            self._name = self._connection.name
            self._port = local_port(self._connection.server.address)
            self._tells_work = True
        return self._connection

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        # A server that hangs does not say goodbye either.
        if connection is not None:
            await within(self._limits.machine_s, connection.close())

    async def _ask_server(self) -> tuple[ServerReading | None, str | None]:
        """What the server told, or why it told nothing."""
        try:
            async with asyncio.timeout(self._limits.server_s):
                return await self._server_reading(await self._connect()), None
        except TimeoutError:
            problem = f"no answer within {self._limits.server_s:g} s"
        except (LMStrixError, OSError) as exc:
            problem = one_line(exc)
        self._before = None
        # The next look begins anew: the server may come back at another port, with another version.
        await self._hang_up()
        return None, problem

    async def _server_reading(self, connection: Connection) -> ServerReading:
        if self._tells_work:
            server = connection.server
            access = access_to(self._workspace.settings, server.address)
            told = await server_activity(server, access=access, limit_s=self._limits.server_s)
            if told is not None:
                before, self._before = self._before, told
                return reading_of_engine(before, told)
            self._tells_work = False
        return reading_of_listing(await connection.backend.list_loaded())

    # The machine

    async def _read_machine(self) -> tuple[HostMemory | None, Cards | None]:
        # Of another machine nothing can be read from here, and this one's memory would be taken for its.
        if self._port is None:
            return None, None
        limit_s = self._limits.machine_s
        return await asyncio.gather(self._memory.value(limit_s), self._cards.value(limit_s))

    async def _with_engine(
        self, machine: tuple[HostMemory | None, Cards | None], reading: ServerReading | None
    ) -> MachineReading | None:
        memory, cards = machine
        if memory is None:
            return None
        told = cards or Cards()
        return MachineReading(
            total_bytes=memory.total_bytes,
            available_bytes=memory.available_bytes,
            limited_by=memory.limited_by,
            engine_bytes=await self._engine_bytes(reading),
            cards=told.readable,
            unreadable_cards=told.unreadable,
            power=self._mean_power(),
        )

    async def _engine_bytes(self, reading: ServerReading | None) -> int | None:
        """What the server's processes hold: by its own word, else as this machine sees them."""
        if reading is None or reading.resident_bytes is not None:
            return reading.resident_bytes if reading is not None else None
        from lmstrix.core.memory.footprint import footprint

        processes = await self._processes.value(self._limits.machine_s)
        sizes = [taken.now_bytes for process in processes or () if (taken := footprint(process.pid)) is not None]
        return sum(sizes) if sizes else None

    def _engine_processes(self) -> list[psutil.Process]:
        from lmstrix.core.benchmark.memory_sampler import engine_processes

        return engine_processes(self._port) if self._port is not None else []

    def _mean_power(self) -> tuple[MeanPower, ...]:
        """Watts over the last interval that has readings on both sides; it lies a moment back."""
        power = self._power
        if power is None:
            return ()
        end = time.perf_counter() - power.settling_s
        begin = end - max(self._interval_s, (LEAST_PERIODS + 1) * power.period_s)
        measured = {series.channel: series.power_w(begin, end) for series in power.series(begin - self._interval_s)}
        return tuple(
            MeanPower(channel=f"{source.name}: {channel.name}", power_w=measured.get(channel))
            for source in self._sources
            for channel in source.channels
        )


class _Reading(Generic[_T]):
    """Something that is read in a thread, and may hang there: then the last value stands."""

    def __init__(self, read: Callable[[], _T], *, every_s: float) -> None:
        self._read = read
        self._every_s = every_s
        self._task: asyncio.Task[_T] | None = None
        self._last: _T | None = None
        self._next_at = 0.0

    async def value(self, limit_s: float) -> _T | None:
        """The present value, or after `limit_s` the one before; None while there is none."""
        if self._task is None:
            if time.monotonic() < self._next_at:
                return self._last
            self._task = asyncio.create_task(asyncio.to_thread(self._read))
        done, _ = await asyncio.wait({self._task}, timeout=limit_s)
        if done:
            self._last, self._task = self._task.result(), None
            self._next_at = time.monotonic() + self._every_s
        return self._last
