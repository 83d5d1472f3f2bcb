"""One prediction as its reader sees it: events as they come, a regular end on request, figures at the end.

The work (`Generation`) runs in a task of its own and hands events over; whoever iterates may be slow, may leave, or may
ask for a regular end with `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.client import LlamaGoneError, LlamaRefusalError
from lmstrix.engine.llama.events import garbled_call_fault, stats_of
from lmstrix.engine.llama.generation import Generation, GenerationEnd, is_context_full, refusal_fault
from lmstrix.engine.records import (
    FragmentEvent,
    PredictionDone,
    PredictionEvent,
    PredictionStats,
    PromptProgressEvent,
    ToolCallArgumentEvent,
    ToolCallFailedEvent,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine.llama.events import CompletionReader, ToolStreamReader
    from lmstrix.engine.llama.model import LlamaModel
    from lmstrix.engine.llama.tally import Turn
    from lmstrix.engine.records import LogType, PredictionInput
    from lmstrix.engine.uploads import FileStore
    from lmstrix.ground.types import StopReason

_HEARTBEAT_S = 10.0
"""How often the last prompt progress is repeated: clients give up after 60 s without a message."""
_MERGED_TEXT = 4096
"""Characters up to which text that waits for a slow reader is joined into one event."""


class Prediction:
    """An asynchronous iterator of events, ending with `PredictionDone` or raising `EngineFault`.

    Cancelling the iteration, or `aclose`, stops llama.cpp and ends without `PredictionDone`.
    """

    def __init__(
        self,
        model: LlamaModel,
        request: PredictionInput,
        files: FileStore | None,
        log: Callable[[LogType, str, PredictionStats | None], None],
    ) -> None:
        self._model = model
        self._generation = Generation(model, request, files, self._emit)
        self._log = log
        self._turn: Turn | None = None
        self._started_at = time.perf_counter()
        self._first_at: float | None = None
        self._last_at: float | None = None
        self._stop_reason: StopReason | None = None
        self._output: list[str] = []
        self._events: deque[PredictionEvent] = deque()
        self._progress: PromptProgressEvent | None = None
        self._fault: EngineFault | None = None
        self._wake = asyncio.Event()
        self._finished = False
        self._ended = False
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._on_end)

    def __aiter__(self) -> Prediction:
        return self

    async def __anext__(self) -> PredictionEvent:
        while not self._events:
            if self._ended:
                if self._fault is not None:
                    fault, self._fault = self._fault, None
                    raise fault
                raise StopAsyncIteration
            await self._wait()
        return self._events.popleft()

    async def _wait(self) -> None:
        """Wait for events; while the prompt is processed, no longer than a heartbeat."""
        self._wake.clear()
        try:
            if self._first_at is not None:
                await self._wake.wait()
                return
            async with asyncio.timeout(_HEARTBEAT_S):
                await self._wake.wait()
        except TimeoutError:
            if self._progress is not None:
                self._events.append(self._progress)
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    def stop(self, reason: StopReason = "userStopped") -> None:
        """End regularly: what was generated stays, and `PredictionDone` says `reason`."""
        if not self._ended:
            self._stop_reason = reason
            self._task.cancel()

    async def aclose(self) -> None:
        """Stop llama.cpp and forget the rest."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, EngineFault):
            await self._task
        self._events.clear()
        self._fault = None

    async def _run(self) -> None:
        with self._model.slots.request(on_unload=lambda: self.stop("modelUnloaded")) as turn:
            self._turn = turn
            try:
                self._finish(await self._generate(turn))
            except LlamaRefusalError as exc:
                if self._first_at is None or not is_context_full(exc):
                    raise refusal_fault(exc, self._model.context_length) from exc
                # Slots that share a context can fill it together.
                self._finish(GenerationEnd(stop_reason="contextLengthReached"))
            except LlamaGoneError as exc:
                raise await self._model.gone_fault() from exc

    async def _generate(self, turn: Turn) -> GenerationEnd:
        prompt = await self._generation.prepare()
        self._log("llm.prediction.input", prompt.text, None)
        tokens = None if prompt.tokens is None else self._generation.fitted(prompt.tokens)
        if tokens is not None:
            # Before the slot is there: a client that queues sees that it was heard, and how long its prompt is.
            self._emit([PromptProgressEvent(total_tokens=len(tokens), cached_tokens=0, processed_tokens=0)])
        async with self._model.slots.slot(turn):
            return await self._generation.run(prompt, tokens)

    def _emit(self, events: list[PredictionEvent]) -> None:
        for event in events:
            if isinstance(event, PromptProgressEvent):
                self._progress = event
                if self._turn is not None:
                    self._turn.process(event)
            elif self._first_at is None:
                self._first_at = time.perf_counter()
                if self._turn is not None:
                    self._turn.status = "generating"
            if isinstance(event, FragmentEvent):
                self._output.append(event.text)
            if self._turn is not None:
                self._turn.generate(_tokens_of(event))
            last = self._events[-1] if self._events else None
            if isinstance(last, FragmentEvent) and isinstance(event, FragmentEvent) and _mergeable(last, event):
                self._events[-1] = _merged(last, event)
            else:
                self._events.append(event)
        if events:
            self._last_at = time.perf_counter()
            self._wake.set()

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """End the events, however the task ended."""
        if task.cancelled():
            if self._stop_reason is not None:
                self._finish(GenerationEnd(stop_reason=self._stop_reason))
        elif (error := task.exception()) is not None:
            self._fault = (
                error if isinstance(error, EngineFault) else EngineFault(f"Internal error: {error!r}", kind="internal")
            )
        self._ended = True
        self._wake.set()

    def _finish(self, ending: GenerationEnd) -> None:
        if self._finished:  # stopped in the very moment it ended by itself
            return
        self._finished = True
        reader = self._generation.reader
        total_s = time.perf_counter() - self._started_at
        if ending.garbled_call is not None:
            fault = garbled_call_fault(ending.garbled_call)
            self._emit([ToolCallFailedEvent(fault=fault, raw="".join(self._output))])
        if reader is None:
            stats = PredictionStats(stop_reason=ending.stop_reason, predicted_tokens=0, total_s=total_s)
        else:
            self._emit(reader.flush())
            if self._turn is not None:
                self._turn.settle(reader.predicted_tokens)
            stats = stats_of(
                reader,
                self._own_timings(reader) if ending.timings is None else ending.timings,
                stop_reason=ending.stop_reason,
                stop_string=ending.stop_string,
                ttft_s=None if self._first_at is None else self._first_at - self._started_at,
                total_s=total_s,
            )
        self._events.append(PredictionDone(stats=stats))
        self._log("llm.prediction.output", "".join(self._output), stats)

    def _own_timings(self, reader: CompletionReader | ToolStreamReader) -> dict[str, Any]:
        """Timings for a stream that was left before llama.cpp gave its own."""
        if self._first_at is None or self._last_at is None or self._last_at <= self._first_at:
            return {}
        count = reader.predicted_tokens
        return {"predicted_n": count, "predicted_per_second": (count - 1) / (self._last_at - self._first_at)}


def _tokens_of(event: PredictionEvent) -> int:
    """The tokens that an event brings; a piece of a tool call's arguments comes without a count, and mostly is one."""
    if isinstance(event, ToolCallArgumentEvent):
        return 1
    return event.tokens_count if isinstance(event, FragmentEvent) else 0


def _mergeable(last: FragmentEvent, event: FragmentEvent) -> bool:
    return (
        last.reasoning_type == event.reasoning_type
        and not (last.structural or event.structural or last.tokens or event.tokens)
        and len(last.text) < _MERGED_TEXT
    )


def _merged(last: FragmentEvent, event: FragmentEvent) -> FragmentEvent:
    return FragmentEvent(
        text=last.text + event.text,
        tokens_count=last.tokens_count + event.tokens_count,
        reasoning_type=event.reasoning_type,
    )
