"""Runs a benchmark session: visits its cells, saves every record at once, ends with a report whatever happens.

    bench = Bench(BenchServer.of(backend), targets, BenchRequest(runs=6), on_event=show)
    report = await bench.run()          or bench.report(), after a cancellation

A cell that fails keeps what it has, with the reason, and the next one is visited. A cancellation unloads what is loaded
and leaves a report of what was measured; with a history, the session can be continued later. The backend stays open:
whoever opened it closes it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmstrix.core.benchmark import plan, suspicion
from lmstrix.core.benchmark.bandwidth import memory_bandwidth_bound
from lmstrix.core.benchmark.cell_state import CellState
from lmstrix.core.benchmark.environment import read_environment
from lmstrix.core.benchmark.events import BenchEvent, CellTeller
from lmstrix.core.benchmark.memory_sampler import MemorySampler
from lmstrix.core.benchmark.power import PERIOD_S, PowerSampler
from lmstrix.core.benchmark.power_sources import open_power_sources
from lmstrix.core.benchmark.prompts import PromptWriter
from lmstrix.core.benchmark.records import BenchReport, BenchRequest, BenchTarget
from lmstrix.core.benchmark.saved import FINISHED, BenchJournal
from lmstrix.core.benchmark.session_names import new_session
from lmstrix.core.benchmark.visit import Visitor, instance_prefix
from lmstrix.ground.addresses import is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.benchmark.measuring import BenchServer
    from lmstrix.core.benchmark.power import PowerReadings, PowerSource
    from lmstrix.core.history import BenchHistory

_OUT_OF_TIME = "the time budget was spent"


class Bench:
    """One session. `report()` may be asked for at any time, after an interrupt too.

    `session` continues one that is in the `history`. `power_sources` None opens those of this machine, if the server
    runs on it; they are read every `power_period_s`, and all readings are kept in `power_readings`. `on_event` is
    called on the event loop: it must be quick.
    """

    def __init__(
        self,
        server: BenchServer,
        targets: Sequence[BenchTarget],
        request: BenchRequest,
        *,
        session: str | None = None,
        history: BenchHistory | None = None,
        power_sources: Sequence[PowerSource] | None = None,
        power_period_s: float = PERIOD_S,
        host: str | None = None,
        on_event: Callable[[BenchEvent], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.interrupted = False
        self._server = server
        self._request = request
        self._power_sources = power_sources
        self._power_period_s = power_period_s
        self.power_readings: tuple[PowerReadings, ...] = ()
        self._on_event = on_event or (lambda _event: None)
        self._clock = clock
        self._started = clock()
        self._notes: list[str] = []
        self._journal = BenchJournal(history, notify=self._note)
        cells = plan.plan_cells(targets, request, loads=server.loads is not None)
        self._states = [
            CellState(
                cell=cell,
                number=number,
                writer=PromptWriter.of(request, filled=cell.prompt_tokens is not None),
                teller=CellTeller(self._on_event, cell, number, len(cells)),
                is_remote=not is_local(server.address),
            )
            for number, cell in enumerate(cells, 1)
        ]
        for state in self._states:
            if state.cell.skipped is not None:
                state.outcome, state.reason = "skipped", state.cell.skipped
        self._header = BenchReport(
            session=session or new_session(),
            started_at=datetime.now(UTC),
            request=request,
            cells=(),
            server=f"{server.engine} at {server.address}",
            server_version=server.version,
            host=host,
        )

    @property
    def instance_prefix(self) -> str:
        """What the names of its instances begin with."""
        return instance_prefix(self._header.session)

    def report(self) -> BenchReport:
        """Everything measured so far."""
        default = "interrupted" if self.interrupted else "not reached"
        cells = tuple(state.result(default) for state in self._states)
        return replace(self._header, cells=cells, interrupted=self.interrupted, notes=tuple(self._notes))

    async def run(self) -> BenchReport:
        """Measure everything. A cancellation passes on, after our model is unloaded and the rows are closed."""
        self._started = self._clock()  # what is measured about the machine first is of the budget too
        try:
            sources = self._power_sources
            if sources is None:
                sources = (
                    await asyncio.to_thread(open_power_sources, self._power_period_s)
                    if is_local(self._server.address)
                    else ()
                )
            with (
                PowerSampler(sources, period_s=self._power_period_s) as power,
                MemorySampler(self._server.address) as memory,
            ):
                await self._measure(power, memory)
        except asyncio.CancelledError:
            self.interrupted = True  # before the first visit too: the report is to say so
            raise
        return self.report()

    async def _measure(self, power: PowerSampler, memory: MemorySampler) -> None:
        # First: what measures the bandwidth would be taken for a busy machine.
        environment = await asyncio.to_thread(read_environment, self._server.address, runtime=self._server.runtime)
        bandwidth = await self._bandwidth_bound()
        self._header = replace(
            self._header,
            power=", ".join(power.source_names) if power.measures else "no power source",
            power_sources=power.source_names if power.measures else (),
            memory_bandwidth_bytes_per_s=bandwidth,
            environment=environment,
        )
        self._take_up()
        visitor = Visitor(
            server=self._server,
            request=self._request,
            session=self._header.session,
            journal=self._journal,
            power=power,
            memory=memory,
            clock=self._clock,
            bandwidth_bytes_per_s=bandwidth,
        )
        try:
            await self._make_visits(visitor)
        except asyncio.CancelledError:
            self.interrupted = True  # the rows that are closed next say so
            raise
        finally:
            # Whatever ended the visits: a row left open is read as a cell whose process was killed.
            self._close_rows()
            self.power_readings = power.readings()
            for name, problem in power.failed.items():
                self._note(f"{name} could not be read any more ({problem})")

    async def _bandwidth_bound(self) -> float | None:
        """Measured where it could tell anything: models larger than the processor's caches, on this machine."""
        largest = max((state.cell.target.bytes_per_token or 0 for state in self._states), default=0)
        if not is_local(self._server.address) or largest < suspicion.LIMITS.in_caches_bytes:
            return None
        return await asyncio.to_thread(memory_bandwidth_bound)

    def _take_up(self) -> None:
        """Open the rows of this session; take over what an earlier start of it has measured."""
        earlier = self._journal.begin(self.report(), engine=self._server.engine)
        for state in self._states:
            result = earlier.get(state.cell.name)
            if result is not None and state.cell.skipped is None:
                state.take_up(result)
                if result.outcome in FINISHED and not result.out_of_time:
                    state.outcome, state.reason, state.closed = result.outcome, result.reason, True

    async def _make_visits(self, visitor: Visitor) -> None:
        wanted, budget_s = self._request.runs_per_cell, self._request.budget_s
        done = [wanted if state.closed else state.worked for state in self._states]
        visits = plan.plan_visits([state.cell for state in self._states], self._request, done=done)
        for place, visit in enumerate(visits):
            state = self._states[visit.cell]
            # Settled or failed on its first visit: its time goes to the visits left.
            if state.closed:
                continue
            left_s = None if budget_s is None else budget_s - (self._clock() - self._started)
            if left_s is not None and left_s <= 0:
                state.out_of_time = True
                continue
            share_s = plan.visit_share_s(left_s, len(visits) - place)
            await visitor.visit(state, visit.runs, share_s=share_s, left_s=left_s)
            self._journal.end(state.result("interrupted"))  # until the session says otherwise: it may be killed
            state.teller.tell("cell", result=state.result("ok"))

    def _close_rows(self) -> None:
        """Say of every cell how it ended."""
        for state in self._states:
            if state.outcome is None:
                self._conclude(state)
            self._journal.end(state.result("not reached"))

    def _conclude(self, state: CellState) -> None:
        """A cell without a failure that ended it: whole, cut short by time, interrupted, or never reached."""
        wanted, failures = self._request.runs_per_cell, len(state.runs) - state.worked
        if self.interrupted and not state.closed and state.worked < wanted:
            state.outcome = "interrupted"
        elif state.worked:
            state.outcome = "ok"
        # Settled in a later visit than the one that was cut short, it has all that was wanted.
        state.out_of_time = state.out_of_time and not state.closed and state.worked < wanted
        if state.out_of_time:
            state.reason = f"{state.worked} of {wanted} runs: {_OUT_OF_TIME}"
        elif failures:
            state.reason = f"{failures} of {len(state.runs)} runs failed: {state.last_failure}"

    def _note(self, text: str) -> None:
        self._notes.append(text)
        self._on_event(BenchEvent(kind="note", text=text))
