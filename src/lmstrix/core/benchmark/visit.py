"""One visit to one cell: load an instance of our own, warm it up, make some runs, unload it.

While warming up, the prompt writer learns from the server's counts how long prompts are in tokens. Before each run one
short raw prompt is sent for one token, before the first a few: their time is the latency that prefill rates are cleared
of, and they leave nothing of use in the server's prompt cache. Where power is measured the machine rests before the
first run and after the last, with the model loaded. What goes wrong becomes the cell's outcome, and what was measured
before stays.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmstrix.core.answers.load_policy import BENCH_PREFIX
from lmstrix.core.benchmark.coherence import coherence_mark, with_difference_marks
from lmstrix.core.benchmark.file_cache import COLD_RATIO, WARM_RATIO, cached_ratio, drop_cached
from lmstrix.core.benchmark.latency import PROBES_FIRST, latency_of, prefill_mark
from lmstrix.core.benchmark.loading import load_of_cell
from lmstrix.core.benchmark.machine_load import read_cpu, use_between
from lmstrix.core.benchmark.measuring import BenchServer, LoadingBackend, RequestTimer
from lmstrix.core.benchmark.plan import has_time_for_another
from lmstrix.core.benchmark.prompts import SAMPLE_CHARS, PromptWriter, nonce
from lmstrix.core.benchmark.records import (
    BenchRequest,
    FileCache,
    LoadRecord,
    Mark,
    RequestFigures,
    RunRecord,
    series_of,
)
from lmstrix.core.benchmark.session_names import own_letters
from lmstrix.core.benchmark.stats import is_settled
from lmstrix.core.benchmark.suspicion import marks_of
from lmstrix.core.benchmark.timing import Trace
from lmstrix.core.benchmark.turns import least_visit_s
from lmstrix.core.benchmark.visit_power import Moments, VisitPower
from lmstrix.core.context.attempts import TIME_TO_LIVE_S
from lmstrix.core.context.verdict import outcome_of
from lmstrix.ground.errors import (
    BackendUnavailableError,
    ContextOverflowError,
    EngineCrashedError,
    LMStrixError,
    ModelUnloadedError,
    StreamStalledError,
)
from lmstrix.ground.headroom import NAME
from lmstrix.ground.text import one_line
from lmstrix.ground.types import GenerationRequest, Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.benchmark.cell_state import CellState
    from lmstrix.core.benchmark.latency import Latency
    from lmstrix.core.benchmark.memory_sampler import MemoryReading, MemorySampler
    from lmstrix.core.benchmark.power import PowerSampler
    from lmstrix.core.benchmark.records import Cell
    from lmstrix.core.benchmark.saved import BenchJournal

_LEAST_PROMPT = "x"  # one token; no chat begins with it
_FATAL = (EngineCrashedError, ModelUnloadedError, BackendUnavailableError)
_SETTLED_BY = ("decode_tokens_per_second", "prefill_tokens_per_second")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitLimits:
    """What a visit goes by."""

    warmup_tokens: int = 32  # enough for the kernels and caches a run will use; more only costs time
    warmup_tries: int = 3  # a prompt that was too long teaches its length; twice is enough for any vocabulary
    failures_in_a_row: int = 2  # one may be an accident
    length_tolerance_ratio: float = 0.02  # of the prompt meant; the order of sentences alone changes less
    unload_s: float = 15.0  # a server that takes longer is left to unload by itself


LIMITS = VisitLimits()


class _CellFailed(Exception):  # noqa: N818 - ends a visit; the cell says why
    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


def instance_prefix(session: str) -> str:
    """What the names of a session's instances begin with."""
    return f"{BENCH_PREFIX}{own_letters(session)}-"


@dataclass(slots=True)
class Visitor:
    """Makes visits. `bandwidth_bytes_per_s` bounds what decode rates are believed; `session` names our instances."""

    server: BenchServer
    request: BenchRequest
    session: str
    journal: BenchJournal
    power: PowerSampler
    memory: MemorySampler
    clock: Callable[[], float]
    bandwidth_bytes_per_s: float | None = None
    _raw_prompts: bool = True
    _timer: RequestTimer = field(init=False)

    def __post_init__(self) -> None:
        self._timer = RequestTimer(
            streams=self.server.streams,
            deadlines=self.request.deadlines,
            clock=self.clock,
            power=self.power if self.power.measures else None,
        )

    async def visit(self, state: CellState, runs: int, *, share_s: float | None, left_s: float | None) -> None:
        """Load, warm up, make up to `runs` runs within `share_s` seconds, unload.

        What still goes on after `left_s` seconds is cut off and not counted, be it a load, a warm-up or a run.
        """
        if share_s is not None and state.worked and self._least_s(state) > share_s:
            state.out_of_time = True
            return
        try:
            async with asyncio.timeout(left_s) as end:
                await self._visit(state, runs, None if share_s is None else self.clock() + share_s)
        except TimeoutError:
            if not end.expired():
                raise
            state.out_of_time = True
        except _CellFailed as failed:
            state.outcome, state.reason, state.closed = failed.outcome, failed.reason, True

    def _least_s(self, state: CellState) -> float:
        return least_visit_s(state.loads, state.warmups, state.runs, idle_s=2 * self._visit_power().rest_s)

    async def _visit(self, state: CellState, runs: int, until: float | None) -> None:
        # The last model's peak would else be this one's.
        self.memory.restart()
        baseline = await self._read_memory()
        loads, instance_id = self.server.loads, state.cell.target.model_key
        if loads is None:
            await self._use(state, instance_id, runs, until, baseline)
            return
        instance_id = await self._load(loads, state)
        try:
            await self._use(state, instance_id, runs, until, baseline)
        finally:
            await _unload(loads, instance_id)

    async def _use(
        self, state: CellState, instance_id: str, runs: int, until: float | None, baseline: MemoryReading
    ) -> None:
        """All that happens with the model loaded."""
        loaded = await self._read_memory()
        generated = None
        try:
            await self._warm_up(state, instance_id)
            await self._measure(state, instance_id, runs, until)
            generated = await self._read_memory()
        finally:
            state.memory = self.memory.use(baseline, loaded, generated)  # of a visit that failed too

    async def _read_memory(self) -> MemoryReading:
        return await asyncio.to_thread(self.memory.read)  # looking for processes takes tens of milliseconds

    async def _load(self, loads: LoadingBackend, state: CellState) -> str:
        cell, request = state.cell, self.request
        if request.cold:  # asked for; whether it worked is seen in the ratio read next
            await asyncio.to_thread(drop_cached, cell.target.files)
        cached = await asyncio.to_thread(cached_ratio, cell.target.files)
        instance_id = f"{instance_prefix(self.session)}{state.number}-{len(state.loads) + 1}"
        state.teller.tell("load", ratio=0.0)
        try:
            config = await load_of_cell(self.server, cell, request.load_of(cell.target))
            began, moment = self.clock(), datetime.now(UTC)
            loaded = await loads.load(
                cell.target.model_key,
                config,
                instance_id=instance_id,
                ttl_s=TIME_TO_LIVE_S,
                deadlines=request.deadlines,
                on_progress=lambda ratio: state.teller.tell("load", ratio=ratio),
            )
        except LMStrixError as exc:
            raise _CellFailed(outcome_of(exc, "load"), one_line(exc)) from exc
        record = LoadRecord(
            number=state.next_number(),
            measured_at=moment,
            load_s=self.clock() - began,
            context_length=loaded.context_length,
            file_cache=_label(cached),
            cached_ratio=cached,
        )
        state.loads.append(record)
        self.journal.add(cell, record)
        if cell.context_length is not None and loaded.context_length < cell.context_length:
            text = f"{cell.context_length:,} tokens of context were asked for, {loaded.context_length:,} were loaded"
            text += f", which leaves free what {NAME} keeps" if config.context_length != cell.context_length else ""
            state.marks = [Mark(kind="context reduced", text=text)]
        return instance_id

    async def _warm_up(self, state: CellState, instance_id: str) -> None:
        """One wave that is not counted; it teaches the writer how many tokens its prompts have."""
        cell, writer = state.cell, state.writer
        if cell.prompt_tokens is not None and not writer.learnt:
            sample = writer.of_chars(max(0, min(SAMPLE_CHARS, round(cell.prompt_tokens * 0.9) - len(writer.task) - 20)))
            figures, problem = await self._ask(state, instance_id, sample, 1, Trace(0.0), None)
            self._learn(writer, sample, figures, problem)
        for attempt in range(LIMITS.warmup_tries):
            prompt = self._prompt(state)
            trace = Trace(0.0)
            figures, problem = await self._ask(
                state, instance_id, prompt, min(cell.max_tokens, LIMITS.warmup_tokens), trace, None
            )
            if problem is None:
                break
            if attempt == LIMITS.warmup_tries - 1 or cell.prompt_tokens is None:
                raise _CellFailed(figures.outcome, figures.failure or "") from problem
            self._learn(writer, prompt, figures, problem)
        wanted, counted = cell.prompt_tokens, figures.prompt_tokens
        if wanted and counted and abs(counted - wanted) > LIMITS.length_tolerance_ratio * wanted:
            self._learn(writer, prompt, figures, None)  # else prompts stay as they are, in later visits too
        record = RunRecord(
            number=state.next_number(),
            measured_at=datetime.now(UTC),
            requests=(figures,),
            span_s=figures.e2e_s or 0.0,
            warmup=True,
        )
        state.warmups.append(record)
        self.journal.add(cell, record)
        state.teller.tell("warmup", run=record)

    @staticmethod
    def _learn(writer: PromptWriter, prompt: str, figures: RequestFigures, problem: LMStrixError | None) -> None:
        """A prompt that was too long teaches as well, where the server says how long it was."""
        counted = problem.prompt_tokens if isinstance(problem, ContextOverflowError) else figures.prompt_tokens
        if problem is not None and counted is None:
            raise _CellFailed(figures.outcome, figures.failure or "") from problem
        if counted is not None:
            writer.learn(prompt, counted)

    def _prompt(self, state: CellState) -> str:
        if state.cell.prompt_tokens is None:
            return state.writer.bare()
        return state.writer.filled(state.cell.prompt_tokens)

    async def _measure(self, state: CellState, instance_id: str, runs: int, until: float | None) -> None:
        """The runs of one visit, with idle spans before and after them where power is measured."""
        power = self._visit_power()
        await self._rest(state, power)
        latencies: list[float] = []
        failures = 0
        try:
            for _ in range(runs):
                spans = [run.span_s for run in state.runs]
                if until is not None and not has_time_for_another(until - power.rest_s - self.clock(), spans):
                    state.out_of_time = True
                    break
                # Before each run, not once: a machine that gets warmer gets slower at this too.
                for _ in range(1 if latencies else PROBES_FIRST):
                    latency_s = await self._latency(instance_id)
                    if latency_s is None:
                        break
                    latencies.append(latency_s)
                problem = await self._run_once(state, instance_id, latency_of(latencies), power)
                failures = failures + 1 if problem is not None else 0
                if isinstance(problem, _FATAL) or failures == LIMITS.failures_in_a_row:
                    failed = next(each for each in state.runs[-1].requests if each.failure is not None)
                    raise _CellFailed(failed.outcome, failed.failure or "") from problem
                if self._is_settled(state):
                    state.closed = True
                    break
            await self._rest(state, power)
        finally:
            self._look_back(state, power)

    def _look_back(self, state: CellState, power: VisitPower) -> None:
        """Give the runs what only shows when all are made: their energy, and the marks of answers unlike all others."""
        found = power.with_energy(state.runs)
        if self.request.temperature == 0:  # else chance makes answers differ
            found = with_difference_marks(found)
        for place, run in enumerate(found):
            if run != state.runs[place]:
                state.runs[place] = run
                self.journal.add(state.cell, run)

    async def _rest(self, state: CellState, power: VisitPower) -> None:
        """Let the machine be idle, where power is measured."""
        if self.power.measures:
            state.teller.tell("idle", text=f"measuring idle power for {self.request.idle_s:g} s")
            await power.rest()

    def _visit_power(self) -> VisitPower:
        return VisitPower(self.power, self.request.idle_s, self.clock)

    async def _latency(self, instance_id: str) -> float | None:
        """The time of one token after an almost empty prompt; None when it cannot be measured."""
        asked = GenerationRequest(max_tokens=1, temperature=0.0)
        raw_prompt = replace(asked, raw_prompt=_LEAST_PROMPT)
        chat = replace(asked, messages=(Message(role="user", text=nonce()),))
        for request in (raw_prompt, chat) if self._raw_prompts else (chat,):
            trace = Trace(0.0)
            try:
                await self._timer.trace(instance_id, request, trace)
            except (*_FATAL, StreamStalledError):
                return None  # the run that follows will tell
            except LMStrixError:
                if trace.ended_at is None:
                    continue
            self._raw_prompts = request is raw_prompt
            seen_at = trace.chunk_at[0] if trace.chunk_at else trace.ended_at
            return None if seen_at is None else seen_at - trace.sent_at
        return None

    async def _run_once(
        self, state: CellState, instance_id: str, latency: Latency | None, power: VisitPower
    ) -> LMStrixError | None:
        """One run of as many requests as the cell has at a time; the failure, if one of them failed."""
        cell = state.cell
        traces = [Trace(0.0) for _ in range(cell.concurrency)]
        moment = datetime.now(UTC)
        before = read_cpu(self.memory.engine)
        # All at once, and waited for together: a run is as long as its slowest request. One of them shows progress.
        answers = await asyncio.gather(
            *(
                self._ask(state, instance_id, self._prompt(state), cell.max_tokens, trace, latency, tell=place == 0)
                for place, trace in enumerate(traces)
            )
        )
        cpu = use_between(before, read_cpu(self.memory.engine))
        began_at = min(trace.sent_at for trace in traces)
        ended_at = max([trace.ended_at for trace in traces if trace.ended_at is not None], default=self.clock())
        span_s = ended_at - began_at
        figures = tuple(replace(each, marks=self._marks(each, cell, latency)) for each, _ in answers)
        produced = [each.completion_tokens for each in figures]
        counted = [tokens for tokens in produced if tokens is not None]
        record = RunRecord(
            number=state.next_number(),
            measured_at=moment,
            requests=figures,
            span_s=span_s,
            latency_s=latency.median_s if latency is not None else None,
            latency_scatter_s=latency.scatter_s if latency is not None else None,
            output_tokens_per_second=sum(counted) / span_s if len(counted) == len(produced) and span_s > 0 else None,
            cpu=cpu,
        )
        # With several requests some read while others answer, so energy cannot be split by phase.
        first = traces[0].chunk_at[0] if cell.concurrency == 1 and traces[0].chunk_at else None
        power.moments[record.number] = Moments(began_at, first, ended_at)
        state.runs.append(record)
        self.journal.add(cell, record)
        state.teller.tell("run", run=record)
        return next((problem for _, problem in answers if problem is not None), None)

    def _marks(self, figures: RequestFigures, cell: Cell, latency: Latency | None) -> tuple[Mark, ...]:
        """Why a request's figures are to be doubted."""
        found = marks_of(figures, cell, bandwidth_bytes_per_s=self.bandwidth_bytes_per_s)
        more = (prefill_mark(figures, latency), coherence_mark(figures))
        return (*found, *(mark for mark in more if mark is not None))

    async def _ask(
        self,
        state: CellState,
        instance_id: str,
        prompt: str,
        max_tokens: int,
        trace: Trace,
        latency: Latency | None,
        *,
        tell: bool = True,
    ) -> tuple[RequestFigures, LMStrixError | None]:
        request = GenerationRequest(
            messages=(Message(role="user", text=prompt),),
            max_tokens=max_tokens,
            temperature=self.request.temperature,
            seed=self.request.seed,
        )
        return await self._timer.measure(
            instance_id,
            request,
            trace,
            model_key=state.cell.target.model_key,
            latency=latency,
            progress=state.teller.progress if tell else None,
        )

    def _is_settled(self, state: CellState) -> bool:
        """Whether every rate is known closely enough."""
        width = self.request.stops_at_ratio
        series = series_of(tuple(state.runs))
        rates = [series[name] for name in _SETTLED_BY if name in series]
        return width is not None and bool(rates) and all(is_settled(values, width) for values in rates)


async def _unload(loads: LoadingBackend, instance_id: str) -> None:
    """Unload, also when a cancellation ends the visit; an instance that stays too long is left to its server."""
    with suppress(LMStrixError, TimeoutError):
        async with asyncio.timeout(LIMITS.unload_s):
            await loads.unload(instance_id)


def _label(ratio: float | None) -> FileCache | None:
    if ratio is None:
        return None
    return "cold" if ratio <= COLD_RATIO else "warm" if ratio >= WARM_RATIO else "partly cached"
