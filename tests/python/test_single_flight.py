"""Many callers at once and one model that nobody has loaded: it is loaded once, and all are answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lmstrix import AsyncLMStrix, LMStrix, ModelLoadError, TimeLimitError
from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL, EMBEDDING = "acme/tiny", "acme/embed"


@pytest.fixture
def slow() -> Iterator[FaultyServer]:
    """A server whose loads take long enough for everybody to come meanwhile."""
    models = (FaultyModel(), FaultyModel(key=EMBEDDING, kind="embedding"))
    with FaultyServer(*models, load_delay_s=0.3) as server:
        yield server


@pytest.mark.parametrize("ttl_s", [300.0, 0.0])
async def test_fifty_answers_at_once_load_once(slow: FaultyServer, ttl_s: float) -> None:
    async with asyncio.timeout(60), AsyncLMStrix(server=slow.address) as lms:
        answers = await asyncio.gather(*(lms.infer("What is 2+3?", MODEL, ttl_s=ttl_s) for _ in range(50)))
        assert len({answer.text for answer in answers}) == 1
    assert slow.endpoints().count("loadModel") == 1
    # With no time to live the last of them unloads it, not the one that loaded it.
    assert len(slow.instances) == (1 if ttl_s else 0)


async def test_two_lmstrix_at_once_load_once(slow: FaultyServer) -> None:
    notes: list[str] = []
    async with (
        asyncio.timeout(60),
        AsyncLMStrix(server=slow.address, notify=notes.append) as first,
        AsyncLMStrix(server=slow.address, notify=notes.append) as second,
    ):
        await first.scan()
        await asyncio.gather(first.infer("hi", MODEL), second.infer("hi", MODEL))
        await asyncio.gather(first.embed("a", EMBEDDING), second.embed("a", EMBEDDING))
    assert slow.endpoints().count("loadModel") == 2
    waited = [note for note in notes if note.startswith("waiting for another LMStrix")]
    assert waited == [f"waiting for another LMStrix that is loading {model}" for model in (MODEL, EMBEDDING)]


async def test_chats_embeddings_and_a_batch_share_what_they_load(slow: FaultyServer, tmp_path: Path) -> None:
    async with asyncio.timeout(60), AsyncLMStrix(server=slow.address) as lms:
        await asyncio.gather(*(lms.chat(MODEL).send("hi") for _ in range(5)))
        await asyncio.gather(*(lms.embed("a", EMBEDDING, ttl_s=0) for _ in range(5)))
        assert slow.endpoints().count("loadModel") == 2
        batch = asyncio.create_task(lms.batch({"sum": "2+3"}, [MODEL], tmp_path))
        await asyncio.gather(*(lms.infer("hi", MODEL) for _ in range(5)))
        assert (await batch).count("ok") == 1
    assert slow.endpoints().count("loadModel") == 2
    assert [instance.model.key for instance in slow.instances.values()] == [MODEL]


async def test_what_lmstrix_load_is_loading_is_used(slow: FaultyServer) -> None:
    async with asyncio.timeout(60), AsyncLMStrix(server=slow.address) as lms:
        await lms.scan()
        await asyncio.gather(lms.load(MODEL, 4096), lms.load(MODEL, 4096), lms.infer("hi", MODEL))
    assert sorted(slow.instances) == [MODEL, f"{MODEL}:2"]  # each `load` is told to load


async def test_one_failure_is_everybodys() -> None:
    # Who comes after the failure tries again, and on a busy machine fifty take a while to come.
    with FaultyServer(FaultyModel(), load_delay_s=3.0) as slow:
        slow.faults.load = "refused"
        async with asyncio.timeout(60), AsyncLMStrix(server=slow.address) as lms:
            answers = await asyncio.gather(*(lms.infer("hi", MODEL) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(answer, ModelLoadError) for answer in answers)
        assert slow.endpoints().count("loadModel") == 1


async def test_a_larger_context_does_not_take_an_instance_away_from_others(slow: FaultyServer) -> None:
    slow.faults.predict = "hang after 2 words"
    async with asyncio.timeout(60), AsyncLMStrix(server=slow.address) as lms:
        await lms.scan()
        small = asyncio.create_task(lms.infer("hi", MODEL, context_length=1000))
        while "predict" not in slow.endpoints():
            await asyncio.sleep(0.01)
        for instance in slow.instances.values():
            instance.running = 0  # as between its load and its question, when the server knows of nobody
        large = asyncio.create_task(lms.infer("hi", MODEL, context_length=2000))
        while slow.endpoints().count("predict") < 2:
            await asyncio.sleep(0.01)
        assert sorted(instance.context_length for instance in slow.instances.values()) == [1000, 2000]
        small.cancel()
        large.cancel()


def test_the_limit_of_the_python_api_covers_the_load(slow: FaultyServer) -> None:
    with LMStrix(server=slow.address, timeout_s=0.5) as lms:
        lms.scan()
        slow.faults.load = "drip"
        with pytest.raises(TimeLimitError, match="of loading acme/tiny") as caught:
            lms.infer("hi", MODEL)
        assert caught.value.limit_s == 0.5
        with pytest.raises(TimeLimitError, match="of loading acme/tiny"):
            list(lms.stream("hi", MODEL, timeout_s=0.4))
        with pytest.raises(TimeLimitError, match="of loading acme/embed"):
            lms.embed("a", EMBEDDING)
        with pytest.raises(TimeLimitError, match="of loading acme/tiny"):
            lms.load(MODEL)
        slow.faults.load = ""
        slow.faults.mute.add("countTokens")
        with pytest.raises(TimeLimitError, match="of counting the prompt"):
            lms.infer("hi", MODEL, timeout_s=2.0)
    assert "loadModel" in slow.cancelled
