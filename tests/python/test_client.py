"""The Python API beyond one answer: chats, batches, vectors, advice, and many streams on one loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from lmstrix import (
    AsyncLMStrix,
    BackendUnavailableError,
    ContextOverflowError,
    EmbeddedEngine,
    LMStrix,
    TextDelta,
    UsageError,
)
from tests.support.tiny_gguf_scripted import GREETING

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.answers.batch import BatchProgress


@pytest.fixture
def engine(python_engine: EmbeddedEngine) -> EmbeddedEngine:
    return python_engine


def test_a_chat_remembers(engine: EmbeddedEngine) -> None:
    with LMStrix(server=engine.address) as lms:
        lms.unload()  # an instance that another test left may have a longer context, and would serve
        chat = lms.chat("scripted", system_prompt="Be brief.", context_length=512)
        assert chat.send("2+3=").text == "5"
        assert "".join(chat.stream("hello")) == GREETING.text
        said = [("system", "Be brief."), ("user", "2+3="), ("assistant", "5"), ("user", "hello")]
        assert [(message.role, message.text) for message in chat.messages] == [*said, ("assistant", GREETING.text)]
        for event in chat.events("a story"):
            if isinstance(event, TextDelta):
                break
        with pytest.raises(ContextOverflowError):
            chat.send("word " * 600)
        assert len(chat.messages) == 5
        chat.forget_oldest()
        assert [message.text for message in chat.messages] == ["Be brief.", "hello", GREETING.text]


def test_a_batch_of_texts(engine: EmbeddedEngine, tmp_path: Path) -> None:
    seen: list[BatchProgress] = []
    with LMStrix(server=engine.address) as lms:
        report = lms.batch(
            {"sum": "2+3", "hello": "hello"}, ["scripted"], tmp_path, inputs={"a": "="}, on_progress=seen.append, seed=1
        )
        assert report.count("ok") == 2
        assert [(progress.done, progress.total) for progress in seen] == [(1, 2), (2, 2)]
        assert seen[0].remaining_s is not None
        assert (tmp_path / "scripted" / "hello__a.txt").read_text(encoding="utf-8") == GREETING.text
        again = lms.batch({"sum": "2+3"}, ["scripted"], tmp_path, inputs={"a": "="}, seed=1)
        assert again.count("skipped") == 1


def test_vectors_and_advice(engine: EmbeddedEngine) -> None:
    with LMStrix(server=engine.address) as lms:
        first, second = lms.embed(["a", "b"], ttl_s=0)
        assert len(first) == len(second) > 0
        assert lms.embed("a", "text-embedding-embed", ttl_s=0)[0] == pytest.approx(first)
        with pytest.raises(UsageError, match="makes no embeddings"):
            lms.embed("a", "scripted")
        assert [item.candidate.model_key for item in lms.recommend(prefer="speed").ranked] == ["scripted"]


async def test_the_same_on_a_loop(engine: EmbeddedEngine, tmp_path: Path) -> None:
    async with AsyncLMStrix(server=engine.address) as lms:
        chat = lms.chat("scripted")
        assert (await chat.send("2+3=")).text == "5"
        assert "".join([piece async for piece in chat.stream("hello")]) == GREETING.text
        assert len(chat.messages) == 4
        assert len(await lms.embed(["a", "b"], ttl_s=0)) == 2
        assert (await lms.recommend(task="embedding")).ranked[0].candidate.kind == "embedding"
        report = await lms.batch({"sum": "2+3="}, "scripted", tmp_path)
        assert report.count("ok") == 1


def test_callers_are_told_and_tools_run_in_the_thread_that_waits(engine: EmbeddedEngine, tmp_path: Path) -> None:
    here = threading.current_thread()
    elsewhere: list[bool] = []
    told: list[str] = []

    def note(line: str) -> None:
        told.append(line)
        elsewhere.append(threading.current_thread() is not here)

    def get_weather(city: str) -> str:
        """The weather now."""
        note(f"asked for {city}")
        return f"21 degrees in {city}"

    with LMStrix(server=engine.address, notify=note) as lms:
        lms.unload()
        assert "21 degrees" in lms.act("the weather?", "scripted", tools=[get_weather], ttl_s=0).text
        lms.batch({"sum": "2+3="}, ["scripted"], tmp_path, on_progress=lambda progress: note(progress.latest.outcome))
    assert told[-1] == "ok"
    assert "asked for Paris" in told
    assert any("loading scripted" in line for line in told)
    assert not any(elsewhere)


def test_leaving_an_answer_early_unloads_what_was_loaded_for_it(engine: EmbeddedEngine) -> None:
    with LMStrix(server=engine.address) as lms:
        lms.unload()
        for _ in range(5):
            assert any(isinstance(event, TextDelta) for event in lms.events("a story", "scripted", ttl_s=0))
            assert lms.ps() == []


def test_a_closed_client_says_so(engine: EmbeddedEngine) -> None:
    lms = LMStrix(server=engine.address)
    assert len(lms.list_models()) >= 0
    lms.close()
    lms.close()
    with pytest.raises(BackendUnavailableError, match="was closed"):
        lms.infer("2+3=", "scripted")


@pytest.mark.slow
async def test_every_blocking_call_works_where_a_loop_runs(engine: EmbeddedEngine, tmp_path: Path) -> None:
    """As in a notebook, whose cells run on a loop."""
    told: list[str] = []
    with LMStrix(server=engine.address, home=tmp_path / "home", notify=told.append) as lms:
        assert lms.scan().models == 2
        assert lms.test_model("scripted", threshold=1024, fast=True).result.tested_context_length == 1024
        assert lms.test_all(threshold=1024, fast=True).failed == ()
        assert lms.bench("scripted", runs=1, max_tokens=8, idle_s=0.0, power=False).cells[0].outcome == "ok"
        assert lms.infer("2+3=", "scripted", ttl_s=0).text == "5"
        assert "".join(lms.stream("2+3=", "scripted", ttl_s=0)) == "5"
        assert lms.chat("scripted", ttl_s=0).send("2+3=").text == "5"
        assert lms.act("2+3=", "scripted", tools=[], ttl_s=0).text == "5"
        assert lms.batch({"sum": "2+3="}, ["scripted"], tmp_path).count("ok") == 1
        assert len(lms.embed("a", ttl_s=0)) == 1
        assert lms.recommend().ranked
        assert lms.load("scripted", 1024).context_length == 1024
        assert len(lms.unload()) == 1
        assert lms.ps() == []
        assert lms.benches.history()
        assert lms.logs.calls()
        assert lms.doctor().checks
    assert told


@pytest.mark.slow
async def test_a_hundred_streams_on_one_loop(engine: EmbeddedEngine) -> None:
    async with AsyncLMStrix(server=engine.address) as lms:
        await lms.unload()
        await lms.load("scripted", 8192, parallel_slots=4)
        before = threading.active_count()
        most = 0

        async def stream() -> str:
            nonlocal most
            pieces = []
            async for piece in lms.stream("hello", "scripted", context_length=8192, max_tokens=64):
                pieces.append(piece)
                most = max(most, threading.active_count())
            return "".join(pieces)

        answers = await asyncio.gather(*(stream() for _ in range(100)))
        assert set(answers) == {GREETING.text}
        assert most - before <= 40  # the loop's pool for files, however many streams there are
        assert len(await lms.ps()) == 1
        await lms.unload()


def test_an_async_client_on_a_second_loop_says_what_is_wrong(engine: EmbeddedEngine) -> None:
    lms = AsyncLMStrix(server=engine.address)
    assert asyncio.run(lms.infer("2+3=", "scripted")).text == "5"
    with pytest.raises(UsageError, match="another event loop"):
        asyncio.run(lms.infer("2+3=", "scripted"))
    asyncio.run(lms.close())


async def test_a_cancelled_benchmark_leaves_its_report(engine: EmbeddedEngine, tmp_path: Path) -> None:
    begun = asyncio.Event()
    async with AsyncLMStrix(server=engine.address) as lms:
        await lms.scan()
        bench = asyncio.create_task(
            lms.bench(
                "scripted",
                runs=200,
                settled_ratio=None,
                idle_s=0.0,
                power=False,
                out=tmp_path / "out",
                on_event=lambda event: begun.set() if event.kind == "run" else None,
            )
        )
        async with asyncio.timeout(60):
            await begun.wait()
        bench.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bench
        report = await lms.benches.find(tmp_path / "out")
    assert report.interrupted
    assert report.cells[0].runs
