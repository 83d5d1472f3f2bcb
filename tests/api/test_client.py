"""The asynchronous backend over the real SDK and a real socket, against a server that does its worst."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from lmstudio.async_api import _AsyncSession

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.core.answers.streaming import StreamingManager
from lmstrix.ground import errors
from lmstrix.ground.access import ServerAccess
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import (
    Deadlines,
    Finished,
    GenerationRequest,
    Message,
    PromptProgress,
    ServerInfo,
    TextDelta,
    ToolCall,
    ToolCallEvent,
    ToolDefinition,
)
from tests.support.faulty_server import FaultyModel, FaultyServer, closed_port, collapse, listening

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

TINY = "acme/tiny"
ASK = GenerationRequest(messages=(Message(role="user", text="What is 2+3?"),))
FIVE = "The sum of two and three is five."


async def load(backend: AsyncLMStudioBackend, context_length: int = 4096, **options: Any) -> None:
    await backend.load(TINY, LoadConfig(context_length=context_length, **options), instance_id="mine")


async def until(condition: Any) -> None:
    """Wait for something the server does on its own time."""
    while not condition():
        await asyncio.sleep(0.01)


# --- connecting ---------------------------------------------------------------------------------------------------


async def test_a_plain_socket_reads_no_certificates(
    backend: AsyncLMStudioBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> ssl.SSLContext:
        raise AssertionError("the system's certificates take 30 ms to read, and nothing here is signed")

    monkeypatch.setattr(ssl, "create_default_context", read)
    assert await backend.list_downloaded()


async def test_no_proxy_stands_between_this_machine_and_itself(
    backend: AsyncLMStudioBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{closed_port()}")
    assert await backend.list_downloaded()


# --- listing ------------------------------------------------------------------------------------------------------


async def test_a_load_on_a_linked_device_is_given_back(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    server.models[TINY] = replace(server.models[TINY], extra={"deviceIdentifier": "her-laptop"})
    with pytest.raises(errors.ModelLoadError, match=r"on the linked device 'her-laptop' \(LM Link\)") as failed:
        await load(backend)
    assert not failed.value.memory_evidence
    assert server.instances == {}
    assert server.parameters("unloadModel") == {"identifier": "mine", "deviceIdentifier": "her-laptop"}


async def test_downloaded_models_survive_what_the_sdk_does_not_know(
    backend: AsyncLMStudioBackend, server: FaultyServer
) -> None:
    whole = server.models[TINY].info()
    server.faults.listed = [
        whole | {"type": "drafter", "modelKey": "drafter"},
        whole | {"format": "yuzu", "modelKey": "odd-format"},
        whole | {"deviceIdentifier": "her-laptop", "modelKey": "remote"},
        {"type": "llm", "modelKey": "bare"},
        "not even an object",
        None,
    ]
    models = {model.model_key: model for model in await backend.list_downloaded()}
    assert list(models) == [TINY, "odd-format", "bare"]
    assert models["odd-format"].format == "yuzu"
    tiny = models[TINY]
    assert (tiny.kind, tiny.max_context_length, tiny.size_bytes, tiny.quantization, tiny.bits) == (
        "llm",
        32768,
        1_150_000,
        "Q8_0",
        8,
    )
    assert (tiny.publisher, tiny.params, tiny.architecture, tiny.trained_for_tool_use) == ("acme", "1B", "llama", True)


async def test_loaded_models_of_both_kinds_with_their_state() -> None:
    with FaultyServer(FaultyModel(), FaultyModel(key="acme/embed", kind="embedding", declared=512)) as server:
        both = AsyncLMStudioBackend(server.info)
        await both.load(TINY, LoadConfig(context_length=2000), instance_id="one", ttl_s=60)
        await both.load("acme/embed", LoadConfig(context_length=512), instance_id="two", kind="embedding")
        loaded = {model.instance_id: model for model in await both.list_loaded()}
        assert {name: model.kind for name, model in loaded.items()} == {"one": "llm", "two": "embedding"}
        one = loaded["one"]
        assert (one.context_length, one.max_context_length, one.ttl_s, one.status, one.queued) == (
            2000,
            32768,
            60,
            "idle",
            0,
        )
        assert loaded["two"].ttl_s is None
        await both.close()


async def test_a_server_too_old_to_tell_states_is_asked_once(
    backend: AsyncLMStudioBackend, server: FaultyServer
) -> None:
    await load(backend)
    server.faults.errors["getInstanceProcessingState"] = {"title": "Unknown endpoint"}
    for _ in range(2):
        assert [model.status for model in await backend.list_loaded()] == [None]
    assert server.endpoints().count("getInstanceProcessingState") == 1


# --- loading ------------------------------------------------------------------------------------------------------


async def test_a_load_sends_exactly_what_was_asked(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    seen: list[float] = []
    config = LoadConfig(
        context_length=8192, k_cache_type="q8_0", flash_attention=True, unified_kv=False, gpu_ratio=0.5, seed=7
    )
    loaded = await backend.load(TINY, config, instance_id="mine", ttl_s=1.5, on_progress=seen.append)
    assert (loaded.instance_id, loaded.model_key, loaded.context_length) == ("mine", TINY, 8192)
    assert seen == sorted(set(seen))
    assert seen[-1] == 1.0
    sent = server.parameters("loadModel")
    assert (sent["modelKey"], sent["identifier"], sent["ttlMs"]) == (TINY, "mine", 1500)
    assert collapse(sent["loadConfigStack"]) == {
        "llm.load.contextLength": 8192,
        "llm.load.llama.acceleration.offloadRatio": 0.5,
        "llm.load.llama.kCacheQuantizationType": {"checked": True, "value": "q8_0"},
        "llm.load.llama.flashAttention": True,
        "llm.load.numParallelSessions": 1,
        "llm.load.useUnifiedKvCache": False,
        "llm.load.seed": {"checked": True, "value": 7},
        "llm.load.llama.autoFit": False,
        "llm.load.mlx.autoFit": False,
    }


async def test_no_ttl_and_no_context_length_are_left_to_the_server(
    backend: AsyncLMStudioBackend, server: FaultyServer
) -> None:
    loaded = await backend.load(TINY, LoadConfig(context_length=None), instance_id="mine")
    assert loaded.context_length == 4096
    sent = server.parameters("loadModel")
    assert "ttlMs" not in sent
    assert "llm.load.contextLength" not in collapse(sent["loadConfigStack"])


@pytest.mark.parametrize("effective", [1024, 32000])
async def test_the_context_length_is_the_one_the_server_really_gave(effective: int) -> None:
    with FaultyServer(FaultyModel(effective=lambda asked: effective)) as server:
        backend = AsyncLMStudioBackend(server.info)
        loaded = await backend.load(TINY, LoadConfig(context_length=8192), instance_id="mine")
        assert loaded.context_length == effective
        assert "getModelInfo" in server.endpoints()
        await backend.close()


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ("refused", errors.LoadRefusedError),
        ("out of memory", errors.OutOfMemoryError),
        ("died", errors.EngineDiedError),
    ],
)
async def test_a_load_that_memory_cannot_hold(failure: str, expected: type[errors.ModelLoadError]) -> None:
    with FaultyServer(FaultyModel(loadable=6000, load_failure=failure)) as server:
        backend = AsyncLMStudioBackend(server.info)
        await backend.load(TINY, LoadConfig(context_length=6000), instance_id="fits")
        with pytest.raises(expected) as caught:
            await backend.load(TINY, LoadConfig(context_length=6001), instance_id="does-not")
        assert caught.value.memory_evidence is (failure != "refused")
        assert (caught.value.model_key, caught.value.context_length) == (TINY, 6001)
        assert list(server.instances) == ["fits"]
        await backend.close()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("close", errors.ModelLoadError),
        ("drop", errors.BackendUnavailableError),
        ("garbage", errors.BackendUnavailableError),
    ],
)
async def test_a_load_that_breaks_off_is_no_evidence_about_memory(
    backend: AsyncLMStudioBackend, server: FaultyServer, fault: str, expected: type[errors.LMStrixError]
) -> None:
    server.faults.load = fault
    with pytest.raises(expected) as caught:
        await load(backend)
    assert not caught.value.memory_evidence
    server.faults.load = ""
    await load(backend)  # whatever broke is replaced


async def test_unknown_models_and_taken_names(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    with pytest.raises(errors.ModelNotFoundError) as caught:
        await backend.load("acme/tinny", LoadConfig(context_length=1000), instance_id="mine")
    assert caught.value.suggestions == (TINY,)
    await load(backend)
    with pytest.raises(errors.ModelLoadError, match="name is taken"):
        await load(backend)
    assert [instance.reference for instance in server.instances.values()] == ["ref-1"]  # not ours to unload
    with pytest.raises(errors.ModelLoadError, match="another kind"):
        await backend.load(TINY, LoadConfig(context_length=1000), instance_id="other", kind="embedding")


async def test_a_load_past_its_deadline_is_cancelled(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    server.faults.load = "hang"
    with pytest.raises(errors.LoadTimeoutError) as caught:
        await backend.load(TINY, LoadConfig(context_length=1000), instance_id="mine", deadlines=Deadlines(load_s=0.1))
    assert server.cancelled == ["loadModel"]
    assert not server.instances
    assert not caught.value.memory_evidence


async def test_a_load_that_ignores_its_cancellation_is_unloaded_when_it_is_done(
    backend: AsyncLMStudioBackend, server: FaultyServer
) -> None:
    server.faults.load = "deaf"
    with pytest.raises(errors.LoadTimeoutError):
        await backend.load(TINY, LoadConfig(context_length=1000), instance_id="mine", deadlines=Deadlines(load_s=0.1))
    assert server.cancelled == ["loadModel"]
    server.let_go()
    await until(lambda: "unloadModel" in server.endpoints())
    await until(lambda: not server.instances)


async def test_giving_up_on_a_load_spares_who_had_the_name_before(
    backend: AsyncLMStudioBackend, server: FaultyServer
) -> None:
    await load(backend)
    server.faults.load = "deaf"
    with pytest.raises(errors.LoadTimeoutError):
        await backend.load(TINY, LoadConfig(context_length=9), instance_id="mine", deadlines=Deadlines(load_s=0.1))
    server.let_go()
    await backend.close()
    assert [instance.reference for instance in server.instances.values()] == ["ref-1"]


async def test_closing_unloads_what_a_cancelled_load_has_left(server: FaultyServer) -> None:
    server.faults.load = "deaf"
    server.faults.mute = {"unloadModel"}  # not at first
    backend = AsyncLMStudioBackend(server.info, deadlines=Deadlines(request_s=0.3))
    with pytest.raises(errors.LoadTimeoutError):
        await backend.load(TINY, LoadConfig(context_length=9), instance_id="mine", deadlines=Deadlines(load_s=0.1))
    server.let_go()
    await until(lambda: server.instances)
    server.faults.mute = set()
    await backend.close()
    assert not server.instances


async def test_a_cancelled_load_leaves_nothing(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    server.faults.load = "hang"
    task = asyncio.create_task(load(backend))
    await until(lambda: "loadModel" in server.endpoints())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.cancelled == ["loadModel"]
    assert not server.instances


async def test_a_failing_progress_callback_ends_the_load(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    def fail(ratio: float) -> None:
        raise ZeroDivisionError(ratio)

    server.faults.load = "hang"
    with pytest.raises(ZeroDivisionError):
        await backend.load(TINY, LoadConfig(context_length=1000), instance_id="mine", on_progress=fail)
    assert server.cancelled == ["loadModel"]
    assert not server.instances


async def test_unloading_twice_is_unloading(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    await load(backend)
    await backend.unload("mine")
    assert not server.instances
    await backend.unload("mine")


# --- predicting ---------------------------------------------------------------------------------------------------


async def test_a_prediction_event_by_event(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    await load(backend)
    events = [event async for event in StreamingManager(backend).events("mine", ASK)]
    progress = [event for event in events if isinstance(event, PromptProgress)]
    assert (progress[-1].ratio, progress[-1].total_tokens, progress[-1].cached_tokens) == (1.0, 3, 0)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == FIVE
    finished = events[-1]
    assert isinstance(finished, Finished)
    result = finished.result
    assert (result.text, result.instance_id, result.model_key, result.context_length) == (FIVE, "mine", TINY, 4096)
    stats = result.stats
    assert (stats.stop_reason, stats.prompt_tokens, stats.completion_tokens, stats.total_tokens) == (
        "eosFound",
        3,
        8,
        11,
    )
    assert stats.cached_tokens == 0
    assert stats.ttft_s is not None
    assert stats.total_s is not None
    assert 0 < stats.ttft_s <= stats.total_s
    assert (stats.server_ttft_s, stats.server_total_s) == (0.01, 0.02)
    assert not server.cancelled


async def test_a_prediction_sends_exactly_what_was_asked(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    await load(backend)
    tool = ToolDefinition(name="zoom", description="Magnify", parameters={"type": "object", "properties": {}})
    call = ToolCall(name="zoom", arguments={"x": 2}, call_id="c1")
    messages = (
        Message(role="system", text="Be brief."),
        Message(role="user", text="Zoom."),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", text='{"ok":true}', tool_call_id="c1"),
    )
    schema = {"type": "object", "properties": {"snake_case": {"type": "string"}}}
    request = GenerationRequest(
        messages=messages,
        max_tokens=50,
        temperature=0.0,
        top_p=0.9,
        seed=0,
        stop=("END",),
        json_schema=schema,
        tools=(tool,),
        tool_choice="required",
        enable_thinking=False,
    )
    await StreamingManager(backend).result("mine", request)
    sent = server.parameters("predict")
    assert sent["modelSpecifier"] == {"type": "instanceReference", "instanceReference": "ref-1"}
    assert collapse(sent["predictionConfigStack"]) == {
        "llm.prediction.maxPredictedTokens": {"checked": True, "value": 50},
        "llm.prediction.temperature": 0.0,
        "llm.prediction.topPSampling": {"checked": True, "value": 0.9},
        "llm.prediction.seed": {"checked": True, "value": 0},
        "llm.prediction.stopStrings": ["END"],
        "llm.prediction.contextOverflowPolicy": "stopAtLimit",
        "llm.prediction.structured": {"type": "json", "jsonSchema": schema},
        "llm.prediction.tools": {
            "type": "toolArray",
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "zoom", "description": "Magnify", "parameters": dict(tool.parameters)},
                }
            ],
        },
        "llm.prediction.toolChoice": {"type": "generic", "mode": "required"},
        "llm.prediction.reasoning.enableThinking": False,
    }
    request_part = {"type": "function", "name": "zoom", "arguments": {"x": 2}, "id": "c1"}
    assert [message["content"] for message in sent["history"]["messages"]] == [
        [{"type": "text", "text": "Be brief."}],
        [{"type": "text", "text": "Zoom."}],
        [{"type": "toolCallRequest", "toolCallRequest": request_part}],
        [{"type": "toolCallResult", "content": '{"ok":true}', "toolCallId": "c1"}],
    ]


async def test_raw_prompts_take_the_template_route(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    await load(backend)
    await StreamingManager(backend).result("mine", GenerationRequest(raw_prompt="2+3="))
    sent = server.parameters("predict")
    assert [layer["layerName"] for layer in sent["predictionConfigStack"]["layers"]] == [
        "apiOverride",
        "completeModeFormatting",
    ]
    assert sent["history"]["messages"] == [{"role": "user", "content": [{"type": "text", "text": "2+3="}]}]


async def test_images_are_uploaded_once_and_referred_to(
    backend: AsyncLMStudioBackend, server: FaultyServer, tmp_path: Path
) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"not really a picture")
    await load(backend)
    shown = Message(role="user", text="What is it?", images=(str(picture),))
    await StreamingManager(backend).result("mine", GenerationRequest(messages=(shown, shown)))
    assert server.endpoints().count("uploadFileBase64") == 1
    part = server.parameters("predict")["history"]["messages"][0]["content"][1]
    assert part == {"type": "file", "name": "a.png", "identifier": "f-a.png", "fileType": "image", "sizeBytes": 21}
    missing = Message(role="user", images=(str(tmp_path / "b.png"),))
    with pytest.raises(errors.UsageError, match=r"b\.png cannot be read"):
        await StreamingManager(backend).result("mine", GenerationRequest(messages=(missing,)))


@pytest.mark.parametrize(
    ("limits", "fault", "stage", "partial"),
    [
        (Deadlines(first_token_s=0.1), "hang", "first token", ""),
        (Deadlines(first_token_s=0.1), "deaf", "first token", ""),
        (Deadlines(between_tokens_s=0.1), "hang after 2 words", "between tokens", "The sum "),
        (Deadlines(between_tokens_s=0.1), "deaf after 2 words", "between tokens", "The sum "),
        (Deadlines(total_s=0.1), "hang after 3 words", "total", "The sum of "),
        (Deadlines(silence_s=0.1), "hang", "silence", ""),
        (Deadlines(silence_s=0.1, between_tokens_s=9), "hang after 2 words", "silence", "The sum "),
        (Deadlines(total_s=0.1, between_tokens_s=0.2, first_token_s=0.2), "hang", "total", ""),
    ],
)
async def test_every_deadline_of_a_stream_fires_and_cancels(
    backend: AsyncLMStudioBackend, server: FaultyServer, limits: Deadlines, fault: str, stage: str, partial: str
) -> None:
    await load(backend)
    server.faults.predict = fault
    with pytest.raises(errors.StreamStalledError) as caught:
        await StreamingManager(backend).result("mine", ASK, deadlines=limits)
    assert (caught.value.stage, caught.value.waited_s, caught.value.partial_text) == (stage, 0.1, partial)
    assert server.cancelled == ["predict"]
    server.let_go()
    server.faults.predict = ""
    assert (await StreamingManager(backend).result("mine", ASK)).text == FIVE


async def test_progress_of_the_prompt_does_not_put_off_the_first_token() -> None:
    with FaultyServer() as server:
        patient = AsyncLMStudioBackend(server.info)
        await load(patient)
        server.faults.predict = "hang"
        seen = []

        async def read() -> None:
            async for event in StreamingManager(patient).events(
                "mine", ASK, deadlines=Deadlines(first_token_s=0.2, between_tokens_s=9)
            ):
                seen.append(event)
                await asyncio.sleep(0.1)  # three progress events, each well within the deadline

        with pytest.raises(errors.StreamStalledError):
            await read()
        assert len(seen) == 3
        await patient.close()


async def test_a_slow_reader_is_not_a_stalled_server(backend: AsyncLMStudioBackend) -> None:
    await load(backend)
    text = ""
    async for event in StreamingManager(backend).events("mine", ASK, deadlines=Deadlines(between_tokens_s=0.05)):
        await asyncio.sleep(0.07)
        text += event.text if isinstance(event, TextDelta) else ""
    assert text == FIVE


@pytest.mark.parametrize("way", ["leave", "cancel"])
async def test_leaving_a_stream_early_cancels_it(backend: AsyncLMStudioBackend, server: FaultyServer, way: str) -> None:
    await load(backend)
    server.faults.predict = "hang after 2 words"

    async def read() -> None:
        async with contextlib.aclosing(StreamingManager(backend).events("mine", ASK)) as events:
            async for event in events:
                if isinstance(event, TextDelta) and way == "leave":
                    break

    task = asyncio.create_task(read())
    if way == "cancel":
        await until(lambda: server.instances["mine"].running)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        await task
    assert server.cancelled == ["predict"]
    assert server.instances["mine"].running == 0


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("crash", errors.EngineCrashedError),
        ("crash after 3 words", errors.EngineCrashedError),
        ("drop", errors.BackendUnavailableError),
        ("drop after 3 words", errors.BackendUnavailableError),
        ("garbage", errors.BackendUnavailableError),
        ("empty", errors.EmptyAnswerError),
        ("close after 3 words", errors.GenerationError),
        ("in-band error", errors.GenerationError),
        ("unloaded", errors.ModelUnloadedError),
        ("failed", errors.GenerationError),
    ],
)
async def test_a_prediction_that_fails(
    backend: AsyncLMStudioBackend, server: FaultyServer, fault: str, expected: type[errors.LMStrixError]
) -> None:
    await load(backend)
    server.faults.predict = fault
    with pytest.raises(errors.LMStrixError) as caught:
        await StreamingManager(backend).result("mine", ASK)
    assert type(caught.value) is expected
    assert not caught.value.memory_evidence
    server.faults.predict = ""
    assert (await StreamingManager(backend).result("mine", ASK)).text == FIVE


async def test_statistics_nobody_understands_do_not_cost_the_answer(
    backend: AsyncLMStudioBackend, server: FaultyServer
) -> None:
    await load(backend)
    server.faults.predict = "bad stats"
    result = await StreamingManager(backend).result("mine", ASK)
    assert result.text == FIVE
    assert (result.stats.stop_reason, result.stats.prompt_tokens, result.stats.completion_tokens) == (None, None, None)
    assert result.stats.total_tokens == 11


async def test_a_prompt_that_does_not_fit_is_refused_with_its_numbers(backend: AsyncLMStudioBackend) -> None:
    await load(backend, 50)
    long = Message(role="user", text="word " * 60)
    with pytest.raises(errors.ContextOverflowError) as caught:
        await StreamingManager(backend).result("mine", GenerationRequest(messages=(long,)))
    assert (caught.value.prompt_tokens, caught.value.context_length, caught.value.model_key) == (60, 50, TINY)
    cut = await StreamingManager(backend).result(
        "mine", GenerationRequest(messages=(long,), overflow_policy="truncateMiddle")
    )
    assert cut.stats.prompt_tokens is not None
    assert cut.stats.prompt_tokens < 50


async def test_an_instance_that_was_replaced_is_not_mistaken_for_ours(
    backend: AsyncLMStudioBackend, server: FaultyServer
) -> None:
    await load(backend)
    stranger = AsyncLMStudioBackend(server.info)
    await stranger.unload("mine")
    await stranger.load(TINY, LoadConfig(context_length=1000), instance_id="mine")
    with pytest.raises(errors.ModelUnloadedError):
        await StreamingManager(backend).result("mine", ASK)
    other = AsyncLMStudioBackend(server.info)  # one that did not load it takes it as it is
    assert (await StreamingManager(other).result("mine", ASK)).context_length == 1000
    await asyncio.gather(stranger.close(), other.close())


async def test_an_instance_nobody_loaded_is_not_found(backend: AsyncLMStudioBackend) -> None:
    with pytest.raises(errors.ModelNotFoundError, match="nowhere"):
        await StreamingManager(backend).result("nowhere", ASK)
    with pytest.raises(errors.ModelNotFoundError):
        await backend.count_tokens("nowhere", "text")


async def test_a_hundred_streams_share_one_connection(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    await load(backend)
    results = await asyncio.gather(*(StreamingManager(backend).result("mine", ASK) for _ in range(100)))
    assert {result.text for result in results} == {FIVE}
    assert server.paths["/llm"] == 1


# --- tokens, templates, embeddings, estimates ---------------------------------------------------------------------


async def test_tokens_and_templates(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    await load(backend)
    assert await backend.count_tokens("mine", "one two three") == 3
    assert await backend.tokenize("mine", "one three") == [3, 5]
    tool = ToolDefinition(name="zoom", description="", parameters={"type": "object", "properties": {}})
    assert await backend.apply_template("mine", ASK.messages, tools=(tool,)) == "What is 2+3?"
    options = server.parameters("applyPromptTemplate")["opts"]
    assert options["toolDefinitions"][0]["function"]["name"] == "zoom"


async def test_embeddings_and_estimates() -> None:
    with FaultyServer(FaultyModel(key="acme/embed", kind="embedding", loadable=300)) as server:
        backend = AsyncLMStudioBackend(server.info)
        await backend.load("acme/embed", LoadConfig(context_length=256), instance_id="mine", kind="embedding")
        vectors = await backend.embed("mine", ["x" * length for length in range(40)])
        assert vectors == [[float(length), 1.0] for length in range(40)]
        assert await backend.count_tokens("mine", "a b") == 2
        await backend.list_downloaded()  # from here on it knows this is no llm
        fits, does_not = [await backend.estimate("acme/embed", LoadConfig(context_length=n)) for n in (300, 301)]
        assert (fits.context_bytes, fits.total_bytes, fits.confidence) == (300_000, 1_450_000, "high")
        assert (fits.passes_guardrails, does_not.passes_guardrails) == (True, False)
        await backend.close()


@pytest.mark.parametrize("answer", [None, {}, [], {"tokenCount": "many"}, {"tokenCount": None}])
async def test_answers_that_make_no_sense(backend: AsyncLMStudioBackend, server: FaultyServer, answer: object) -> None:
    await load(backend)
    server.faults.answers["countTokens"] = answer
    with pytest.raises(errors.BackendUnavailableError, match="cannot be read"):
        await backend.count_tokens("mine", "text")


async def test_a_request_past_its_deadline(server: FaultyServer) -> None:
    server.faults.mute = {"listDownloadedModels"}
    backend = AsyncLMStudioBackend(server.info, deadlines=Deadlines(request_s=0.1))
    with pytest.raises(errors.BackendTimeoutError, match=r"list its models within 0\.1 s"):
        await backend.list_downloaded()
    server.faults.mute = set()
    assert await backend.list_downloaded()
    await backend.close()


# --- connecting ---------------------------------------------------------------------------------------------------


async def test_only_what_is_needed_is_connected(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    await backend.list_downloaded()
    assert [path for path in server.paths if not path.startswith("/lm")] == ["/system"]


async def test_a_token_goes_into_the_greeting(server: FaultyServer) -> None:
    async with AsyncLMStudioBackend(server.info, access=ServerAccess(api_token="sk-lm-abcdefgh:0123456789abcdefghij")):
        frames = [frame for name, frame in server.seen if name == "auth"]
    expected = {"authVersion": 1, "clientIdentifier": "abcdefgh", "clientPasskey": "0123456789abcdefghij"}
    assert frames == [expected, expected]
    with pytest.raises(errors.SettingsError, match="sk-lm-"):
        await AsyncLMStudioBackend(server.info, access=ServerAccess(api_token="hunter2")).connect()


@pytest.mark.parametrize("auth", ["refused", "refused with object"])
async def test_a_refused_token(backend: AsyncLMStudioBackend, server: FaultyServer, auth: str) -> None:
    server.faults.auth = auth
    with pytest.raises(errors.AuthenticationError, match="LM_API_TOKEN"):
        await backend.list_downloaded()
    server.faults.auth = ""
    assert await backend.list_downloaded()


async def test_a_server_that_says_nothing_when_greeted(server: FaultyServer) -> None:
    server.faults.auth = "silent"
    backend = AsyncLMStudioBackend(server.info, deadlines=Deadlines(connect_s=0.1))
    with pytest.raises(errors.BackendTimeoutError):
        await asyncio.gather(*(backend.list_downloaded() for _ in range(20)))
    await backend.close()


async def test_a_server_that_greets_with_garbage(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    server.faults.auth = "garbage"
    with pytest.raises(errors.BackendUnavailableError):
        await backend.list_downloaded()


async def test_nobody_there() -> None:
    backend = AsyncLMStudioBackend(ServerInfo(address=f"127.0.0.1:{closed_port()}", engine="lmstudio"))
    with pytest.raises(errors.BackendUnavailableError, match="no LM Studio answers") as caught:
        await backend.connect()
    assert caught.value.address == backend.server.address
    await backend.close()


async def test_a_silent_port_is_given_up() -> None:
    with listening(None) as address:
        server = ServerInfo(address=address, engine="lmstudio")
        backend = AsyncLMStudioBackend(server, deadlines=Deadlines(connect_s=0.1))
        with pytest.raises(errors.BackendTimeoutError):
            await backend.connect()
        await backend.close()


async def test_a_lost_connection_is_told_and_then_replaced(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    server.faults.mute = {"listDownloadedModels"}
    asking = asyncio.create_task(backend.list_downloaded())
    await until(lambda: "listDownloadedModels" in server.endpoints())
    server.drop_connections()
    with pytest.raises(errors.BackendUnavailableError, match="was lost"):
        await asking
    server.faults.mute = set()
    assert await backend.list_downloaded()
    assert server.paths["/system"] == 2


async def test_tool_calls_reasoning_and_garbled_calls(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    """Packets no scripted model sends, put into a channel by hand."""
    await load(backend)
    packets = [
        fragment("<think>", "reasoningStartTag"),
        fragment("Hm.", "reasoning"),
        fragment("</think>", "reasoningEndTag"),
        {"type": "toolCallGenerationStart"},
        {"type": "toolCallGenerationNameReceived", "name": "zoom"},
        {
            "type": "toolCallGenerationEnd",
            "toolCallRequest": {"type": "function", "name": "zoom", "id": "c", "arguments": {}},
        },
        {"type": "toolCallGenerationFailed", "error": {"title": "not JSON"}},
        {"type": "aPacketOfTheFuture"},
        fragment("Done."),
    ]
    server.script = packets
    events = [event async for event in StreamingManager(backend).events("mine", ASK)]
    calls = [event.call for event in events if isinstance(event, ToolCallEvent)]
    assert [(call.name, call.arguments, call.call_id, call.error) for call in calls] == [
        ("zoom", {}, "c", None),
        ("", None, None, "not JSON"),
    ]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.result.text, finished.result.reasoning) == ("Done.", "Hm.")
    assert finished.result.tool_calls == tuple(calls)
    assert [event.structural for event in events if isinstance(event, TextDelta)] == [True, False, True, False]


def fragment(content: str, reasoning_type: str = "none") -> dict[str, Any]:
    inner = {"content": content, "tokensCount": 1, "containsDrafted": False, "reasoningType": reasoning_type}
    return {"type": "fragment", "fragment": inner}


@pytest.mark.parametrize("asked", ["load", "predict"])
async def test_what_is_cancelled_while_it_is_asked_for_is_cancelled_on_the_server(
    backend: AsyncLMStudioBackend, server: FaultyServer, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    await load(backend)
    server.faults.predict = server.faults.load = "hang"
    sent = asyncio.Event()
    create_channel = _AsyncSession._create_channel

    @contextlib.asynccontextmanager
    async def over_a_slow_socket(session: _AsyncSession, endpoint: Any) -> AsyncGenerator[Any]:
        async with create_channel(session, endpoint) as channel:
            sent.set()
            await asyncio.sleep(0.05)
            yield channel

    monkeypatch.setattr(_AsyncSession, "_create_channel", over_a_slow_socket)

    async def steps() -> None:
        if asked == "load":
            await backend.load(TINY, LoadConfig(context_length=100), instance_id="other")
        else:
            await StreamingManager(backend).result("mine", ASK)

    task = asyncio.create_task(steps())
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await until(lambda: bool(server.cancelled))
    assert server.cancelled == ["predict" if asked == "predict" else "loadModel"]
    assert list(server.instances) == ["mine"]
