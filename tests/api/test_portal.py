"""The portal: asynchronous calls from ordinary threads, and what an interrupt does."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from lmstrix.api import portal as portal_module
from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.api.portal import Portal
from lmstrix.core.answers.streaming import StreamingManager
from lmstrix.ground import errors
from lmstrix.ground.callbacks import in_caller, run_in_caller
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import Deadlines, Finished, GenerationRequest, Message, TextDelta
from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import GenerationResult, StreamEvent

TINY = "acme/tiny"
ASK = GenerationRequest(messages=(Message(role="user", text="What is 2+3?"),))
FIVE = "The sum of two and three is five."


class Caller:
    """A backend on a portal, as blocking code uses them."""

    def __init__(self, server: FaultyServer) -> None:
        limits = Deadlines(request_s=3, load_s=3, first_token_s=3)
        self.portal = Portal()
        self.backend: ModelBackend = AsyncLMStudioBackend(server.info, deadlines=limits)
        self._limits = limits

    def load(self, *, context_length: int = 4096, on_progress: Callable[[float], None] | None = None) -> None:
        config = LoadConfig(context_length=context_length)
        relayed = on_progress and in_caller(on_progress)
        loaded = self.portal.run(self.backend.load(TINY, config, instance_id="mine", on_progress=relayed))
        assert loaded.context_length == context_length

    def result(self, instance_id: str, request: GenerationRequest = ASK, **limits: float) -> GenerationResult:
        deadlines = Deadlines(**limits) if limits else self._limits
        return self.portal.run(StreamingManager(self.backend).result(instance_id, request, deadlines=deadlines))

    def events(self) -> Iterator[StreamEvent]:
        return self.portal.iterate(StreamingManager(self.backend).events("mine", ASK, deadlines=self._limits))

    def close(self) -> None:
        self.portal.close(last=self.backend.close())


@pytest.fixture
def caller(server: FaultyServer) -> Iterator[Caller]:
    calling = Caller(server)
    yield calling
    calling.close()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def interrupt_when(condition: Any, *, between_waits: bool = False) -> threading.Thread:
    """A Ctrl-C in the main thread as soon as `condition` holds; as Windows does it, only `between_waits`."""

    def wait() -> None:
        wait_until(condition)
        if between_waits:
            _thread.interrupt_main()
            return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_everything_once(caller: Caller, server: FaultyServer) -> None:
    run, backend = caller.portal.run, caller.backend
    assert [model.model_key for model in run(backend.list_downloaded())] == [TINY]
    progress: list[tuple[float, threading.Thread]] = []
    caller.load(context_length=2048, on_progress=lambda ratio: progress.append((ratio, threading.current_thread())))
    assert [ratio for ratio, _ in progress] == [0.25, 1.0]
    assert {thread for _, thread in progress} == {threading.current_thread()}
    assert [model.instance_id for model in run(backend.list_loaded())] == ["mine"]
    assert caller.result("mine").text == FIVE
    assert run(backend.count_tokens("mine", "a b c")) == 3
    assert run(backend.tokenize("mine", "a bb")) == [1, 2]
    assert run(backend.apply_template("mine", ASK.messages)) == "What is 2+3?"
    assert run(backend.estimate(TINY, LoadConfig(context_length=2048))).passes_guardrails
    server.faults.answers["embedString"] = {"embedding": [1, 2]}
    assert run(backend.embed("mine", ["a", "b"])) == [[1.0, 2.0], [1.0, 2.0]]
    run(backend.unload("mine"))
    assert not server.instances


def test_a_function_of_the_callers_runs_in_its_thread_and_its_result_comes_back(caller: Caller) -> None:
    def which(word: str) -> tuple[str, threading.Thread]:
        return word, threading.current_thread()

    def fail() -> None:
        raise ZeroDivisionError

    assert caller.portal.run(run_in_caller(which, "here")) == ("here", threading.current_thread())
    with pytest.raises(ZeroDivisionError):
        caller.portal.run(run_in_caller(fail))


async def test_without_a_portal_a_function_of_the_callers_runs_beside_the_loop() -> None:
    seen: list[threading.Thread] = []
    in_caller(lambda: seen.append(threading.current_thread()))()
    assert seen == [threading.current_thread()]
    assert await run_in_caller(threading.current_thread) != threading.current_thread()


def test_a_blocking_call_on_the_portals_own_loop_is_refused(caller: Caller) -> None:
    async def steps() -> None:
        caller.portal.run(caller.backend.close())

    with pytest.raises(RuntimeError, match="own loop"):
        caller.portal.run(steps())


def test_closing_has_a_limit() -> None:
    portal = Portal()
    begun = threading.Event()

    async def stubborn() -> None:
        begun.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    thread = threading.Thread(target=lambda: portal.run(stubborn()), daemon=True)
    thread.start()
    assert begun.wait(5)
    started = time.monotonic()
    portal.close(limit_s=0.05)
    assert time.monotonic() - started < 5


def test_a_stream_is_the_events_in_order(caller: Caller) -> None:
    caller.load()
    events = list(caller.events())
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == FIVE
    assert isinstance(events[-1], Finished)


def test_failures_come_out_where_the_caller_is(caller: Caller, server: FaultyServer) -> None:
    with pytest.raises(errors.ModelNotFoundError):
        caller.result("nowhere")
    caller.load()
    server.faults.predict = "crash after 2 words"
    stream = caller.events()
    seen: list[object] = []
    with pytest.raises(errors.EngineCrashedError):
        seen.extend(event for event in iter(lambda: next(stream), None))
    server.faults.predict = "hang after 2 words"
    with pytest.raises(errors.StreamStalledError) as caught:
        caller.result("mine", between_tokens_s=0.1)
    assert caught.value.partial_text == "The sum "


def test_leaving_a_stream_early_cancels_it(caller: Caller, server: FaultyServer) -> None:
    caller.load()
    server.faults.predict = "hang after 2 words"
    stream = caller.events()
    assert any(isinstance(event, TextDelta) for event in stream)
    cast("Generator[StreamEvent]", stream).close()
    assert server.cancelled == ["predict"]
    assert server.instances["mine"].running == 0


@pytest.mark.needs_posix("signals to a process")
@pytest.mark.parametrize("between_waits", [False, True])
def test_an_interrupt_cancels_a_load(caller: Caller, server: FaultyServer, between_waits: bool) -> None:
    server.faults.load = "hang"
    thread = interrupt_when(lambda: "loadModel" in server.endpoints(), between_waits=between_waits)
    with pytest.raises(KeyboardInterrupt):
        caller.load()
    thread.join()
    assert server.cancelled == ["loadModel"]
    assert not server.instances


@pytest.mark.needs_posix("signals to a process")
@pytest.mark.parametrize("way", ["generate", "stream"])
def test_an_interrupt_cancels_a_prediction(caller: Caller, server: FaultyServer, way: str) -> None:
    caller.load()
    server.faults.predict = "hang after 2 words"
    thread = interrupt_when(lambda: server.instances["mine"].running)
    with pytest.raises(KeyboardInterrupt):
        _ = caller.result("mine") if way == "generate" else list(caller.events())
    thread.join()
    assert server.cancelled == ["predict"]


@pytest.mark.parametrize("way", ["run", "iterate"])
def test_an_interrupt_that_comes_as_it_begins_cancels_it(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    began, ended = threading.Event(), threading.Event()

    async def steps() -> AsyncGenerator[int]:
        try:
            began.set()
            await asyncio.sleep(60)
            yield 1
        finally:
            ended.set()

    async def all_steps() -> list[int]:
        return [step async for step in steps()]

    begin = portal_module._Work.begin

    def interrupted(work: portal_module._Work[Any]) -> None:
        begin(work)
        assert began.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(portal_module._Work, "begin", interrupted)
    portal = Portal()
    try:
        with pytest.raises(KeyboardInterrupt):
            _ = portal.run(all_steps()) if way == "run" else list(portal.iterate(steps()))
        assert ended.is_set()
    finally:
        portal.close()


def test_a_failing_progress_callback_ends_the_load(caller: Caller, server: FaultyServer) -> None:
    def fail(ratio: float) -> None:
        raise ZeroDivisionError(ratio)

    server.faults.load = "hang"
    with pytest.raises(ZeroDivisionError):
        caller.load(context_length=100, on_progress=fail)
    assert server.cancelled == ["loadModel"]


def test_many_threads_at_once_need_one_thread_more(caller: Caller) -> None:
    caller.load()
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(caller.result("mine").text)) for _ in range(20)]
    before = threading.active_count()
    for thread in threads:
        thread.start()
    assert threading.active_count() <= before + len(threads)
    for thread in threads:
        thread.join()
    assert texts == [FIVE] * 20


def test_closing_ends_what_other_threads_wait_for(server: FaultyServer) -> None:
    caller = Caller(server)
    caller.load()
    server.faults.predict = "hang after 2 words"
    caught: list[Exception] = []

    def ask() -> None:
        try:
            caller.result("mine")
        except errors.BackendUnavailableError as exc:
            caught.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: server.instances["mine"].running)
    caller.close()
    thread.join(timeout=5)
    assert len(caught) == 1
    assert server.cancelled == ["predict"]
    caller.close()
    with pytest.raises(errors.BackendUnavailableError, match="was closed"):
        caller.portal.run(caller.backend.list_downloaded())


SILENT = """
import asyncio
from contextlib import suppress
from tests.support.faulty_server import FaultyServer
from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.core.answers.streaming import StreamingManager
from lmstrix.ground import errors
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import GenerationRequest

async def main():
    with FaultyServer() as server:
        async with AsyncLMStudioBackend(server.info) as backend:
            await backend.load("acme/tiny", LoadConfig(context_length=100), instance_id="mine")
            for fault in ("drop", "garbage"):
                server.faults.predict = fault
                with suppress(errors.BackendUnavailableError):
                    await StreamingManager(backend).result("mine", GenerationRequest(raw_prompt="2+3="))

asyncio.run(main())
"""


def test_the_sdk_says_nothing_on_the_terminal() -> None:
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_scripted_model_recalls_as_far_as_it_is_told_to() -> None:
    codes = [("red fox", "123456"), ("blue hen", "654321")]
    filler = "word " * 50
    text = filler.join(f"The access code of {key} is {code}. " for key, code in codes)
    question = f"{text}\n1. blue hen\n2. red fox\nAnswer."
    request = GenerationRequest(messages=(Message(role="user", text=question),))
    answers = []
    for recalled in (None, 40):
        with FaultyServer(FaultyModel(recalled=recalled)) as server:
            caller = Caller(server)
            caller.load()
            answers.append(caller.result("mine", request).text)
            caller.close()
    assert answers == ["1. blue hen is 654321\n2. red fox is 123456", "1. blue hen is 654321\n2. red fox is unknown"]


def test_a_function_of_the_callers_that_outlasts_its_steps_is_not_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    portal = Portal()

    async def steps() -> None:
        async with asyncio.timeout(0.05):
            await run_in_caller(time.sleep, 0.2)

    with pytest.raises(TimeoutError):
        portal.run(steps())
    portal.close()
    assert capsys.readouterr().err == ""
