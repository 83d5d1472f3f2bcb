"""The client and the embedded engine together: real models through the real llama.cpp, over the real SDK."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.api.discovery import find_server
from lmstrix.api.rest import fetch_capabilities
from lmstrix.core.answers.streaming import StreamingManager
from lmstrix.engine import EmbeddedEngine
from lmstrix.ground import errors
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import (
    Deadlines,
    Finished,
    GenerationRequest,
    Message,
    PromptProgress,
    TextDelta,
    ToolCallEvent,
    ToolDefinition,
)
from tests.support.model_files import put_model
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SCRIPTED, EMBEDDING = "scripted", "text-embedding-embed"
SMALL = LoadConfig(context_length=1024)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    models = tmp_path_factory.mktemp("models")
    for name, file in (("scripted", scripted_model(context_length=1_000_000_000)), ("embed", tiny_model("bert"))):
        put_model(models, name, file)
    with EmbeddedEngine(models, memory_limit=2**30) as running:
        yield running


@pytest.fixture
async def backend(engine: EmbeddedEngine) -> AsyncIterator[AsyncLMStudioBackend]:
    async with asyncio.timeout(30), AsyncLMStudioBackend(await find_server(engine.address)) as opened:
        yield opened
        for model in await opened.list_loaded():
            await opened.unload(model.instance_id, kind=model.kind)


def user(text: str, **options: object) -> GenerationRequest:
    return GenerationRequest(messages=(Message(role="user", text=text),), **options)  # type: ignore[arg-type]


async def test_a_whole_life(backend: AsyncLMStudioBackend) -> None:
    assert backend.server.engine == "embedded"
    models = {model.model_key: model for model in (await backend.list_downloaded())}
    assert {key: model.kind for key, model in models.items()} == {SCRIPTED: "llm", EMBEDDING: "embedding"}
    assert models[SCRIPTED].size_bytes > 0
    progress: list[float] = []
    loaded = await backend.load(
        SCRIPTED, LoadConfig(context_length=1000), instance_id="lmstrix-1", on_progress=progress.append
    )
    assert (loaded.instance_id, loaded.model_key, loaded.context_length) == ("lmstrix-1", SCRIPTED, 1000)
    assert progress[-1] == 1.0
    assert [(model.instance_id, model.status) for model in (await backend.list_loaded())] == [("lmstrix-1", "idle")]
    result = await StreamingManager(backend).result("lmstrix-1", user("2+3=", max_tokens=20))
    assert "5" in result.text
    assert (result.stats.stop_reason, result.context_length) == ("eosFound", 1000)
    template = await backend.apply_template("lmstrix-1", [Message(role="user", text="2+3=")])
    assert result.stats.prompt_tokens == pytest.approx((await backend.count_tokens("lmstrix-1", template)), abs=1)
    assert len(await backend.tokenize("lmstrix-1", template)) == (await backend.count_tokens("lmstrix-1", template))
    assert (
        "5"
        in (
            await StreamingManager(backend).result("lmstrix-1", GenerationRequest(raw_prompt="2+3=", max_tokens=20))
        ).text
    )
    (await backend.unload("lmstrix-1"))
    (await backend.unload("lmstrix-1"))
    assert (await backend.list_loaded()) == []


async def test_embeddings(backend: AsyncLMStudioBackend) -> None:
    (await backend.load(EMBEDDING, LoadConfig(context_length=128), instance_id="vectors", kind="embedding"))
    first, second, again = await backend.embed("vectors", ["one", "two", "one"])
    assert first == again != second
    assert len(first) == len(second)
    assert (await backend.count_tokens("vectors", "one two")) > 0


async def test_capabilities_over_rest(backend: AsyncLMStudioBackend) -> None:
    (await backend.load(SCRIPTED, SMALL, instance_id="mine"))
    assert (await fetch_capabilities(backend.server))[SCRIPTED].loaded == {"mine": 1024}


async def test_reasoning_and_tool_calls(backend: AsyncLMStudioBackend) -> None:
    (await backend.load(SCRIPTED, SMALL, instance_id="mine"))
    thought = await StreamingManager(backend).result("mine", user("think about 2+3", max_tokens=80))
    assert "five" in thought.text
    assert "Two plus three" in thought.reasoning
    assert "think>" not in thought.text + thought.reasoning
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = ToolDefinition(name="get_weather", description="The weather", parameters=parameters)
    events = [
        event
        async for event in backend.stream("mine", user("What is the weather in Paris?", tools=(tool,), max_tokens=80))
    ]
    calls = [event.call for event in events if isinstance(event, ToolCallEvent)]
    assert [(call.name, call.arguments) for call in calls] == [("get_weather", {"city": "Paris"})]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.result.tool_calls == tuple(calls)
    assert finished.result.stats.stop_reason == "toolCalls"


async def test_limits_and_overflow(backend: AsyncLMStudioBackend) -> None:
    (await backend.load(SCRIPTED, LoadConfig(context_length=256), instance_id="mine"))
    cut = await StreamingManager(backend).result("mine", user("Tell me a story", max_tokens=30))
    assert (cut.stats.stop_reason, cut.stats.completion_tokens) == ("maxPredictedTokensReached", 30)
    full = await StreamingManager(backend).result("mine", user("Tell me a story"))
    assert full.stats.stop_reason == "contextLengthReached"
    assert full.stats.total_tokens == pytest.approx(256, abs=2)
    with pytest.raises(errors.ContextOverflowError) as caught:
        (await StreamingManager(backend).result("mine", user("word " * 600)))
    assert caught.value.context_length == 256
    assert caught.value.prompt_tokens is not None
    assert caught.value.prompt_tokens > 600


async def test_memory_that_does_not_suffice(backend: AsyncLMStudioBackend) -> None:
    huge = LoadConfig(context_length=500_000_000)
    fits, does_not = (await backend.estimate(SCRIPTED, SMALL)), (await backend.estimate(SCRIPTED, huge))
    assert (fits.passes_guardrails, does_not.passes_guardrails) == (True, False)
    with pytest.raises(errors.LoadRefusedError) as caught:
        (await backend.load(SCRIPTED, huge, instance_id="huge"))
    assert not caught.value.memory_evidence  # of the limit that was set, not of the memory there is
    assert (await backend.list_loaded()) == []


async def test_names_nobody_knows(backend: AsyncLMStudioBackend) -> None:
    with pytest.raises(errors.ModelNotFoundError) as caught:
        (await backend.load("scriptd", SMALL, instance_id="mine"))
    assert SCRIPTED in " ".join(caught.value.suggestions)
    with pytest.raises(errors.ModelNotFoundError):
        (await StreamingManager(backend).result("nobody", user("2+3=")))


async def test_deadlines_and_leaving_free_the_instance(backend: AsyncLMStudioBackend) -> None:
    await backend.load(SCRIPTED, LoadConfig(context_length=4096), instance_id="mine")
    with pytest.raises(errors.StreamStalledError) as caught:
        await StreamingManager(backend).result("mine", user("Tell me a story"), deadlines=Deadlines(total_s=0.05))
    assert caught.value.stage == "total"
    async with contextlib.aclosing(StreamingManager(backend).events("mine", user("Tell me a story"))) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    assert [model.status for model in await backend.list_loaded()] == ["idle"]


async def test_progress_of_a_long_prompt(backend: AsyncLMStudioBackend) -> None:
    await backend.load(SCRIPTED, LoadConfig(context_length=20_000), instance_id="mine")
    events = [event async for event in StreamingManager(backend).events("mine", user("word " * 3000, max_tokens=4))]
    progress = [event for event in events if isinstance(event, PromptProgress)]
    ratios = [event.ratio for event in progress]
    assert ratios == sorted(ratios)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert progress[-1].total_tokens == finished.result.stats.prompt_tokens


async def test_a_killed_engine_is_told_from_a_lost_connection(backend: AsyncLMStudioBackend) -> None:
    before = set(psutil.Process().children(recursive=True))
    await backend.load(SCRIPTED, LoadConfig(context_length=100_000), instance_id="mine")
    children = [child for child in psutil.Process().children(recursive=True) if child not in before]

    async def read() -> None:
        async for event in StreamingManager(backend).events("mine", user("Tell me a story")):
            if isinstance(event, TextDelta):
                for child in children:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()

    with pytest.raises(errors.EngineCrashedError):
        await read()
    assert await backend.list_loaded() == []


async def test_a_cancelled_load_leaves_nothing(backend: AsyncLMStudioBackend) -> None:
    with pytest.raises(errors.LoadTimeoutError):
        await backend.load(SCRIPTED, SMALL, instance_id="mine", deadlines=Deadlines(load_s=0.001))
    assert await backend.list_loaded() == []


async def test_fifty_streams_at_once(backend: AsyncLMStudioBackend) -> None:
    await backend.load(SCRIPTED, SMALL, instance_id="mine")
    threads = threading.active_count()
    results = await asyncio.gather(
        *(StreamingManager(backend).result("mine", user("2+3=", max_tokens=20)) for _ in range(50))
    )
    assert {result.text for result in results} == {results[0].text}
    assert threading.active_count() <= threads + 1  # the engine, in this process, looks at a model at work in one


async def test_the_engine_names_its_runtime_like_lm_studio(backend: AsyncLMStudioBackend) -> None:
    found = await backend.runtime("gguf")
    assert found is not None
    assert found.name.endswith("xllamacpp")
    assert await backend.runtime("safetensors") is None
