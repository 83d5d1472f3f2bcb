"""The events of one prediction, under deadlines: written once for every server.

    async with aclosing(StreamingManager(backend).events(instance_id, request, deadlines=limits)) as events:
        async for event in events: …

A deadline that passes cancels the backend's stream, which cancels on the server, before the error is raised. Only
waiting counts against "between tokens" and "silence": a reader that takes its time is not mistaken for a stalled
server. One timer serves a whole stream, because a task or a timeout per event would cost more than the event.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from math import inf
from typing import TYPE_CHECKING, Protocol, Self

from lmstrix.ground.deadline import Deadline, without_limit
from lmstrix.ground.errors import StreamStalledError
from lmstrix.ground.types import Deadlines, Finished, Heartbeat, PromptProgress, TextDelta, ToolCallEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType

    from lmstrix.ground.types import GenerationRequest, GenerationResult, StreamEvent

_PIECES = (TextDelta, ToolCallEvent)
_NOT_DONE = {
    "first token": "sent no first token",
    "between tokens": "sent no further token",
    "silence": "made no progress",
    "total": "was not done",
}


class Streams(Protocol):
    """What predictions are asked of: a `ModelBackend`, or a server that can do nothing else."""

    def stream(self, instance_id: str, request: GenerationRequest) -> AsyncGenerator[StreamEvent]: ...


class StreamingManager:
    """Streams predictions of one backend. Any number at once."""

    def __init__(self, backend: Streams) -> None:
        self._backend = backend

    async def events(
        self,
        instance_id: str,
        request: GenerationRequest,
        *,
        deadlines: Deadlines | None = None,
        deadline: Deadline | None = None,
        model_key: str | None = None,
    ) -> AsyncGenerator[StreamEvent]:
        """Events of one prediction; the last is `Finished`. Leaving early cancels it on the server.

        `deadline` is that of the call this prediction is the last step of. `model_key` names the model in messages,
        where that is not the instance's name. Raises StreamStalledError.
        """
        clock = asyncio.get_running_loop().time
        whole = deadline or without_limit()
        began_at = clock()
        left_s = inf if whole.left_s is None else whole.left_s
        patience = Patience(deadlines or Deadlines(), began_at, call_s=whole.limit_s, ends_at=began_at + left_s)
        alarm = _Alarm()
        text: list[str] = []
        try:
            async with aclosing(self._backend.stream(instance_id, request)) as stream:
                while True:
                    with alarm.set_for(patience.until()):
                        event = await anext(stream, None)
                    if event is None:
                        return
                    # At once, before the caller gets the event: what it then takes is its own time.
                    patience.note(event, clock())
                    if isinstance(event, Heartbeat):
                        continue
                    if isinstance(event, TextDelta) and not (event.reasoning or event.structural):
                        text.append(event.text)
                    yield event
                    patience.resume(clock())
        except TimeoutError as exc:
            # The backend's own TimeoutError is not a deadline of ours.
            if not alarm.rang:
                raise
            raise _stalled(model_key or instance_id, patience, whole, "".join(text)) from exc
        finally:
            alarm.close()

    async def result(
        self,
        instance_id: str,
        request: GenerationRequest,
        *,
        deadlines: Deadlines | None = None,
        model_key: str | None = None,
    ) -> GenerationResult:
        """The result of one prediction, as `events` ends with it."""
        return await result_of(self.events(instance_id, request, deadlines=deadlines, model_key=model_key))


async def result_of(answer: AsyncGenerator[StreamEvent]) -> GenerationResult:
    """The result that the events of an answer end with; the rest of them is passed over."""
    async with aclosing(answer) as events:
        async for event in events:
            if isinstance(event, Finished):
                return event.result
    raise AssertionError("a stream ends with Finished, or raises")


def _stalled(model: str, patience: Patience, whole: Deadline, text: str) -> StreamStalledError:
    stage, waited_s = patience.stage()
    earlier = whole.earlier() if stage == "total" else ""
    return StreamStalledError(
        f"{model} {_NOT_DONE[stage]} within {waited_s:g} s{f' ({earlier})' if earlier else ''}; the answer was "
        "cancelled; raise the timeout, or look whether the server is busy",
        stage=stage,
        waited_s=waited_s,
        partial_text=text,
        model_key=model,
    )


class Patience:
    """Until when to wait for the next event. Pure; moments are those of one monotonic clock, handed in.

    `ends_at` is when the whole call is over, of which `call_s` were given to it.
    """

    def __init__(self, limits: Deadlines, at: float, *, call_s: float | None = None, ends_at: float = inf) -> None:
        self._asked_at = self._heard_at = self._advanced_at = self._piece_at = at
        self._generating = False
        self._ratio = -1.0
        self._first_s, self._between_s, self._silence_s, self._total_s = (
            inf if limit_s is None else limit_s
            for limit_s in (limits.first_token_s, limits.between_tokens_s, limits.silence_s, limits.total_s)
        )
        self._total_from = at
        if call_s is not None and ends_at < at + self._total_s:
            self._total_s, self._total_from = call_s, ends_at - call_s

    def note(self, event: StreamEvent, at: float) -> None:
        """Something came."""
        self._heard_at = at
        if isinstance(event, PromptProgress):
            # A server repeats its progress while it hangs: only progress that grows is a sign of life.
            if event.ratio <= self._ratio:
                return
            self._ratio = event.ratio
        elif isinstance(event, _PIECES) or (isinstance(event, Heartbeat) and event.generating):
            self._generating = True
            self._piece_at = at
        self._advanced_at = at

    def resume(self, at: float) -> None:
        """The reader waits again: the time it took over the last event is not the server's."""
        # Moved on, not set: progress that a server only repeats must not restart the wait for more.
        self._advanced_at += at - self._heard_at
        self._piece_at = at

    def until(self) -> float:
        """When waiting is over; infinity for never."""
        piece_until = self._piece_at + self._between_s if self._generating else self._asked_at + self._first_s
        return min(piece_until, self._advanced_at + self._silence_s, self._total_from + self._total_s)

    def stage(self) -> tuple[str, float]:
        """Which deadline is the nearest one, and its seconds."""
        stages = (
            ("total", self._total_s, self._total_from),
            ("silence", self._silence_s, self._advanced_at),
            ("between tokens", self._between_s, self._piece_at)
            if self._generating
            else ("first token", self._first_s, self._asked_at),
        )
        stage, limit_s, _ = min(stages, key=lambda stage: stage[1] + stage[2])
        return stage, limit_s


class _Alarm:
    """Cancels the task that waits inside it once its moment has come; the wait then ends with TimeoutError.

    As `asyncio.timeout_at`, for many waits one after the other: the timer stays where it is while later moments are
    set, and moves on only when it goes off too early.
    """

    def __init__(self) -> None:
        self.rang = False
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._until = inf
        self._timer: asyncio.TimerHandle | None = None

    def set_for(self, until: float) -> Self:
        self._until = until
        if until < inf and (self._timer is None or until < self._timer.when()):
            self._move(until)
        return self

    def __enter__(self) -> None:
        # Asked each time: nothing says that a generator is always read by the same task.
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        # As in asyncio.timeout: someone else's cancellation, of the same moment, goes before ours.
        if self.rang and task is not None and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from exc

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _move(self, when: float) -> None:
        self.close()
        self._timer = self._loop.call_at(when, self._go_off)

    def _go_off(self) -> None:
        self._timer = None
        if self._task is None:
            return  # nobody waits: the reader is busy, and sets it anew when it comes back
        if self._loop.time() < self._until:
            self._move(self._until)
            return
        self.rang = True
        self._task.cancel()
