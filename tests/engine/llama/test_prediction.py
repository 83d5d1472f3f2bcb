"""Predictions through real llama.cpp: texts, reasons, figures, tools, limits, overflow, cancelling, queueing."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.records import (
    ChatPart,
    ChatTurn,
    FragmentEvent,
    LoadSettings,
    PredictionDone,
    PredictionInput,
    PredictionSettings,
    PromptProgressEvent,
    ToolCallArgumentEvent,
    ToolCallEndEvent,
    ToolCallFailedEvent,
    ToolCallNameEvent,
    ToolCallStartEvent,
)
from tests.engine.pools import SCRIPTED, asking, collect, put, running_pool, scripted_models, stats_of, text_of, user
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import GREETING, JSON_ANSWER, RAMBLE, Reply, scripted_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from lmstrix.engine.instance import Instance
    from lmstrix.engine.pool import InstancePool
    from lmstrix.ground.types import OverflowPolicy

CONTEXT = 600
WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[InstancePool]:
    async with running_pool(scripted_models(tmp_path / "models")) as pool:
        yield pool


@pytest.fixture
async def instance(pool: InstancePool) -> Instance:
    return await pool.load(SCRIPTED, LoadSettings(context_length=CONTEXT), kind="llm")


async def loaded(pool: InstancePool, source: Path, **settings: Any) -> Instance:
    put(pool.catalog.directory, source, "acme/extra-GGUF/extra-f16.gguf")
    pool.catalog.rescan()
    return await pool.load("extra", LoadSettings(**{"context_length": CONTEXT, **settings}), kind="llm")


async def test_an_answer_with_its_figures(instance: Instance) -> None:
    events = await collect(instance.predict(asking("Hi")))
    assert text_of(events) == GREETING.text
    stats = stats_of(events)
    assert stats.stop_reason == "eosFound"
    progress = [event for event in events if isinstance(event, PromptProgressEvent)]
    assert progress[0].processed_tokens == 0
    assert progress[-1].processed_tokens == progress[-1].total_tokens == stats.prompt_tokens
    assert stats.prompt_tokens == await instance.model.count_tokens(await instance.model.apply_template([user("Hi")]))
    assert stats.predicted_tokens is not None
    assert sum(e.tokens_count for e in events if isinstance(e, FragmentEvent)) <= stats.predicted_tokens
    assert stats.reasoning_tokens == 0
    assert stats.ttft_s is not None
    assert stats.total_s is not None
    assert 0 < stats.ttft_s <= stats.total_s
    assert stats.tokens_per_second is not None
    assert stats.prefill_tokens_per_second is not None
    assert instance.slots.last_used_ms is not None
    assert (instance.slots.status, instance.slots.queued) == ("idle", 0)


async def test_cached_tokens_are_told(instance: Instance) -> None:
    assert stats_of(await collect(instance.predict(asking("Hi")))).cached_tokens == 0
    events = await collect(instance.predict(asking("Hi")))
    again = stats_of(events)
    assert again.cached_tokens is not None
    assert again.cached_tokens > 0
    progress = [event for event in events if isinstance(event, PromptProgressEvent)]
    assert progress[-1].done_tokens == progress[-1].total_tokens


async def test_why_it_stopped(instance: Instance) -> None:
    story = "Tell me a story"
    limited = stats_of(await collect(instance.predict(asking(story, max_tokens=7))))
    assert (limited.stop_reason, limited.predicted_tokens) == ("maxPredictedTokensReached", 7)
    events = await collect(instance.predict(asking(story, stop=("seven mills", "never"))))
    assert (stats_of(events).stop_reason, stats_of(events).stop_string) == ("stopStringFound", "seven mills")
    assert text_of(events) == RAMBLE.text.partition("seven mills")[0]
    full = stats_of(await collect(instance.predict(asking(story))))
    assert full.stop_reason == "contextLengthReached"
    room = CONTEXT - (full.prompt_tokens or 0)
    exact = stats_of(await collect(instance.predict(asking(story, max_tokens=room))))
    assert exact.stop_reason == "maxPredictedTokensReached"
    one = stats_of(await collect(instance.predict(asking(story, max_tokens=1))))
    assert (one.predicted_tokens, one.tokens_per_second) == (1, None)


async def test_reasoning_is_told_from_the_answer(instance: Instance) -> None:
    events = await collect(instance.predict(asking("Please think")))
    assert text_of(events, "reasoningStartTag") == "<think>"
    assert text_of(events, "reasoning") == "\nTwo plus three makes five.\n"
    assert text_of(events, "reasoningEndTag") == "</think>"
    assert text_of(events) == "\n\nThe answer: five."
    assert [e.structural for e in events if isinstance(e, FragmentEvent)].count(True) == 2
    stats = stats_of(events)
    assert stats.predicted_tokens is not None
    assert stats.reasoning_tokens is not None
    assert 0 < stats.reasoning_tokens < stats.predicted_tokens
    unparsed = await collect(instance.predict(asking("Please think", reasoning_start=None, reasoning_end=None)))
    assert text_of(unparsed) == "<think>\nTwo plus three makes five.\n</think>\n\nThe answer: five."


@pytest.mark.parametrize("budget", [0, 1, 4, 500])
async def test_reasoning_ends_when_its_budget_is_spent(instance: Instance, budget: int) -> None:
    events = await collect(instance.predict(asking("Please think", reasoning_budget_tokens=budget)))
    thought = "\nTwo plus three makes five.\n"
    reasoning = text_of(events, "reasoning")
    assert thought.startswith(reasoning)
    assert (reasoning == thought) == (budget == 500)
    assert text_of(events, "reasoningEndTag") == "</think>"
    assert text_of(events)
    assert stats_of(events).stop_reason == "eosFound"


async def test_a_budget_for_reasoning_limits_no_answer(instance: Instance) -> None:
    events = await collect(instance.predict(asking("Hi", reasoning_budget_tokens=2)))
    assert text_of(events) == GREETING.text
    assert stats_of(events).stop_reason == "eosFound"
    limited = asking("Tell me a story", reasoning_budget_tokens=3, max_tokens=11)
    assert stats_of(await collect(instance.predict(limited))).predicted_tokens == 11


async def test_a_raw_prompt_is_taken_as_it_is(instance: Instance) -> None:
    events = await collect(instance.predict(PredictionInput(raw_prompt="2+3=")))
    assert text_of(events) == "5"


async def test_every_sampling_setting_reaches_llama_cpp(instance: Instance) -> None:
    """llama.cpp's last event lists the settings it used."""
    settings = PredictionSettings(
        max_tokens=3,
        temperature=0.25,
        top_k=17,
        top_p=0.75,
        min_p=0.125,
        repeat_penalty=1.25,
        presence_penalty=0.5,
        frequency_penalty=0.375,
        xtc_probability=0.0625,
        xtc_threshold=0.25,
        typical_p=0.875,
        mirostat=2,
        mirostat_eta=0.5,
        mirostat_tau=4.5,
        logit_bias=((5, -1.5),),
        seed=42,
        stop=("zebra",),
        gbnf_grammar="root ::= [a-z ]*",
        log_probs=2,
    )
    bodies = Recorder(instance)
    await collect(instance.predict(PredictionInput(turns=(user("Hi"),), settings=settings)))
    (final,) = bodies.finals
    used = final["generation_settings"]
    expected = {
        "n_predict": 3,
        "temperature": 0.25,
        "top_k": 17,
        "top_p": 0.75,
        "min_p": 0.125,
        "repeat_penalty": 1.25,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.375,
        "xtc_probability": 0.0625,
        "xtc_threshold": 0.25,
        "typical_p": 0.875,
        "mirostat": 2,
        "mirostat_eta": 0.5,
        "mirostat_tau": 4.5,
        "logit_bias": [{"bias": -1.5, "token": 5}],
        "seed": 42,
        "stop": ["zebra"],
        "grammar": "root ::= [a-z ]*",
        "n_probs": 2,
    }
    assert {key: used[key] for key in expected} == expected


class Recorder:
    """Keeps the last events llama.cpp sends to an instance."""

    def __init__(self, instance: Instance) -> None:
        self.finals: list[dict[str, Any]] = []
        client, original = instance.model.client, instance.model.client.stream

        def stream(path: str, body: dict[str, Any]) -> Any:
            return _Recorded(original(path, body), self.finals)

        client.stream = stream  # type: ignore[method-assign, assignment]


class _Recorded:
    def __init__(self, context: Any, finals: list[dict[str, Any]]) -> None:
        self._context, self._finals = context, finals

    async def __aenter__(self) -> AsyncIterator[list[dict[str, Any]]]:
        return self._read(await self._context.__aenter__())

    async def __aexit__(self, *exc: object) -> Any:
        return await self._context.__aexit__(*exc)

    async def _read(self, batches: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[list[dict[str, Any]]]:
        async for batch in batches:
            self._finals += [event for event in batch if event.get("stop")]
            yield batch


async def test_the_same_seed_says_the_same(pool: InstancePool) -> None:
    noise = await loaded(pool, tiny_model(), seed=7)
    said = [
        text_of(await collect(noise.predict(asking("Hi", max_tokens=24, temperature=2.0, **extra))))
        for extra in ({"seed": 1}, {"seed": 1}, {"seed": 2}, {}, {})
    ]
    assert said[0] == said[1] != said[2]
    assert said[3] == said[4]


async def test_probabilities_are_sent_when_asked_for(instance: Instance) -> None:
    events = await collect(instance.predict(asking("Hi", log_probs=3)))
    fragments = [event for event in events if isinstance(event, FragmentEvent)]
    assert text_of(events) == GREETING.text == "".join(t["text"] for e in fragments for t in e.tokens)
    for token in (token for event in fragments for token in event.tokens):
        assert token["logProb"] <= 0
        assert len(token["candidates"]) == 3
        assert token["candidates"][0]["id"] == token["id"]
    none = await collect(instance.predict(asking("Hi")))
    assert all(event.tokens == () for event in none if isinstance(event, FragmentEvent))


async def test_structured_answers_obey(pool: InstancePool) -> None:
    noise = await loaded(pool, tiny_model())
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    events = await collect(noise.predict(asking("Hi", json_schema=schema, seed=3)))
    assert set(json.loads(text_of(events))) == {"ok"}
    events = await collect(noise.predict(asking("Hi", gbnf_grammar='root ::= "yes" | "no"')))
    assert text_of(events) in ("yes", "no")
    with pytest.raises(EngineFault, match="grammar") as caught:
        await collect(noise.predict(asking("Hi", gbnf_grammar="root ::= (((")))
    assert caught.value.kind == "invalid"


async def test_any_json_is_an_object(instance: Instance) -> None:
    events = await collect(instance.predict(asking("JSON, please", json_any=True)))
    assert text_of(events) == JSON_ANSWER.text


async def test_a_tool_call_in_all_its_steps(instance: Instance) -> None:
    events = await collect(instance.predict(asking("How is the weather?", tools=(WEATHER_TOOL,))))
    kinds = [type(e) for e in events if not isinstance(e, PromptProgressEvent | FragmentEvent)]
    assert tuple(kinds[:2]) == (ToolCallStartEvent, ToolCallNameEvent)
    assert kinds[-2] is ToolCallEndEvent
    arguments = "".join(e.text for e in events if isinstance(e, ToolCallArgumentEvent))
    assert json.loads(arguments) == {"city": "Paris"}
    (call,) = [e for e in events if isinstance(e, ToolCallEndEvent)]
    assert (call.name, call.arguments) == ("get_weather", {"city": "Paris"})
    assert call.call_id
    stats = stats_of(events)
    assert stats.stop_reason == "toolCalls"
    assert stats.prompt_tokens is not None
    assert stats.predicted_tokens is not None

    turns = (
        user("How is the weather?"),
        ChatTurn(
            role="assistant",
            parts=(ChatPart(type="toolCallRequest", call_id=call.call_id, name=call.name, arguments=call.arguments),),
        ),
        ChatTurn(role="tool", parts=(ChatPart(type="toolCallResult", text="21", call_id=call.call_id),)),
    )
    request = PredictionInput(turns=turns, settings=PredictionSettings(tools=(WEATHER_TOOL,)))
    answer = await collect(instance.predict(request))
    assert text_of(answer) == "It is 21 degrees in Paris today."
    assert stats_of(answer).stop_reason == "eosFound"


async def test_reasoning_beside_tools(instance: Instance) -> None:
    events = await collect(instance.predict(asking("Please think", tools=(WEATHER_TOOL,))))
    assert text_of(events, "reasoning").strip() == "Two plus three makes five."
    assert text_of(events, "reasoningStartTag") == "<think>"
    assert text_of(events).strip() == "The answer: five."


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('<tool_call>\n{"name": "get_weather", "arguments": {"city": ', "maxPredictedTokensReached"),
        ("<tool_call>\nhello", "failed"),
    ],
    ids=["cut short", "no call at all"],
)
async def test_a_garbled_tool_call_fails_without_breaking_the_prediction(
    pool: InstancePool, said: str, reason: str
) -> None:
    garbling = await loaded(pool, scripted_model([Reply(said, when="weather")]))
    request = asking("weather", tools=(WEATHER_TOOL,), max_tokens=60, temperature=0.0)
    events = await collect(garbling.predict(request))
    (failed,) = [event for event in events if isinstance(event, ToolCallFailedEvent)]
    assert failed.fault.title == "Failed to parse tool call"
    assert stats_of(events).stop_reason == reason


async def test_tool_limits(instance: Instance) -> None:
    story = asking("Tell me a story", tools=(WEATHER_TOOL,), max_tokens=5)
    assert stats_of(await collect(instance.predict(story))).stop_reason == "maxPredictedTokensReached"
    full = stats_of(await collect(instance.predict(asking("Tell me a story", tools=(WEATHER_TOOL,)))))
    assert full.stop_reason == "contextLengthReached"
    assert (full.prompt_tokens or 0) + (full.predicted_tokens or 0) == CONTEXT
    long = asking("ab " * CONTEXT, tools=(WEATHER_TOOL,), overflow_policy="truncateMiddle")
    with pytest.raises(EngineFault, match="which is not enough") as caught:
        await collect(instance.predict(long))
    assert "truncateMiddle" in (caught.value.cause or "")


async def test_a_prompt_that_does_not_fit_is_an_error_with_the_numbers(instance: Instance) -> None:
    text = "ab " * CONTEXT
    with pytest.raises(EngineFault, match=f"context length of only {CONTEXT} tokens, which is not enough") as caught:
        await collect(instance.predict(asking(text)))
    assert caught.value.kind == "overflow"
    data = caught.value.error_data
    assert data is not None
    assert data["contextLength"] == CONTEXT
    assert data["promptTokens"] > CONTEXT
    raw = PredictionInput(raw_prompt="1" * CONTEXT, settings=PredictionSettings(overflow_policy="stopAtLimit"))
    with pytest.raises(EngineFault):
        await collect(instance.predict(raw))


async def test_the_limit_is_that_asked_for_to_the_token(instance: Instance) -> None:
    """A digit is a token, and one more has to fit for the answer."""

    def digits(count: int) -> PredictionInput:
        return PredictionInput(raw_prompt="1" * count, settings=PredictionSettings(overflow_policy="stopAtLimit"))

    stats = stats_of(await collect(instance.predict(digits(CONTEXT - 1))))
    assert (stats.prompt_tokens, stats.predicted_tokens) == (CONTEXT - 1, 1)
    assert stats.stop_reason == "contextLengthReached"
    with pytest.raises(EngineFault) as caught:
        await collect(instance.predict(digits(CONTEXT)))
    assert caught.value.error_data == {"promptTokens": CONTEXT, "contextLength": CONTEXT}


@pytest.mark.parametrize("policy", ["truncateMiddle", "rollingWindow"])
async def test_other_policies_cut_the_prompt_and_go_on_past_the_context(
    instance: Instance, policy: OverflowPolicy
) -> None:
    request = PredictionInput(
        raw_prompt="1" * 3000, settings=PredictionSettings(overflow_policy=policy, max_tokens=2 * CONTEXT)
    )
    stats = stats_of(await collect(instance.predict(request)))
    assert (stats.prompt_tokens or CONTEXT) < CONTEXT
    assert stats.predicted_tokens is not None
    story = asking("Tell me a story", overflow_policy=policy, max_tokens=2 * CONTEXT)
    events = await collect(instance.predict(story))
    assert stats_of(events).stop_reason == "maxPredictedTokensReached"
    assert stats_of(events).predicted_tokens == 2 * CONTEXT
    assert text_of(events).startswith(RAMBLE.text * 3)


async def test_stop_ends_regularly_with_what_there_is(instance: Instance) -> None:
    prediction = instance.predict(asking("Tell me a story", overflow_policy="rollingWindow"))
    events = []
    async for event in prediction:
        events.append(event)
        if isinstance(event, FragmentEvent):
            prediction.stop()
    stats = stats_of(events)
    assert stats.stop_reason == "userStopped"
    assert RAMBLE.text.startswith(text_of(events)[: len(RAMBLE.text)])
    assert stats.predicted_tokens is not None
    assert stats.predicted_tokens > 0
    assert stats.prompt_tokens is not None
    assert (instance.slots.status, instance.slots.queued) == ("idle", 0)
    after = await collect(instance.predict(asking("What is 2+3=?")))
    assert text_of(after) == "5"


async def test_a_prediction_ends_once_whenever_it_is_stopped(instance: Instance) -> None:
    for wanted in range(14):
        prediction = instance.predict(asking("What is 2+3=?"))
        for _ in range(wanted):
            await asyncio.sleep(0)
        events = []
        async for event in prediction:
            events.append(event)
            if len(events) == wanted % 5:
                prediction.stop()
        assert [type(event) for event in events].count(PredictionDone) == 1
        assert isinstance(events[-1], PredictionDone)


async def test_stop_before_anything_began(instance: Instance) -> None:
    prediction = instance.predict(asking("Hi"))
    prediction.stop()
    events = await collect(prediction)
    assert (stats_of(events).stop_reason, stats_of(events).predicted_tokens) == ("userStopped", 0)


@pytest.mark.parametrize("how", ["aclose", "cancel"])
async def test_leaving_stops_llama_cpp(instance: Instance, how: str) -> None:
    prediction = instance.predict(asking("Tell me a story", overflow_policy="rollingWindow"))
    if how == "aclose":
        await anext(prediction)
        await prediction.aclose()
        assert await collect(prediction) == []
    else:
        reading = asyncio.create_task(collect(prediction))
        while instance.slots.status != "generating":
            await asyncio.sleep(0.001)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    async with asyncio.timeout(10):
        while instance.slots.queued or (await instance.model.client.get("/slots"))[0]["is_processing"]:
            await asyncio.sleep(0.01)


async def test_requests_queue_and_say_so(instance: Instance) -> None:
    first = instance.predict(asking("Tell me a story", overflow_policy="rollingWindow"))
    await anext(first)
    others = [instance.predict(asking("What is 2+3=?")) for _ in range(2)]
    answers = [asyncio.create_task(collect(other)) for other in others]
    while instance.slots.status != "generating" or instance.slots.queued < 3:
        await asyncio.sleep(0.001)
    assert instance.slots.queued == 3
    await asyncio.sleep(0.05)
    assert not any(answer.done() for answer in answers)
    first.stop()
    await collect(first)
    assert [text_of(events) for events in await asyncio.gather(*answers)] == ["5", "5"]
    assert instance.slots.queued == 0


async def test_slots_run_side_by_side(pool: InstancePool) -> None:
    instance = await pool.load(SCRIPTED, LoadSettings(context_length=1024, parallel_slots=2), kind="llm")
    endless = instance.predict(asking("Tell me a story", overflow_policy="rollingWindow"))
    await anext(endless)
    assert text_of(await collect(instance.predict(asking("What is 2+3=?")))) == "5"
    assert instance.slots.queued == 1
    await endless.aclose()


@pytest.mark.parametrize("shared", [True, False])
async def test_slots_share_a_context_or_have_their_own(pool: InstancePool, shared: bool) -> None:
    settings = LoadSettings(context_length=512, parallel_slots=2, unified_kv=shared)
    instance = await pool.load(SCRIPTED, settings, kind="llm")
    assert instance.context_length == 512
    both = [collect(instance.predict(asking("Tell me a story"))) for _ in range(2)]
    ends = [stats_of(events) for events in await asyncio.gather(*both)]
    assert [stats.stop_reason for stats in ends] == ["contextLengthReached"] * 2
    total = sum((stats.prompt_tokens or 0) + (stats.predicted_tokens or 0) for stats in ends)
    assert total == 1024 if not shared else 400 < total <= 600


async def test_progress_is_repeated_while_a_prompt_is_processed(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstrix.engine.llama.prediction._HEARTBEAT_S", 0.02)
    busy = instance.predict(asking("Tell me a story", overflow_policy="rollingWindow"))
    await anext(busy)
    waiting = instance.predict(asking("Hi"))
    events = [await anext(waiting) for _ in range(3)]
    assert events[0] == events[1] == events[2]
    assert isinstance(events[0], PromptProgressEvent)
    await busy.aclose()
    await waiting.aclose()


async def test_a_slow_reader_gets_larger_pieces_and_all_the_text(instance: Instance) -> None:
    events = []
    async for event in instance.predict(asking("Tell me a story", max_tokens=300)):
        events.append(event)
        await asyncio.sleep(0.01)
    fragments = [event for event in events if isinstance(event, FragmentEvent)]
    assert len(fragments) < 150
    assert sum(event.tokens_count for event in fragments) == 300
    assert text_of(events).startswith(RAMBLE.text * 2)


async def test_images_need_a_vision_model(instance: Instance) -> None:
    picture = ChatPart(type="file", file_type="image", data=b"\x89PNG")
    request = PredictionInput(turns=(ChatTurn(role="user", parts=(picture,)),))
    with pytest.raises(EngineFault, match="cannot read images") as caught:
        await collect(instance.predict(request))
    assert caught.value.kind == "unsupported"


async def test_a_template_that_refuses_is_an_error(pool: InstancePool) -> None:
    template = "{{ raise_exception('No zebras') if 'zebra' in messages[0].content }}{{ messages[0].content }}"
    picky = await loaded(pool, scripted_model(), chat_template=template)
    with pytest.raises(EngineFault, match="jinja") as caught:
        await collect(picky.predict(asking("zebra")))
    assert caught.value.kind == "invalid"
    assert "No zebras" in (caught.value.cause or "")


async def test_thinking_can_be_switched(pool: InstancePool) -> None:
    template = "{{ messages[0].content }}{% if enable_thinking is false %}quiet{% else %}<think>{% endif %}"
    thinker = await loaded(pool, scripted_model(), chat_template=template)
    opened = await collect(thinker.predict(asking("go", max_tokens=5, enable_thinking=True)))
    assert text_of(opened, "reasoning")
    assert not text_of(opened, "reasoningStartTag")
    closed = await collect(thinker.predict(asking("go", max_tokens=5, enable_thinking=False)))
    assert not text_of(closed, "reasoning")
