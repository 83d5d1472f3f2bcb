"""Runs a benchmark: visits its cells, measures, keeps every record at once, and ends with a report whatever happens.

    report = run_bench(BenchServer.of(backend, "embedded"), targets, BenchRequest(runs=6), on_event=show)

A visit loads an instance of our own, learns how long prompts are in tokens while warming up, measures the idle power of
the machine with the model loaded, makes its runs, and unloads. Before each run one short raw prompt is sent for one
token: its time is the latency that prefill rates are cleared of, and it leaves nothing of use in the server's prompt
cache. A cell that fails keeps what it has, with the reason, and the next one is visited.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from lmstrix.core.benchmark import plan
from lmstrix.core.benchmark.bandwidth import memory_bandwidth_bound
from lmstrix.core.benchmark.energy import LEAST_PERIODS, energy_of_run, idle_power_w
from lmstrix.core.benchmark.file_cache import COLD_RATIO, WARM_RATIO, cached_ratio, drop_cached
from lmstrix.core.benchmark.measuring import (
    LoadingBackend,
    StreamingBackend,
    measure_request,
    one_line,
    trace_request,
)
from lmstrix.core.benchmark.memory_sampler import MemoryReading, MemorySampler, is_local
from lmstrix.core.benchmark.power import PowerSampler
from lmstrix.core.benchmark.power_sources import open_power_sources
from lmstrix.core.benchmark.prompts import SAMPLE_CHARS, PromptWriter, nonce
from lmstrix.core.benchmark.records import (
    BENCH_PREFIX,
    BenchReport,
    BenchRequest,
    BenchTarget,
    Cell,
    CellResult,
    FileCache,
    LoadRecord,
    Mark,
    RequestFigures,
    RunRecord,
    series_of,
    summaries_of,
)
from lmstrix.core.benchmark.saved import FINISHED, BenchJournal
from lmstrix.core.benchmark.stats import is_settled
from lmstrix.core.benchmark.suspicion import marks_of
from lmstrix.core.benchmark.timing import Trace
from lmstrix.core.context.verdict import outcome_of
from lmstrix.errors import (
    BackendUnavailableError,
    ContextOverflowError,
    EngineCrashedError,
    LMStrixError,
    ModelUnloadedError,
)
from lmstrix.types import GenerationRequest, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.backend import AsyncModelBackend
    from lmstrix.core.benchmark.memory_sampler import MemoryUse
    from lmstrix.core.benchmark.power_sources import PowerSource
    from lmstrix.core.history import BenchHistory

_WARMUP_TOKENS = 32
_WARMUP_TRIES = 3
_FAILURES_IN_A_ROW = 2
_UNLOAD_S = 15.0
_WORTH_A_BOUND_BYTES = 512 * 2**20
_FATAL = (EngineCrashedError, ModelUnloadedError, BackendUnavailableError)
_SETTLED_BY = ("decode_tokens_per_second", "prefill_tokens_per_second")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchServer:
    """Whom to measure. `loads` None: the server loads models by itself, and there are no load times.

    `engine` names the kind in stored results ("lmstudio", "embedded", "openai"); `address` is host:port.
    """

    streams: StreamingBackend
    loads: LoadingBackend | None
    engine: str
    address: str
    version: str | None = None

    @classmethod
    def of(cls, backend: AsyncModelBackend) -> BenchServer:
        """LM Studio or the embedded engine."""
        server = backend.server
        return cls(streams=backend, loads=backend, engine=server.engine, address=server.address, version=server.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchEvent:
    """One thing that happened, for progress displays. `cell_number` counts from 1 up to `cells`.

    "load" and "prompt" carry a growing `ratio`, "answer" the `tokens` so far and their rate, "run" and "warmup" the
    record, "cell" the result as it stands, "note" and "idle" a `text`.
    """

    kind: Literal["load", "warmup", "idle", "prompt", "answer", "run", "cell", "note"]
    cell: Cell | None = None
    cell_number: int = 0
    cells: int = 0
    ratio: float | None = None
    tokens: int | None = None
    tokens_per_second: float | None = None
    run: RunRecord | None = None
    result: CellResult | None = None
    text: str = ""


class _CellFailed(Exception):  # noqa: N818 - ends a visit; the cell says why
    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


@dataclass(slots=True)
class _State:
    """A cell on its way. `timings` are the moments of each run, for its energy."""

    cell: Cell
    number: int
    writer: PromptWriter
    outcome: str | None = None
    reason: str = ""
    loads: list[LoadRecord] = field(default_factory=list)
    warmups: list[RunRecord] = field(default_factory=list)
    runs: list[RunRecord] = field(default_factory=list)
    memory: MemoryUse | None = None
    marks: list[Mark] = field(default_factory=list)
    settled: bool = False
    records: int = 0

    def next_number(self) -> int:
        self.records += 1
        return self.records

    def result(self, default: str) -> CellResult:
        runs, loads = tuple(self.runs), tuple(self.loads)
        return CellResult(
            cell=self.cell,
            outcome=self.outcome or default,
            reason=self.reason,
            loads=loads,
            warmups=tuple(self.warmups),
            runs=runs,
            memory=self.memory,
            summaries=summaries_of(runs, loads),
            marks=(*self.marks, *_gathered(runs)),
        )


@dataclass(frozen=True, slots=True)
class _Moments:
    """When a run happened, on the clock of the power readings."""

    sent_at: float
    first_token_at: float | None
    ended_at: float


class Bench:
    """One session. `report()` may be asked for at any time, after an interrupt too.

    `session` goes on with one that is in the `history`. `power_sources` None opens those of this machine, if the server
    runs on it. `on_event` is called on the event loop: it must be quick.
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
        host: str | None = None,
        on_event: Callable[[BenchEvent], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._server = server
        self._request = request
        self._on_event = on_event or (lambda _event: None)
        self._clock = clock
        self._notes: list[str] = []
        self._raw_prompts = True
        self._bound: float | None = None
        self.interrupted = False
        self._journal = BenchJournal(history, notify=self._note)
        if power_sources is None:
            power_sources = open_power_sources() if is_local(server.address) else ()
        self._power = PowerSampler(power_sources)
        self._memory = MemorySampler(server.address)
        cells = plan.plan_cells(targets, request, loads=server.loads is not None)
        self._states = [
            _State(cell=cell, number=number, writer=PromptWriter.of(request, filled=cell.prompt_tokens is not None))
            for number, cell in enumerate(cells, 1)
        ]
        for state in self._states:
            if state.cell.skipped is not None:
                state.outcome, state.reason = "skipped", state.cell.skipped
        self._header = BenchReport(
            session=session or uuid4().hex,
            started_at=datetime.now(UTC),
            request=request,
            cells=(),
            server=f"{server.engine} at {server.address}",
            server_version=server.version,
            host=host,
            power=", ".join(self._power.source_names) if self._power.measures else "no power source",
            power_sources=self._power.source_names,
        )

    def report(self) -> BenchReport:
        """Everything measured so far."""
        default = "interrupted" if self.interrupted else "not reached"
        cells = tuple(state.result(default) for state in self._states)
        return replace(self._header, cells=cells, interrupted=self.interrupted, notes=tuple(self._notes))

    async def run(self) -> BenchReport:
        """Measure everything; a cancellation passes on after our models are unloaded and the rows are closed."""
        self._resume()
        self._bound = await self._bandwidth_bound()
        self._header = replace(self._header, memory_bandwidth_bytes_per_s=self._bound)
        with ExitStack() as samplers:
            samplers.enter_context(self._power)
            samplers.enter_context(self._memory)
            try:
                await self._make_visits()
            except asyncio.CancelledError:
                self.interrupted = True
                raise
            finally:
                self._close_rows()
        return self.report()

    def _resume(self) -> None:
        """Open the rows of this session; take over what an earlier start of it has measured."""
        earlier = self._journal.begin(self.report(), engine=self._server.engine)
        for state in self._states:
            result = earlier.get(state.cell.name)
            if result is None or state.cell.skipped is not None:
                continue
            state.loads, state.warmups, state.runs = list(result.loads), list(result.warmups), list(result.runs)
            state.memory = result.memory
            numbers = [load.number for load in result.loads]
            state.records = max(numbers + [run.number for run in (*result.warmups, *result.runs)], default=0)
            if result.outcome in FINISHED:
                state.outcome, state.settled = result.outcome, True

    async def _bandwidth_bound(self) -> float | None:
        """Measured where it could tell anything: models larger than the processor's caches, on this machine."""
        sizes = [state.cell.target.bytes_per_token or 0 for state in self._states]
        if not is_local(self._server.address) or max(sizes, default=0) < _WORTH_A_BOUND_BYTES:
            return None
        return await asyncio.to_thread(memory_bandwidth_bound)

    async def _make_visits(self) -> None:
        started = self._clock()
        done = [self._request.runs if state.settled else len(state.runs) for state in self._states]
        visits = plan.plan_visits([state.cell for state in self._states], self._request, done=done)
        for place, visit in enumerate(visits):
            state = self._states[visit.cell]
            if state.settled or state.outcome is not None:
                continue
            left_s = None
            if self._request.budget_s is not None:
                left_s = self._request.budget_s - (self._clock() - started)
                if left_s <= 0:
                    state.reason = "the time budget was spent"
                    continue
            await self._visit(state, visit.runs, plan.visit_share_s(left_s, len(visits) - place))
            self._journal.end(state.result("ok" if len(state.runs) >= self._request.runs else "interrupted"))
            self._tell("cell", state, result=state.result("ok"))

    def _close_rows(self) -> None:
        """Every cell that was measured to its end, or as far as the budget went, is ok; the rest says why not."""
        for state in self._states:
            if state.outcome is None and state.runs and not self.interrupted:
                state.outcome = "ok"
                if not state.settled and len(state.runs) < self._request.runs:
                    state.reason = f"{len(state.runs)} of {self._request.runs} runs: the time budget was spent"
            elif state.outcome is None and self.interrupted and len(state.runs) >= self._request.runs:
                state.outcome = "ok"
            self._journal.end(state.result("interrupted" if self.interrupted else "not reached"))

    # --- one visit ------------------------------------------------------------------------------------------------

    async def _visit(self, state: _State, runs: int, share_s: float | None) -> None:
        """Load, warm up, measure, unload. What goes wrong becomes the cell's outcome."""
        began = self._clock()
        self._memory.restart()
        baseline = await self._read_memory()
        instance_id = state.cell.target.model_key
        try:
            if self._server.loads is not None:
                instance_id = await self._load(self._server.loads, state)
            loaded = await self._read_memory()
            try:
                await self._warm_up(state, instance_id)
                await self._measure(state, instance_id, runs, began, share_s)
            finally:
                generated = None if self._cancelled() else await self._read_memory()
                state.memory = self._memory.use(baseline, loaded, generated)
        except _CellFailed as failed:
            state.outcome, state.reason = failed.outcome, failed.reason
        finally:
            if self._server.loads is not None:
                await self._unload(self._server.loads, instance_id)

    @staticmethod
    def _cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    async def _read_memory(self) -> MemoryReading:
        return await asyncio.to_thread(self._memory.read)

    async def _load(self, loads: LoadingBackend, state: _State) -> str:
        cell, request = state.cell, self._request
        if request.cold:
            await asyncio.to_thread(drop_cached, cell.target.files)
        cached = await asyncio.to_thread(cached_ratio, cell.target.files)
        instance_id = f"{BENCH_PREFIX}{self._header.session[:8]}-{state.number}-{len(state.loads) + 1}"
        config = replace(request.load, context_length=cell.context_length, parallel_slots=cell.concurrency)
        self._tell("load", state, ratio=0.0)
        began, moment = self._clock(), datetime.now(UTC)
        try:
            loaded = await loads.load(
                cell.target.model_key,
                config,
                instance_id=instance_id,
                deadlines=request.deadlines,
                on_progress=lambda ratio: self._tell("load", state, ratio=ratio),
            )
        except LMStrixError as exc:
            raise _CellFailed(outcome_of(exc, "load"), one_line(exc)) from exc
        record = LoadRecord(
            number=state.next_number(),
            measured_at=moment,
            load_s=self._clock() - began,
            context_length=loaded.context_length,
            file_cache=_label(cached),
            cached_ratio=cached,
        )
        state.loads.append(record)
        self._journal.add(cell, record)
        if cell.context_length is not None and loaded.context_length < cell.context_length:
            text = f"{cell.context_length:,} tokens of context were asked for, {loaded.context_length:,} were loaded"
            state.marks.append(Mark(kind="context reduced", text=text))
        return instance_id

    async def _unload(self, loads: LoadingBackend, instance_id: str) -> None:
        """Unload, also on the way out of a cancellation; what cannot be told to go is left to its server."""
        with suppress(LMStrixError, TimeoutError):
            async with asyncio.timeout(_UNLOAD_S):
                await loads.unload(instance_id)

    async def _warm_up(self, state: _State, instance_id: str) -> None:
        """One wave that is not counted; it teaches the writer how many tokens its prompts have."""
        cell, writer = state.cell, state.writer
        if cell.prompt_tokens is not None and not writer.learnt:
            sample = writer.of_chars(max(0, min(SAMPLE_CHARS, round(cell.prompt_tokens * 0.9) - len(writer.task) - 20)))
            figures, problem = await self._ask(state, instance_id, sample, 1, Trace(0.0), None)
            self._learn(writer, sample, figures, problem)
        for attempt in range(_WARMUP_TRIES):
            prompt = self._prompt(state)
            trace = Trace(0.0)
            figures, problem = await self._ask(
                state, instance_id, prompt, min(cell.max_tokens, _WARMUP_TOKENS), trace, None
            )
            if problem is None:
                break
            if attempt == _WARMUP_TRIES - 1 or cell.prompt_tokens is None:
                raise _CellFailed(figures.outcome, figures.failure or "") from problem
            self._learn(writer, prompt, figures, problem)
        self._learn(writer, prompt, figures, None)
        record = RunRecord(
            number=state.next_number(),
            measured_at=datetime.now(UTC),
            requests=(figures,),
            span_s=figures.e2e_s or 0.0,
            warmup=True,
        )
        state.warmups.append(record)
        self._journal.add(cell, record)
        self._tell("warmup", state, run=record)

    @staticmethod
    def _learn(writer: PromptWriter, prompt: str, figures: RequestFigures, problem: LMStrixError | None) -> None:
        """A prompt that was too long teaches as well, where the server says how long it was."""
        counted = problem.prompt_tokens if isinstance(problem, ContextOverflowError) else figures.prompt_tokens
        if problem is not None and counted is None:
            raise _CellFailed(figures.outcome, figures.failure or "") from problem
        if counted is not None:
            writer.learn(prompt, counted)

    def _prompt(self, state: _State) -> str:
        if state.cell.prompt_tokens is None:
            return state.writer.bare()
        return state.writer.filled(state.cell.prompt_tokens)

    async def _measure(self, state: _State, instance_id: str, runs: int, began: float, share_s: float | None) -> None:
        """The runs of one visit, with idle spans before and after them where power is measured."""
        idle = [span] if (span := await self._idle(state)) else []
        latencies: list[float] = []
        moments: dict[int, _Moments] = {}
        failures = 0
        try:
            for _ in range(runs):
                spans = [run.span_s for run in state.runs]
                if state.runs and not plan.has_time_for_another(self._clock() - began, share_s, spans):
                    break
                latency_s = await self._latency(instance_id)
                if latency_s is not None:
                    latencies.append(latency_s)
                problem = await self._run_once(state, instance_id, median(latencies) if latencies else None, moments)
                failures = failures + 1 if problem is not None else 0
                if isinstance(problem, _FATAL) or failures == _FAILURES_IN_A_ROW:
                    failed = next(each for each in state.runs[-1].requests if each.failure is not None)
                    raise _CellFailed(failed.outcome, failed.failure or "")
                if self._is_settled(state):
                    state.settled = True
                    break
            if span := await self._idle(state):
                idle.append(span)
        finally:
            self._add_energy(state, moments, idle)

    async def _idle(self, state: _State) -> tuple[float, float] | None:
        """Let the machine be idle, with the model loaded, for as long as asked; the span."""
        if not self._power.measures:
            return None
        self._tell("idle", state, text=f"measuring idle power for {self._request.idle_s:g} s")
        begin = self._clock()
        await asyncio.sleep(max(self._request.idle_s, LEAST_PERIODS * self._power.period_s))
        return begin, self._clock() - self._power.period_s  # readings lie on both sides of it already

    async def _latency(self, instance_id: str) -> float | None:
        """The time of one token after next to no prompt; None when that cannot be had."""
        words = nonce()
        asked = GenerationRequest(max_tokens=1, temperature=0.0)
        for raw in (True, False) if self._raw_prompts else (False,):
            request = (
                replace(asked, raw_prompt=words)
                if raw
                else replace(asked, messages=(Message(role="user", text=words),))
            )
            trace = Trace(0.0)
            try:
                await trace_request(
                    self._server.streams,
                    instance_id,
                    request,
                    trace,
                    deadlines=self._request.deadlines,
                    clock=self._clock,
                )
            except BackendUnavailableError:
                return None
            except LMStrixError:
                if trace.ended_at is None:
                    self._raw_prompts = self._raw_prompts and not raw
                    continue
            seen_at = trace.chunk_at[0] if trace.chunk_at else trace.ended_at
            return None if seen_at is None else seen_at - trace.sent_at
        return None

    async def _run_once(
        self, state: _State, instance_id: str, latency_s: float | None, moments: dict[int, _Moments]
    ) -> LMStrixError | None:
        """One run of as many requests as the cell has at a time; the failure, if one of them failed."""
        cell = state.cell
        traces = [Trace(0.0) for _ in range(cell.concurrency)]
        moment = datetime.now(UTC)
        answers = await asyncio.gather(
            *(
                self._ask(state, instance_id, self._prompt(state), cell.max_tokens, trace, latency_s, tell=place == 0)
                for place, trace in enumerate(traces)
            )
        )
        began_at = min(trace.sent_at for trace in traces)
        ended_at = max([trace.ended_at for trace in traces if trace.ended_at is not None], default=self._clock())
        span_s = ended_at - began_at
        figures = tuple(
            replace(each, marks=marks_of(each, cell, bandwidth_bytes_per_s=self._bound)) for each, _ in answers
        )
        produced = [each.completion_tokens for each in figures]
        counted = [tokens for tokens in produced if tokens is not None]
        record = RunRecord(
            number=state.next_number(),
            measured_at=moment,
            requests=figures,
            span_s=span_s,
            latency_s=latency_s,
            output_tokens_per_second=sum(counted) / span_s if len(counted) == len(produced) and span_s > 0 else None,
        )
        first = traces[0].chunk_at[0] if cell.concurrency == 1 and traces[0].chunk_at else None
        moments[record.number] = _Moments(began_at, first, ended_at)
        state.runs.append(record)
        self._journal.add(cell, record)
        self._tell("run", state, run=record)
        return next((problem for _, problem in answers if problem is not None), None)

    async def _ask(
        self,
        state: _State,
        instance_id: str,
        prompt: str,
        max_tokens: int,
        trace: Trace,
        latency_s: float | None,
        *,
        tell: bool = True,
    ) -> tuple[RequestFigures, LMStrixError | None]:
        request = GenerationRequest(
            messages=(Message(role="user", text=prompt),),
            max_tokens=max_tokens,
            temperature=self._request.temperature,
            seed=self._request.seed,
        )
        return await measure_request(
            self._server.streams,
            instance_id,
            request,
            trace,
            latency_s=latency_s,
            deadlines=self._request.deadlines,
            progress=partial(self._progress, state) if tell else None,
            clock=self._clock,
        )

    def _is_settled(self, state: _State) -> bool:
        """Whether every rate is known closely enough."""
        width = self._request.settled_ratio
        series = series_of(tuple(state.runs))
        rates = [series[name] for name in _SETTLED_BY if name in series]
        return width is not None and bool(rates) and all(is_settled(values, width) for values in rates)

    def _add_energy(self, state: _State, moments: dict[int, _Moments], idle: list[tuple[float, float]]) -> None:
        """Give this visit's runs their energy, now that the readings around them are in."""
        if not self._power.measures or not moments:
            return
        readings = self._power.series()
        idle_w = idle_power_w(readings, idle)
        for place, run in enumerate(state.runs):
            at = moments.get(run.number)
            if at is None or run.failed:
                continue
            energy = energy_of_run(
                readings,
                sent_at=at.sent_at,
                first_token_at=at.first_token_at,
                ended_at=at.ended_at,
                prompt_tokens=_sum([each.prompt_tokens for each in run.requests]),
                output_tokens=_sum([each.completion_tokens for each in run.requests]),
                idle_power_w=idle_w,
            )
            if energy is not None:
                state.runs[place] = replace(run, energy=energy)
                self._journal.add(state.cell, state.runs[place])
        self._power.forget(self._clock())

    # --- telling --------------------------------------------------------------------------------------------------

    def _tell(
        self,
        kind: Literal["load", "warmup", "idle", "run", "cell"],
        state: _State,
        *,
        ratio: float | None = None,
        run: RunRecord | None = None,
        result: CellResult | None = None,
        text: str = "",
    ) -> None:
        self._on_event(
            BenchEvent(
                kind=kind,
                cell=state.cell,
                cell_number=state.number,
                cells=len(self._states),
                ratio=ratio,
                run=run,
                result=result,
                text=text,
            )
        )

    def _progress(
        self,
        state: _State,
        *,
        prompt_ratio: float | None = None,
        tokens: int | None = None,
        tokens_per_second: float | None = None,
    ) -> None:
        self._on_event(
            BenchEvent(
                kind="prompt" if tokens is None else "answer",
                cell=state.cell,
                cell_number=state.number,
                cells=len(self._states),
                ratio=prompt_ratio,
                tokens=tokens,
                tokens_per_second=tokens_per_second,
            )
        )

    def _note(self, text: str) -> None:
        self._notes.append(text)
        self._on_event(BenchEvent(kind="note", text=text))


def run_bench(
    server: BenchServer,
    targets: Sequence[BenchTarget],
    request: BenchRequest,
    *,
    session: str | None = None,
    history: BenchHistory | None = None,
    power_sources: Sequence[PowerSource] | None = None,
    host: str | None = None,
    on_event: Callable[[BenchEvent], None] | None = None,
) -> BenchReport:
    """Run a benchmark, blocking. Ctrl-C ends it early with what was measured and `interrupted` set.

    The server's backend is closed in the end: it belongs to the event loop that ends with this call.
    """
    bench = Bench(
        server,
        targets,
        request,
        session=session,
        history=history,
        power_sources=power_sources,
        host=host,
        on_event=on_event,
    )

    async def run_and_close() -> None:
        try:
            await bench.run()
        finally:
            await server.streams.close()

    try:
        asyncio.run(run_and_close())
    except KeyboardInterrupt:
        bench.interrupted = True
    return bench.report()


def _label(ratio: float | None) -> FileCache | None:
    if ratio is None:
        return None
    return "cold" if ratio <= COLD_RATIO else "warm" if ratio >= WARM_RATIO else "partly cached"


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _gathered(runs: tuple[RunRecord, ...]) -> tuple[Mark, ...]:
    """One mark a kind over all runs, with how many of them carry it."""
    found: dict[str, list[Mark]] = {}
    for run in runs:
        for kind, mark in {mark.kind: mark for request in run.requests for mark in request.marks}.items():
            found.setdefault(kind, []).append(mark)
    return tuple(
        Mark(kind=kind, text=f"{marks[0].text} ({len(marks)} of {len(runs)} runs)") for kind, marks in found.items()
    )
