"""What the engine says it is doing: counters of the tokens that were worked on, and the requests under way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lmstrix.engine.activity import server_activity
from lmstrix.engine.llama.tally import Tally, Turn
from lmstrix.engine.records import LoadSettings, PromptProgressEvent
from tests.engine.pools import SCRIPTED, asking, collect, running_pool, scripted_models, stats_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from lmstrix.engine import EmbeddedEngine
    from lmstrix.engine.pool import InstancePool


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[InstancePool]:
    async with running_pool(scripted_models(tmp_path / "models")) as pool:
        yield pool


async def test_the_counters_are_the_tokens_that_were_worked_on(pool: InstancePool) -> None:
    instance = await pool.load(SCRIPTED, LoadSettings(context_length=600))
    (before,) = server_activity(pool).models
    assert (before.answered, before.prompt_tokens, before.completion_tokens, before.idle_s) == (0, 0, 0, None)
    first = stats_of(await collect(instance.predict(asking("Hi"))))
    second = stats_of(await collect(instance.predict(asking("Hi"))))
    (after,) = server_activity(pool).models
    assert after.answered == 2
    assert after.requests == ()
    assert after.idle_s is not None
    assert after.completion_tokens == (first.predicted_tokens or 0) + (second.predicted_tokens or 0)
    # Of the second prompt most was kept from the first, and is not counted again.
    new = [(stats.prompt_tokens or 0) - (stats.cached_tokens or 0) for stats in (first, second)]
    assert 0 < new[1] < new[0]
    assert after.prompt_tokens == sum(new)
    assert after.memory is not None
    assert after.memory.resident_bytes > 0


async def test_requests_that_wait_and_run(pool: InstancePool) -> None:
    instance = await pool.load(SCRIPTED, LoadSettings(context_length=2048, parallel_slots=1))
    predictions = [instance.predict(asking("story", max_tokens=1500)) for _ in range(2)]
    try:
        async with asyncio.timeout(20):
            while True:
                (model,) = server_activity(pool).models
                if len(model.requests) == 2 and any(each.completion_tokens for each in model.requests):
                    break
                await asyncio.sleep(0.005)
    finally:
        for prediction in predictions:
            await prediction.aclose()
    assert model.requests[0].age_s >= model.requests[1].age_s >= 0  # the older one first
    # Which of the two has its prompt ready first is not for us to say.
    waiting, running = sorted(model.requests, key=lambda request: request.completion_tokens)
    assert running.status == "generating"
    assert running.prompt_tokens == running.prompt_done_tokens
    assert (waiting.status, waiting.completion_tokens) == ("waiting", 0)
    (model,) = server_activity(pool).models
    assert model.requests == ()
    assert model.answered == 0  # both were left


def test_prompts_of_several_rounds_add_up() -> None:
    tally = Tally()
    turn = Turn(on_unload=lambda: None, tally=tally)
    for total, cached, processed in ((100, 20, 0), (100, 20, 50), (100, 20, 80), (60, 0, 0), (60, 0, 60)):
        turn.process(PromptProgressEvent(total_tokens=total, cached_tokens=cached, processed_tokens=processed))
    assert tally.prompt_tokens == 140
    assert (turn.prompt_tokens, turn.prompt_done_tokens) == (60, 60)
    turn.generate(3)
    turn.settle(5)
    turn.settle(5)
    assert tally.completion_tokens == turn.completion_tokens == 5


def test_over_http(warm_engine: EmbeddedEngine, http: httpx.Client) -> None:
    told = http.get("/api/lmstrix/activity").json()
    assert told["clock_s"] > 0
    (model,) = told["models"]
    assert model["instance_id"] == SCRIPTED
    assert model["completion_tokens"] >= 1
    assert model["memory"]["resident_bytes"] > 0


def test_embedded_texts_count_as_prompts(engine: EmbeddedEngine, http: httpx.Client) -> None:
    http.post(
        "/v1/embeddings", json={"model": "text-embedding-embed", "input": ["one", "two words"]}
    ).raise_for_status()
    (model,) = http.get("/api/lmstrix/activity").json()["models"]
    assert (model["answered"], model["completion_tokens"]) == (2, 0)
    assert model["prompt_tokens"] > 0
