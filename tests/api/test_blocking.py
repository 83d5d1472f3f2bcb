"""The blocking backend: the same calls from ordinary threads, and what an interrupt does."""

from __future__ import annotations

import _thread
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.api.blocking import LMStudioBackend
from lmstrix.ground import errors
from lmstrix.ground.types import Deadlines, Finished, GenerationRequest, LoadConfig, Message, TextDelta
from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.ground.backend import BlockingBackend, ModelBackend

TINY = "acme/tiny"
ASK = GenerationRequest(messages=(Message(role="user", text="What is 2+3?"),))
FIVE = "The sum of two and three is five."


@pytest.fixture
def backend(server: FaultyServer) -> Iterator[LMStudioBackend]:
    with LMStudioBackend(server.info, deadlines=Deadlines(request_s=3, load_s=3, first_token_s=3)) as opened:
        yield opened


def load(backend: LMStudioBackend) -> None:
    backend.load(TINY, LoadConfig(context_length=4096), instance_id="mine")


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


def test_both_backends_are_what_core_asks_for(server: FaultyServer) -> None:
    from lmstrix.api.client import AsyncLMStudioBackend

    blocking: BlockingBackend = LMStudioBackend(server.info)
    asynchronous: ModelBackend = AsyncLMStudioBackend(server.info)
    assert blocking.server == asynchronous.server == server.info
    blocking.close()


def test_everything_once(backend: LMStudioBackend, server: FaultyServer) -> None:
    assert [model.model_key for model in backend.list_downloaded()] == [TINY]
    progress: list[tuple[float, threading.Thread]] = []
    config = LoadConfig(context_length=2048)
    loaded = backend.load(
        TINY,
        config,
        instance_id="mine",
        on_progress=lambda ratio: progress.append((ratio, threading.current_thread())),
    )
    assert loaded.context_length == 2048
    assert [ratio for ratio, _ in progress] == [0.25, 1.0]
    assert {thread for _, thread in progress} == {threading.current_thread()}
    assert [model.instance_id for model in backend.list_loaded()] == ["mine"]
    assert backend.generate("mine", ASK).text == FIVE
    assert backend.count_tokens("mine", "a b c") == 3
    assert backend.tokenize("mine", "a bb") == [1, 2]
    assert backend.apply_template("mine", ASK.messages) == "What is 2+3?"
    assert backend.estimate(TINY, config).passes_guardrails
    server.faults.answers["embedString"] = {"embedding": [1, 2]}
    assert backend.embed("mine", ["a", "b"]) == [[1.0, 2.0], [1.0, 2.0]]
    backend.unload("mine")
    assert not server.instances


def test_a_stream_is_the_events_in_order(backend: LMStudioBackend) -> None:
    load(backend)
    events = list(backend.stream("mine", ASK))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == FIVE
    assert isinstance(events[-1], Finished)


def test_failures_come_out_where_the_caller_is(backend: LMStudioBackend, server: FaultyServer) -> None:
    with pytest.raises(errors.ModelNotFoundError):
        backend.generate("nowhere", ASK)
    load(backend)
    server.faults.predict = "crash after 2 words"
    stream = backend.stream("mine", ASK)
    seen = []
    with pytest.raises(errors.EngineCrashedError):
        seen.extend(event for event in iter(lambda: next(stream), None))
    server.faults.predict = "hang after 2 words"
    with pytest.raises(errors.StreamStalledError) as caught:
        backend.generate("mine", ASK, deadlines=Deadlines(between_tokens_s=0.1))
    assert caught.value.partial_text == "The sum "


def test_leaving_a_stream_early_cancels_it(backend: LMStudioBackend, server: FaultyServer) -> None:
    load(backend)
    server.faults.predict = "hang after 2 words"
    stream = backend.stream("mine", ASK)
    assert any(isinstance(event, TextDelta) for event in stream)
    stream.close()
    assert server.cancelled == ["predict"]
    assert server.instances["mine"].running == 0


@pytest.mark.parametrize("between_waits", [False, True])
def test_an_interrupt_cancels_a_load(backend: LMStudioBackend, server: FaultyServer, between_waits: bool) -> None:
    server.faults.load = "hang"
    thread = interrupt_when(lambda: "loadModel" in server.endpoints(), between_waits=between_waits)
    with pytest.raises(KeyboardInterrupt):
        load(backend)
    thread.join()
    assert server.cancelled == ["loadModel"]
    assert not server.instances


@pytest.mark.parametrize("way", ["generate", "stream"])
def test_an_interrupt_cancels_a_prediction(backend: LMStudioBackend, server: FaultyServer, way: str) -> None:
    load(backend)
    server.faults.predict = "hang after 2 words"
    thread = interrupt_when(lambda: server.instances["mine"].running)
    with pytest.raises(KeyboardInterrupt):
        _ = backend.generate("mine", ASK) if way == "generate" else list(backend.stream("mine", ASK))
    thread.join()
    assert server.cancelled == ["predict"]


def test_a_failing_progress_callback_ends_the_load(backend: LMStudioBackend, server: FaultyServer) -> None:
    def fail(ratio: float) -> None:
        raise ZeroDivisionError(ratio)

    server.faults.load = "hang"
    with pytest.raises(ZeroDivisionError):
        backend.load(TINY, LoadConfig(context_length=100), instance_id="mine", on_progress=fail)
    assert server.cancelled == ["loadModel"]


def test_many_threads_at_once_need_one_thread_more(backend: LMStudioBackend) -> None:
    load(backend)
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(backend.generate("mine", ASK).text)) for _ in range(20)]
    before = threading.active_count()
    for thread in threads:
        thread.start()
    assert threading.active_count() <= before + len(threads)
    for thread in threads:
        thread.join()
    assert texts == [FIVE] * 20


def test_closing_ends_what_other_threads_wait_for(server: FaultyServer) -> None:
    backend = LMStudioBackend(server.info)
    load(backend)
    server.faults.predict = "hang after 2 words"
    caught: list[Exception] = []

    def ask() -> None:
        try:
            backend.generate("mine", ASK)
        except errors.BackendUnavailableError as exc:
            caught.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: server.instances["mine"].running)
    backend.close()
    thread.join(timeout=5)
    assert len(caught) == 1
    assert server.cancelled == ["predict"]
    backend.close()
    with pytest.raises(errors.BackendUnavailableError, match="was closed"):
        backend.list_downloaded()


SILENT = """
from tests.support.faulty_server import FaultyServer
from lmstrix.ground import errors
from lmstrix.api.blocking import LMStudioBackend
from lmstrix.ground.types import GenerationRequest, LoadConfig

with FaultyServer() as server, LMStudioBackend(server.info) as backend:
    backend.load("acme/tiny", LoadConfig(context_length=100), instance_id="mine")
    for fault in ("drop", "garbage"):
        server.faults.predict = fault
        try:
            backend.generate("mine", GenerationRequest(raw_prompt="2+3="))
        except errors.BackendUnavailableError:
            pass
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
        with FaultyServer(FaultyModel(recalled=recalled)) as server, LMStudioBackend(server.info) as backend:
            load(backend)
            answers.append(backend.generate("mine", request).text)
    assert answers == ["1. blue hen is 654321\n2. red fox is 123456", "1. blue hen is 654321\n2. red fox is unknown"]
