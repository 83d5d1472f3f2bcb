"""One visit to one cell: load an instance of our own, warm it up, make some runs, unload it.

While warming up, the prompt writer learns from the server's counts how long prompts are in tokens. Before each run one
short raw prompt is sent for one token: its time is the latency that prefill rates are cleared of, and it leaves nothing
of use in the server's prompt cache. Where power is measured the machine rests before the first run and after the last,
with the model loaded. What goes wrong becomes the cell's outcome, and what was measured before stays.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.energy import LEAST_PERIODS, energy_of_run, idle_power_w
from lmstrix.core.benchmark.file_cache import COLD_RATIO, WARM_RATIO, cached_ratio, drop_cached
from lmstrix.core.benchmark.measuring import BenchServer, LoadingBackend, RequestTimer
from lmstrix.core.benchmark.plan import has_time_for_another
from lmstrix.core.benchmark.prompts import SAMPLE_CHARS, PromptWriter, nonce
from lmstrix.core.benchmark.records import (
    BENCH_PREFIX,
    BenchRequest,
    FileCache,
    LoadRecord,
    Mark,
    RequestFigures,
    RunRecord,
    series_of,
)
from lmstrix.core.benchmark.stats import is_settled
from lmstrix.core.benchmark.suspicion import marks_of
from lmstrix.core.benchmark.timing import Trace
from lmstrix.core.context.verdict import outcome_of
from lmstrix.ground.errors import (
    BackendUnavailableError,
    ContextOverflowError,
    EngineCrashedError,
    LMStrixError,
    ModelUnloadedError,
    StreamStalledError,
)
from lmstrix.ground.text import one_line
from lmstrix.ground.types import GenerationRequest, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.benchmark.cell_state import CellState
    from lmstrix.core.benchmark.memory_sampler import MemoryReading, MemorySampler
    from lmstrix.core.benchmark.power import PowerSampler
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


@dataclass(frozen=True, slots=True)
class _Moments:
    """When a run happened, on the clock of the power readings."""

    sent_at: float
    first_token_at: float | None
    ended_at: float


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
        self._timer = RequestTimer(streams=self.server.streams, deadlines=self.request.deadlines, clock=self.clock)

    async def visit(self, state: CellState, runs: int, share_s: float | None) -> None:
        """Load, warm up, make up to `runs` runs within `share_s` seconds, unload."""
        until = None if share_s is None else self.clock() + share_s
        # The last model's peak would else be this one's.
        self.memory.restart()
        baseline = await self._read_memory()
        loads, instance_id = self.server.loads, state.cell.target.model_key
        try:
            if loads is None:
                await self._use(state, instance_id, runs, until, baseline)
                return
            instance_id = await self._load(loads, state)
            try:
                await self._use(state, instance_id, runs, until, baseline)
            finally:
                await _unload(loads, instance_id)
        except _CellFailed as failed:
            state.outcome, state.reason, state.closed = failed.outcome, failed.reason, True

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
        instance_id = f"{BENCH_PREFIX}{self.session[:8]}-{state.number}-{len(state.loads) + 1}"
        config = replace(
            request.load_of(cell.target), context_length=cell.context_length, parallel_slots=cell.concurrency
        )
        state.teller.tell("load", ratio=0.0)
        began, moment = self.clock(), datetime.now(UTC)
        try:
            loaded = await loads.load(
                cell.target.model_key,
                config,
                instance_id=instance_id,
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
        idle = [span] if (span := await self._idle(state)) else []
        latencies: list[float] = []
        moments: dict[int, _Moments] = {}
        failures = 0
        try:
            for _ in range(runs):
                spans = [run.span_s for run in state.runs]
                if until is not None and not has_time_for_another(until - self.clock(), spans):
                    state.out_of_time = True
                    break
                # Before each run, not once: a machine that gets warmer gets slower at this too.
                latency_s = await self._latency(instance_id)
                if latency_s is not None:
                    latencies.append(latency_s)
                problem = await self._run_once(state, instance_id, median(latencies) if latencies else None, moments)
                failures = failures + 1 if problem is not None else 0
                if isinstance(problem, _FATAL) or failures == LIMITS.failures_in_a_row:
                    failed = next(each for each in state.runs[-1].requests if each.failure is not None)
                    raise _CellFailed(failed.outcome, failed.failure or "") from problem
                if self._is_settled(state):
                    state.closed = True
                    break
            if span := await self._idle(state):
                idle.append(span)
        finally:
            self._add_energy(state, moments, idle)

    async def _idle(self, state: CellState) -> tuple[float, float] | None:
        """Let the machine be idle, with the model loaded, for as long as asked; the span."""
        if not self.power.measures:
            return None
        state.teller.tell("idle", text=f"measuring idle power for {self.request.idle_s:g} s")
        begin, period_s = self.clock(), self.power.period_s
        rest_s = max(self.request.idle_s, (LEAST_PERIODS + 1) * period_s)
        await asyncio.sleep(rest_s + 2 * period_s)  # so that readings lie on both sides of its end
        return begin, begin + rest_s

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
        self, state: CellState, instance_id: str, latency_s: float | None, moments: dict[int, _Moments]
    ) -> LMStrixError | None:
        """One run of as many requests as the cell has at a time; the failure, if one of them failed."""
        cell = state.cell
        traces = [Trace(0.0) for _ in range(cell.concurrency)]
        moment = datetime.now(UTC)
        # All at once, and waited for together: a run is as long as its slowest request. One of them shows progress.
        answers = await asyncio.gather(
            *(
                self._ask(state, instance_id, self._prompt(state), cell.max_tokens, trace, latency_s, tell=place == 0)
                for place, trace in enumerate(traces)
            )
        )
        began_at = min(trace.sent_at for trace in traces)
        ended_at = max([trace.ended_at for trace in traces if trace.ended_at is not None], default=self.clock())
        span_s = ended_at - began_at
        figures = tuple(
            replace(each, marks=marks_of(each, cell, bandwidth_bytes_per_s=self.bandwidth_bytes_per_s))
            for each, _ in answers
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
        # With several requests some read while others answer, so energy cannot be split by phase.
        first = traces[0].chunk_at[0] if cell.concurrency == 1 and traces[0].chunk_at else None
        moments[record.number] = _Moments(began_at, first, ended_at)
        state.runs.append(record)
        self.journal.add(cell, record)
        state.teller.tell("run", run=record)
        return next((problem for _, problem in answers if problem is not None), None)

    async def _ask(
        self,
        state: CellState,
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
            temperature=self.request.temperature,
            seed=self.request.seed,
        )
        return await self._timer.measure(
            instance_id,
            request,
            trace,
            model_key=state.cell.target.model_key,
            latency_s=latency_s,
            progress=state.teller.progress if tell else None,
        )

    def _is_settled(self, state: CellState) -> bool:
        """Whether every rate is known closely enough."""
        width = self.request.stops_at_ratio
        series = series_of(tuple(state.runs))
        rates = [series[name] for name in _SETTLED_BY if name in series]
        return width is not None and bool(rates) and all(is_settled(values, width) for values in rates)

    def _add_energy(self, state: CellState, moments: dict[int, _Moments], idle: list[tuple[float, float]]) -> None:
        """Give this visit's runs their energy, now that the readings around them are in."""
        if not self.power.measures or not moments:
            return
        readings = self.power.series()
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
                self.journal.add(state.cell, state.runs[place])
        # Hours of readings ten times per second would add up; those before now belong to runs already done.
        self.power.forget(self.clock())


async def _unload(loads: LoadingBackend, instance_id: str) -> None:
    """Unload, also when a cancellation ends the visit; an instance that stays too long is left to its server."""
    with suppress(LMStrixError, TimeoutError):
        async with asyncio.timeout(LIMITS.unload_s):
            await loads.unload(instance_id)


def _label(ratio: float | None) -> FileCache | None:
    if ratio is None:
        return None
    return "cold" if ratio <= COLD_RATIO else "warm" if ratio >= WARM_RATIO else "partly cached"


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
