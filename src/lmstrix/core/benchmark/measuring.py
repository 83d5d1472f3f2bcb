"""The server to measure, and one request streamed and timed: events get their times as they arrive, figures come later.

Nothing else happens between two events, except that a display is told a few times per second how far the request is.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lmstrix.core.answers.streaming import StreamingManager, Streams
from lmstrix.core.benchmark.timing import Trace, figures_of
from lmstrix.core.context.verdict import Outcome, outcome_of
from lmstrix.ground.errors import EmptyAnswerError, GenerationError, LMStrixError
from lmstrix.ground.text import one_line
from lmstrix.ground.types import Finished, GenerationRequest, PromptProgress, TextDelta

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lmstrix.core.benchmark.latency import Latency
    from lmstrix.core.benchmark.records import BenchTarget, RequestFigures
    from lmstrix.ground.backend import LoadProgress, ModelBackend
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import Deadlines, LoadedModel, StreamEvent

MOST_ANSWER_CHARS = 16 * 2**20
"""A server that sends more than this has ceased to obey the limit it was given."""
_TELL_EVERY_S = 0.25
_WHILE_ANSWERING: dict[str, str] = {
    Outcome.PREFILL_FAILED: "answer failed",
    Outcome.DIED_AT_PREFILL: "engine died while answering",
}


class LoadingBackend(Protocol):
    """The part of a backend that loads models, where the server does not do it by itself."""

    async def load(
        self,
        model_key: str,
        config: LoadConfig,
        *,
        instance_id: str,
        ttl_s: float | None = None,
        deadlines: Deadlines | None = None,
        on_progress: LoadProgress | None = None,
    ) -> LoadedModel: ...

    async def unload(self, instance_id: str) -> None: ...


class Progress(Protocol):
    """Told how far a request is: the share of the prompt that was read, or the tokens so far and their rate."""

    def __call__(
        self, *, prompt_ratio: float | None = None, tokens: int | None = None, tokens_per_second: float | None = None
    ) -> None: ...


class PowerMoments(Protocol):
    """The part of a power sampler that reads at moments that matter."""

    def sample(self) -> None: ...

    def sample_soon(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchServer:
    """The server to measure. `loads` None: the server loads models by itself, and there are no load times.

    `engine` names the kind in stored results ("lmstudio", "embedded", "openai"); `address` is host:port;
    `runtime` is what runs the models, where the server says so. `room` tells the longest context of a target that
    leaves free what the user wants free, None where nobody knows; it is None where nothing is to stay free.
    """

    streams: Streams
    loads: LoadingBackend | None
    engine: str
    address: str
    version: str | None = None
    runtime: str | None = None
    room: Callable[[BenchTarget, LoadConfig], Awaitable[int | None]] | None = None

    @classmethod
    def of(cls, backend: ModelBackend) -> BenchServer:
        """LM Studio or the embedded engine."""
        server = backend.server
        return cls(
            streams=backend,
            loads=backend,
            engine=server.engine,
            address=server.address,
            version=server.version,
            runtime=server.runtime,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTimer:
    """Streams requests to one server, within its deadlines, and times them.

    `power` is read when a request is sent, at its first token and at its end; None where nothing can be read.
    """

    streams: Streams
    deadlines: Deadlines
    clock: Callable[[], float] = time.perf_counter
    power: PowerMoments | None = None

    async def trace(
        self,
        instance_id: str,
        request: GenerationRequest,
        trace: Trace,
        *,
        model_key: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Stream one request into `trace`. Raises what the stream raises, EmptyAnswerError for a silent success."""
        chars = 0
        clock, power = self.clock, self.power
        if power is not None:
            power.sample()  # before the moment of sending: reading takes a little time
        told_at = trace.sent_at = clock()
        events = StreamingManager(self.streams).events(
            instance_id, request, deadlines=self.deadlines, model_key=model_key
        )
        async with aclosing(events):
            async for event in events:
                now = clock()  # before anything else is done with the event: this moment is what is measured
                if trace.first_event_at is None:
                    trace.first_event_at = now
                if isinstance(event, TextDelta):
                    if power is not None and not trace.chunk_at:
                        power.sample_soon()
                    trace.chunk_at.append(now)
                    trace.chunk_tokens.append(event.tokens)
                    if trace.first_answer_at is None and event.text and not (event.reasoning or event.structural):
                        trace.first_answer_at = now
                    chars += len(event.text)
                    if chars > MOST_ANSWER_CHARS:
                        raise GenerationError(
                            f"the answer grew beyond {MOST_ANSWER_CHARS:,} characters and was cancelled; "
                            "the server ignores the limit it was given"
                        )
                elif isinstance(event, Finished):
                    trace.ended_at, trace.result = now, event.result
                    if power is not None:
                        power.sample()
                if progress is not None and now - told_at >= _TELL_EVERY_S:
                    told_at = now
                    _tell(progress, event, trace, now)
        if trace.result is not None and not (trace.chunk_at or trace.result.stats.completion_tokens):
            raise EmptyAnswerError("the server reported success and sent nothing; look at its log")

    async def measure(
        self,
        instance_id: str,
        request: GenerationRequest,
        trace: Trace,
        *,
        model_key: str,
        latency: Latency | None,
        progress: Progress | None = None,
    ) -> tuple[RequestFigures, LMStrixError | None]:
        """The figures of one request. They name a failure, which is also returned to whoever has to act on it."""
        requested = request.max_tokens or 0
        try:
            await self.trace(instance_id, request, trace, model_key=model_key, progress=progress)
        except LMStrixError as exc:
            outcome: str = outcome_of(exc, "prefill")
            # Tokens came, so the prompt had been read: the failure is one of answering.
            if trace.chunk_at:
                outcome = _WHILE_ANSWERING.get(outcome, outcome)
            figures = figures_of(trace, requested_tokens=requested, outcome=outcome, failure=one_line(exc))
            return figures, exc
        return figures_of(trace, requested_tokens=requested, latency=latency), None


def _tell(progress: Progress, event: StreamEvent, trace: Trace, now: float) -> None:
    if isinstance(event, PromptProgress):
        progress(prompt_ratio=event.ratio)
    elif trace.chunk_at and now > trace.chunk_at[0]:
        tokens = sum(trace.chunk_tokens) or len(trace.chunk_at)
        progress(tokens=tokens, tokens_per_second=(tokens - 1) / (now - trace.chunk_at[0]))
