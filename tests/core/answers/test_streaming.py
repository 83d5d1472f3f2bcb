"""Deadlines of a stream, on a loop whose time passes only while it waits."""

from __future__ import annotations

import asyncio
import selectors
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pytest

from lmstrix.core.answers.streaming import Patience, StreamingManager
from lmstrix.ground.errors import EngineCrashedError, LMStrixError, StreamStalledError
from lmstrix.ground.types import (
    Deadlines,
    Finished,
    GenerationRequest,
    GenerationResult,
    GenerationStats,
    Heartbeat,
    PromptProgress,
    TextDelta,
    ToolCall,
    ToolCallEvent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from lmstrix.ground.types import StreamEvent

ASK = GenerationRequest(raw_prompt="2+3=")
T = TypeVar("T")


class SteppedSelector(selectors.DefaultSelector):
    """Waits by moving a clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop on which an hour takes no time."""

    def __init__(self) -> None:
        self.clock = SteppedSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def run(coroutine: Coroutine[object, object, T]) -> T:
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        return runner.run(coroutine)


def finished(text: str = "") -> Finished:
    stats = GenerationStats(stop_reason="eosFound")
    return Finished(result=GenerationResult(text=text, stats=stats, model_key="m", instance_id="i"))


@dataclass
class Script:
    """A backend that gives each event after its pause, and hangs at the end unless that is `Finished`."""

    events: list[tuple[float, StreamEvent]]
    failure: LMStrixError | None = None
    failure_on_leaving: LMStrixError | None = None
    left: list[str] = field(default_factory=list)

    async def stream(self, instance_id: str, request: GenerationRequest) -> AsyncGenerator[StreamEvent]:
        try:
            for pause_s, event in self.events:
                await asyncio.sleep(pause_s)
                yield event
                if isinstance(event, Finished):
                    return
            if self.failure is not None:
                raise self.failure
            await asyncio.sleep(1e9)
        except BaseException as exc:
            await asyncio.sleep(0.2)  # telling the server takes its time
            self.left.append(type(exc).__name__)
            if self.failure_on_leaving is not None:
                raise self.failure_on_leaving from exc
            raise


async def events_of(
    script: Script, limits: Deadlines | None = None, *, reader_s: float = 0.0
) -> tuple[list[StreamEvent], LMStrixError | None, float]:
    """What came, the failure that ended it, and when."""
    seen: list[StreamEvent] = []
    clock = asyncio.get_running_loop().time
    try:
        async for event in StreamingManager(script).events("mine", ASK, deadlines=limits, model_key="acme/tiny"):
            seen.append(event)
            await asyncio.sleep(reader_s)
    except LMStrixError as exc:
        return seen, exc, clock()
    return seen, None, clock()


WORD = TextDelta(text="word ", tokens=1)
THOUGHT = TextDelta(text="hm", tokens=1, reasoning=True)
TAG = TextDelta(text="<think>", tokens=1, reasoning=True, structural=True)
CALL = ToolCallEvent(call=ToolCall(name="zoom", arguments={}))
OFF = Deadlines(between_tokens_s=None)


@pytest.mark.parametrize(
    ("limits", "events", "stage", "waited_s", "at", "partial"),
    [
        (Deadlines(first_token_s=5), [], "first token", 5, 5, ""),
        (Deadlines(first_token_s=5), [(4, PromptProgress(ratio=0.9))], "first token", 5, 5, ""),
        (Deadlines(first_token_s=5), [(4, Heartbeat(generating=False))], "first token", 5, 5, ""),
        (Deadlines(first_token_s=5), [(4, Heartbeat(generating=True))], "between tokens", 60, 64, ""),
        (Deadlines(), [(500, WORD)], "between tokens", 60, 560, "word "),
        (Deadlines(), [(1, CALL)], "between tokens", 60, 61, ""),
        (Deadlines(between_tokens_s=9), [(1, TAG), (8, THOUGHT), (8, WORD)], "between tokens", 9, 26, "word "),
        (Deadlines(between_tokens_s=9), [(1, WORD), (8, Heartbeat(generating=True))], "between tokens", 9, 18, "word "),
        (
            Deadlines(between_tokens_s=9),
            [(1, WORD), (8, Heartbeat(generating=False))],
            "between tokens",
            9,
            10,
            "word ",
        ),
        (Deadlines(silence_s=7), [(6, PromptProgress(ratio=0.0))], "silence", 7, 13, ""),
        (Deadlines(silence_s=7), [(6, Heartbeat(generating=False))], "silence", 7, 13, ""),
        (
            Deadlines(silence_s=7),
            [(6, PromptProgress(ratio=0.5)), (6, PromptProgress(ratio=0.5))],
            "silence",
            7,
            13,
            "",
        ),
        (
            Deadlines(silence_s=7),
            [(6, PromptProgress(ratio=0.5)), (6, PromptProgress(ratio=0.6))],
            "silence",
            7,
            19,
            "",
        ),
        (Deadlines(total_s=20), [(9, WORD), (9, WORD)], "total", 20, 20, "word word "),
        (Deadlines(total_s=20, first_token_s=20), [], "total", 20, 20, ""),
        (Deadlines(total_s=20, first_token_s=5), [(4, WORD)], "total", 20, 20, "word "),
    ],
)
def test_each_deadline_fires_at_its_moment_after_the_server_was_told(
    limits: Deadlines, events: list[tuple[float, StreamEvent]], stage: str, waited_s: float, at: float, partial: str
) -> None:
    script = Script(events)
    seen, failure, ended_at = run(events_of(script, limits))
    assert isinstance(failure, StreamStalledError)
    assert (failure.stage, failure.waited_s, failure.partial_text, failure.model_key) == (
        stage,
        waited_s,
        partial,
        "acme/tiny",
    )
    assert ended_at == pytest.approx(at + 0.2)
    assert script.left == ["CancelledError"]
    assert seen == [event for _, event in events if not isinstance(event, Heartbeat)]


def test_none_is_without_limit() -> None:
    seen, failure, ended_at = run(events_of(Script([(1e6, WORD), (1e6, WORD), (1e6, finished())]), OFF))
    assert (len(seen), failure, ended_at) == (3, None, 3e6)


def test_a_slow_reader_is_not_a_stalled_server() -> None:
    limits = Deadlines(between_tokens_s=5, silence_s=5)
    events: list[tuple[float, StreamEvent]] = [
        (4.0, PromptProgress(ratio=0.5)),
        (4.0, WORD),
        (4.0, WORD),
        (4.0, finished()),
    ]
    seen, failure, _ = run(events_of(Script(events), limits, reader_s=100.0))
    assert (len(seen), failure) == (4, None)
    _, failure, ended_at = run(events_of(Script([*events[:3], (6.0, finished())]), limits, reader_s=100.0))
    assert isinstance(failure, StreamStalledError)
    assert ended_at == pytest.approx(312 + 5 + 0.2)


def test_the_whole_call_counts_the_reader_too() -> None:
    limits = Deadlines(total_s=50)
    seen, failure, ended_at = run(events_of(Script([(1.0, WORD)] * 9), limits, reader_s=20.0))
    assert isinstance(failure, StreamStalledError)
    assert (len(seen), failure.stage) == (3, "total")
    assert ended_at == pytest.approx(63 + 0.2)  # told when it comes back for more


def test_progress_that_does_not_grow_is_silence() -> None:
    patience = Patience(Deadlines(silence_s=60, between_tokens_s=None), 0.0)
    patience.note(PromptProgress(ratio=0.5), 1.0)
    until = patience.until()
    patience.note(PromptProgress(ratio=0.5), 2.0)
    assert patience.until() == until
    patience.note(PromptProgress(ratio=0.6), 3.0)
    assert patience.until() > until


def test_the_result_is_the_one_the_stream_ends_with() -> None:
    script = Script([(1, WORD), (1, finished("word"))])
    assert run(StreamingManager(script).result("mine", ASK)).text == "word"


def test_leaving_early_closes_the_stream_of_the_backend() -> None:
    script = Script([(1, WORD), (1, WORD)])

    async def leave() -> None:
        async with aclosing(StreamingManager(script).events("mine", ASK)) as events:
            async for _ in events:
                break

    run(leave())
    assert script.left == ["GeneratorExit"]


def test_a_cancellation_of_the_caller_is_none_of_ours() -> None:
    script = Script([])

    async def cancelled() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(3):
                await StreamingManager(script).result("mine", ASK, deadlines=Deadlines(first_token_s=4))
        assert not isinstance(caught.value, StreamStalledError)

    run(cancelled())
    assert script.left == ["CancelledError"]


def test_a_cancellation_at_the_very_moment_goes_first() -> None:
    async def both() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(events_of(Script([]), Deadlines(first_token_s=4)))
        loop.call_at(4.0, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(both())


@pytest.mark.parametrize("on_leaving", [None, EngineCrashedError("gone")])
def test_a_task_goes_on_after_a_stall(on_leaving: LMStrixError | None) -> None:
    async def go_on() -> None:
        _, failure, _ = await events_of(Script([], failure_on_leaving=on_leaving), Deadlines(first_token_s=4))
        assert isinstance(failure, StreamStalledError if on_leaving is None else EngineCrashedError)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        with pytest.raises(TimeoutError):  # a deadline of its own works as ever
            async with asyncio.timeout(1):
                await asyncio.sleep(9)

    run(go_on())


def test_a_failure_of_the_backend_passes() -> None:
    seen, failure, _ = run(events_of(Script([(1, WORD)], failure=EngineCrashedError("gone"))))
    assert (seen, type(failure)) == ([WORD], EngineCrashedError)


def test_any_task_may_read_on() -> None:
    """A web server reads the first event in one task and the rest in another."""

    async def hand_over() -> None:
        script = Script([(1, WORD), (1, WORD)])
        events = StreamingManager(script).events("mine", ASK, deadlines=Deadlines(between_tokens_s=5))
        assert await anext(events) == WORD

        async def read_on() -> None:
            async for _ in events:
                pass

        with pytest.raises(StreamStalledError):
            await asyncio.create_task(read_on())
        assert script.left == ["CancelledError"]

    run(hand_over())
