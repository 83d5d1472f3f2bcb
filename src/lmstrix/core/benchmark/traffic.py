"""A test of traffic: each model loaded once, asked one at a time, then at each rate; nothing found is lost.

Requests one at a time come first: they are what queueing is held against, and where a sweep begins. A sweep raises the
rate until the server no longer keeps up. Models are measured in turn, never two at once.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmstrix.core.benchmark import plan, saturation
from lmstrix.core.benchmark.loading import load_of_cell
from lmstrix.core.benchmark.measuring import RequestTimer
from lmstrix.core.benchmark.prompts import SAMPLE_CHARS, PromptWriter
from lmstrix.core.benchmark.session_names import new_session
from lmstrix.core.benchmark.traffic_events import TrafficEvent
from lmstrix.core.benchmark.traffic_records import TrafficReport, TrafficRequest, TrafficResult, TrafficStage
from lmstrix.core.benchmark.traffic_sending import StageSender, longest_wait_s
from lmstrix.core.benchmark.visit import instance_prefix
from lmstrix.core.context.attempts import TIME_TO_LIVE_S
from lmstrix.core.context.verdict import outcome_of
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.headroom import NAME
from lmstrix.ground.text import one_line
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.benchmark.measuring import BenchServer, LoadingBackend
    from lmstrix.core.benchmark.records import BenchTarget, Cell
    from lmstrix.core.benchmark.traffic_events import EventKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficLimits:
    """How long things take."""

    least_span_s: float = 30.0  # shorter, and one slow moment of the machine is a large part of it
    requests: int = 30  # ten in each third of a span, which is what saturation is told by
    warmup_tokens: int = 32  # as in a benchmark
    unload_s: float = 15.0  # as in a benchmark


LIMITS = TrafficLimits()
_OUT_OF_TIME = "the time budget was spent"


def span_of(request: TrafficRequest, rate_per_s: float) -> float:
    """How long a stage sends, in seconds."""
    if request.span_s is not None:
        return request.span_s
    return max(LIMITS.least_span_s, LIMITS.requests / rate_per_s)


@dataclass(slots=True)
class _Model:
    """A model while it is measured."""

    cell: Cell
    number: int
    writer: PromptWriter
    outcome: str | None = None
    reason: str = ""
    load_s: float | None = None
    context_length: int | None = None
    stages: list[TrafficStage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sender: StageSender | None = None

    def prompt(self) -> str:
        tokens = self.cell.prompt_tokens
        return self.writer.bare() if tokens is None else self.writer.filled(tokens)

    def result(self, default: str) -> TrafficResult:
        return TrafficResult(
            cell=self.cell,
            outcome=self.outcome or default,
            reason=self.reason,
            load_s=self.load_s,
            context_length=self.context_length,
            stages=tuple(self.stages),
            notes=tuple(self.notes),
        )


class TrafficTest:
    """One test. `report()` may be asked for at any time, after an interrupt too. `on_event` must be quick."""

    def __init__(
        self,
        server: BenchServer,
        targets: Sequence[BenchTarget],
        request: TrafficRequest,
        *,
        host: str | None = None,
        on_event: Callable[[TrafficEvent], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        check(request)
        self.interrupted = False
        self._server = server
        self._request = request
        self._on_event = on_event or (lambda _event: None)
        self._clock = clock
        self._until: float | None = None
        cells = plan.plan_cells(targets, request.bench, loads=server.loads is not None)
        self._models = [
            _Model(
                cell=cell,
                number=number,
                writer=PromptWriter.of(request.bench, filled=cell.prompt_tokens is not None),
                outcome="skipped" if cell.skipped is not None else None,
                reason=cell.skipped or "",
            )
            for number, cell in enumerate(cells, 1)
        ]
        self._header = TrafficReport(
            session=new_session(),
            started_at=datetime.now(UTC),
            request=request,
            results=(),
            server=f"{server.engine} at {server.address}",
            server_version=server.version,
            host=host,
        )

    @property
    def instance_prefix(self) -> str:
        """What the names of its instances begin with."""
        return instance_prefix(self._header.session)

    def report(self) -> TrafficReport:
        """Everything measured so far."""
        default = "interrupted" if self.interrupted else "not reached"
        results = tuple(model.result(default) for model in self._models)
        return replace(self._header, results=results, interrupted=self.interrupted)

    async def run(self) -> TrafficReport:
        """Measure everything. A cancellation passes on, after our model is unloaded."""
        budget_s = self._request.bench.budget_s
        self._until = None if budget_s is None else self._clock() + budget_s
        try:
            for model in self._models:
                if model.outcome is None:
                    await self._measure(model)
        except asyncio.CancelledError:
            self.interrupted = True
            raise
        return self.report()

    async def _measure(self, model: _Model) -> None:
        if self._until is not None and self._clock() >= self._until:
            model.reason = _OUT_OF_TIME
            return
        loads, instance_id = self._server.loads, model.cell.target.model_key
        try:
            if loads is None:
                await self._use(model, instance_id)
                return
            instance_id = await self._load(loads, model)
            try:
                await self._use(model, instance_id)
            finally:
                with suppress(LMStrixError, TimeoutError):
                    async with asyncio.timeout(LIMITS.unload_s):
                        await loads.unload(instance_id)
        except LMStrixError as exc:
            loading = loads is not None and model.load_s is None
            model.outcome, model.reason = str(outcome_of(exc, "load" if loading else "prefill")), one_line(exc)

    async def _load(self, loads: LoadingBackend, model: _Model) -> str:
        cell, bench = model.cell, self._request.bench
        instance_id = f"{self.instance_prefix}{model.number}"
        self._tell(model, "load", ratio=0.0)
        config = await load_of_cell(self._server, cell, bench.load)
        began = self._clock()
        loaded = await loads.load(
            cell.target.model_key,
            config,
            instance_id=instance_id,
            ttl_s=TIME_TO_LIVE_S,
            deadlines=bench.deadlines,
            on_progress=lambda ratio: self._tell(model, "load", ratio=ratio),
        )
        model.load_s, model.context_length = self._clock() - began, loaded.context_length
        if config.context_length != cell.context_length:
            model.notes.append(f"loaded with {loaded.context_length:,} tokens, which leaves free what {NAME} keeps")
        return instance_id

    async def _use(self, model: _Model, instance_id: str) -> None:
        """All that happens with the model loaded."""
        bench = self._request.bench
        sender = model.sender = StageSender(
            timer=RequestTimer(streams=self._server.streams, deadlines=bench.deadlines, clock=self._clock),
            instance_id=instance_id,
            model_key=model.cell.target.model_key,
            request=bench,
            max_tokens=model.cell.max_tokens,
            prompt=model.prompt,
            until=self._until,
            tell=lambda sent, open_, ratio: self._tell(
                model, "sending" if ratio is not None else "waiting", ratio=ratio, sent=sent, open_=open_
            ),
        )
        self._tell(model, "warmup")
        await self._warm_up(model, sender)
        alone = await self._stage(model, sender, None)
        failed = next((one for one in alone.requests if one.failure is not None), None)
        if failed is not None:
            model.outcome, model.reason = failed.outcome, failed.failure or ""
            return
        # Of the answers' own times: between two of them this client takes a moment too.
        busy_s = sum(one.e2e_s or 0.0 for one in alone.requests)
        await self._rates(model, sender, len(alone.requests) / busy_s if busy_s > 0 else 1.0)
        if model.outcome is None:
            reached = len(model.stages) > 1
            model.outcome, model.reason = ("ok", "") if reached else ("not reached", _OUT_OF_TIME)

    async def _warm_up(self, model: _Model, sender: StageSender) -> None:
        """Requests that are not counted: one that teaches how many tokens prompts have, one for the kernels' sake."""
        wanted = model.cell.prompt_tokens
        if wanted is not None:
            sender.prompt = lambda: model.writer.of_chars(min(SAMPLE_CHARS, round(wanted * 0.9)))
            prompt, trace = await sender.ask(1)
            counted = trace.result.stats.prompt_tokens if trace.result is not None else None
            if counted is not None:
                model.writer.learn(prompt, counted)
            sender.prompt = model.prompt
        prompt, trace = await sender.ask(min(model.cell.max_tokens, LIMITS.warmup_tokens))
        counted = trace.result.stats.prompt_tokens if trace.result is not None else None
        if wanted is not None and counted is not None:
            model.writer.learn(prompt, counted)

    async def _rates(self, model: _Model, sender: StageSender, alone_per_s: float) -> None:
        """The stages at a rate: those asked for, or those a sweep finds."""
        asked = list(self._request.rates_per_s)
        while True:
            rate = saturation.next_rate(alone_per_s, model.stages) if self._request.sweep else next(iter(asked), None)
            if rate is None:
                return
            span_s = span_of(self._request, rate)
            # With the wait for its last requests: cut off for the budget's sake, they would look like the server's.
            most_s = span_s + longest_wait_s(span_s)
            if self._until is not None and self._clock() + most_s > self._until:
                left = [rate] if self._request.sweep else asked
                rates = ", ".join(f"{each:.3g}" for each in left)
                model.notes.append(f"not reached: {rates} per second: {_OUT_OF_TIME}")
                return
            stage = await self._stage(model, sender, rate, span_s)
            asked = asked[1:]
            failed = [one for one in stage.requests if one.failure is not None]
            # A server that is gone, or refuses everything, fails every later request alike: that measures nothing.
            if failed and (sender.gone or len(failed) == len(stage.requests)):
                model.outcome, model.reason = failed[-1].outcome, failed[-1].failure or ""
                return

    async def _stage(
        self, model: _Model, sender: StageSender, rate_per_s: float | None, span_s: float = 0.0
    ) -> TrafficStage:
        try:
            stage = await (sender.one_at_a_time() if rate_per_s is None else sender.at_rate(rate_per_s, span_s))
        except asyncio.CancelledError:
            # What was measured of the stage until now is worth keeping.
            model.stages.append(replace(sender.so_far(), interrupted=True))
            raise
        model.stages.append(stage)
        self._tell(model, "stage", stage=stage)
        return stage

    def _tell(
        self,
        model: _Model,
        kind: EventKind,
        *,
        ratio: float | None = None,
        sent: int = 0,
        open_: int = 0,
        stage: TrafficStage | None = None,
    ) -> None:
        self._on_event(
            TrafficEvent(
                kind=kind,
                model_key=model.cell.target.model_key,
                number=model.number,
                models=len(self._models),
                ratio=ratio,
                rate_per_s=model.sender.rate_per_s if model.sender is not None else None,
                sent=sent,
                open=open_,
                stage=stage,
            )
        )


def check(request: TrafficRequest) -> None:
    """Refuse what makes no sense, before anything is loaded."""
    if bool(request.rates_per_s) == request.sweep:
        raise UsageError(f"traffic needs rates or a sweep, not both ({parameter('rate')} or {parameter('sweep')})")
    if len(request.bench.concurrency) != 1 or len(request.bench.tiers) != 1:
        raise UsageError(
            f"traffic loads a model once: give one {parameter('concurrency')} and one of {parameter('tiers')}"
        )
