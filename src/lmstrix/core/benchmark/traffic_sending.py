"""Sends the requests of one stage, each when it is due whatever became of the earlier ones, and times them.

When the span is over nothing more is sent, and what is open gets as long again to finish (a minute at most): without
that wait the slowest requests would be missing from every figure. What has not finished by then is cut off and told.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.arrivals import poisson_arrivals
from lmstrix.core.benchmark.timing import Trace, figures_of
from lmstrix.core.benchmark.traffic_records import UNFINISHED, ServedRequest, TrafficStage
from lmstrix.core.context.verdict import outcome_of
from lmstrix.ground.errors import BackendUnavailableError, EngineCrashedError, LMStrixError, ModelUnloadedError
from lmstrix.ground.text import one_line
from lmstrix.ground.types import GenerationRequest, Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.benchmark.measuring import RequestTimer
    from lmstrix.core.benchmark.records import BenchRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingLimits:
    """What a stage goes by."""

    alone_requests: int = 5  # one at a time: a median, and little time beside the stages that follow
    most_open: int = 256  # llama.cpp's most slots; beyond, sockets and this client would be what is measured
    most_wait_s: float = 60.0  # a queue longer than that is told as well by what did not finish
    tell_every_s: float = 0.25


LIMITS = SendingLimits()
_FATAL = (EngineCrashedError, ModelUnloadedError, BackendUnavailableError)


def longest_wait_s(span_s: float) -> float:
    """How long the open requests of a stage may take to finish after its span."""
    return min(span_s, LIMITS.most_wait_s)


@dataclass(slots=True)
class _Sent:
    due_at: float
    trace: Trace
    outcome: str = "ok"
    failure: str | None = None
    ended_at: float | None = None


@dataclass(slots=True, kw_only=True)
class StageSender:
    """Sends to one loaded model. `tell` hears how many were sent, how many are open, and how much of the span is over
    (None: it is over, and the open ones are waited for). `gone`: nobody will answer any more.
    `until` is when a time budget ends, on the timer's clock.
    """

    timer: RequestTimer
    instance_id: str
    model_key: str
    request: BenchRequest
    max_tokens: int
    prompt: Callable[[], str]
    tell: Callable[[int, int, float | None], None]
    rate_per_s: float | None = None
    gone: bool = False
    until: float | None = None
    _began_at: float = 0.0
    _started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _sent: list[_Sent] = field(default_factory=list)

    async def ask(self, max_tokens: int) -> tuple[str, Trace]:
        """One request that is part of no stage; what was asked and what came. Raises what the stream raises."""
        prompt, trace = self.prompt(), Trace(0.0)
        await self.timer.trace(self.instance_id, self._asked(prompt, max_tokens), trace, model_key=self.model_key)
        return prompt, trace

    async def one_at_a_time(self) -> TrafficStage:
        """A few requests, each after the end of the one before."""
        self._begin(None)
        for number in range(LIMITS.alone_requests):
            self.tell(number, 1, number / LIMITS.alone_requests)
            sent = self._due(self._clock())
            await self._send(sent)
            if sent.failure is not None or (self.until is not None and self._clock() >= self.until):
                break
        return self.so_far()

    async def at_rate(self, rate_per_s: float, span_s: float) -> TrafficStage:
        """Requests that arrive at this rate for so long."""
        self._begin(rate_per_s)
        arrivals = poisson_arrivals(rate_per_s, span_s, seed=self.request.seed)
        tasks: set[asyncio.Task[None]] = set()
        cut: str | None = None
        not_sent = 0
        wait_s = longest_wait_s(span_s)
        try:
            for offset in arrivals:
                await self._until(offset, tasks, span_s)
                if self.gone:
                    cut, span_s = "the model is gone, and sending ended early", self._clock() - self._began_at
                    break
                if len(tasks) >= LIMITS.most_open:
                    not_sent += 1
                    continue
                task = asyncio.create_task(self._send(self._due(self._began_at + offset)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            else:
                await self._until(span_s, tasks, span_s)
            await self._finish(tasks, wait_s)
        finally:
            await _cut_off(tasks)
        return self._stage(span_s, cut=cut, not_sent=not_sent)

    def so_far(self) -> TrafficStage:
        """The stage as it stands, as if it ended now: for one at a time, and after an interrupt."""
        return self._stage(self._clock() - self._began_at)

    def _begin(self, rate_per_s: float | None) -> None:
        self.rate_per_s, self._sent = rate_per_s, []
        self._began_at, self._started_at = self._clock(), datetime.now(UTC)

    def _clock(self) -> float:
        return self.timer.clock()

    def _due(self, due_at: float) -> _Sent:
        sent = _Sent(due_at=due_at, trace=Trace(self._clock()))
        self._sent.append(sent)
        return sent

    async def _send(self, sent: _Sent) -> None:
        asked = self._asked(self.prompt(), self.max_tokens)
        try:
            await self.timer.trace(self.instance_id, asked, sent.trace, model_key=self.model_key)
        except LMStrixError as exc:
            sent.outcome, sent.failure = str(outcome_of(exc, "prefill")), one_line(exc)
            self.gone = self.gone or isinstance(exc, _FATAL)
        except asyncio.CancelledError:
            sent.outcome = UNFINISHED
            raise
        finally:
            sent.ended_at = self._clock()

    def _asked(self, prompt: str, max_tokens: int) -> GenerationRequest:
        return GenerationRequest(
            messages=(Message(role="user", text=prompt),),
            max_tokens=max_tokens,
            temperature=self.request.temperature,
            seed=self.request.seed,
        )

    async def _until(self, offset_s: float, tasks: set[asyncio.Task[None]], span_s: float) -> None:
        """Sleep until so long after the stage's beginning, telling now and then how far it is."""
        while (left_s := self._began_at + offset_s - self._clock()) > 0:
            self.tell(len(self._sent), len(tasks), (self._clock() - self._began_at) / span_s)
            await asyncio.sleep(min(left_s, LIMITS.tell_every_s))

    async def _finish(self, tasks: set[asyncio.Task[None]], wait_s: float) -> None:
        until = self._clock() + wait_s
        while tasks and (left_s := until - self._clock()) > 0:
            self.tell(len(self._sent), len(tasks), None)
            await asyncio.wait(tasks, timeout=min(left_s, LIMITS.tell_every_s))

    def _stage(self, span_s: float, *, cut: str | None = None, not_sent: int = 0) -> TrafficStage:
        return TrafficStage(
            rate_per_s=self.rate_per_s,
            started_at=self._started_at,
            span_s=span_s,
            requests=tuple(self._served(sent, span_s) for sent in self._sent),
            cut=cut,
            not_sent=not_sent,
        )

    def _served(self, sent: _Sent, span_s: float) -> ServedRequest:
        trace, began_at = sent.trace, self._began_at
        figures = figures_of(trace, requested_tokens=self.max_tokens)
        ended_at = sent.ended_at if sent.ended_at is not None else self._clock()
        return ServedRequest(
            due_s=sent.due_at - began_at,
            sent_s=trace.sent_at - began_at,
            ended_s=ended_at - began_at,
            ttft_s=figures.ttft_s,
            itl_s=figures.itl_s,
            e2e_s=figures.e2e_s,
            prompt_tokens=figures.prompt_tokens,
            completion_tokens=figures.completion_tokens,
            tokens_in_span=_tokens_until(trace, figures.completion_tokens, began_at + span_s),
            # One that an interrupt left open has no end of its own.
            outcome=sent.outcome if sent.ended_at is not None else UNFINISHED,
            failure=sent.failure,
        )


def _tokens_until(trace: Trace, completion_tokens: int | None, until: float) -> int | None:
    """How many tokens had come by then: by the pieces' own counts, else as many of the server's as pieces had come."""
    come = [tokens for at, tokens in zip(trace.chunk_at, trace.chunk_tokens, strict=True) if at <= until]
    if any(trace.chunk_tokens):
        return sum(come)
    if completion_tokens is None:
        return None
    return round(completion_tokens * len(come) / len(trace.chunk_at)) if trace.chunk_at else 0


async def _cut_off(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel what is still open, and wait until the server's side of it is closed too."""
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
