"""Functions as tools: their schemas, the rounds of a call, and what the model is told when one fails."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import pytest
from pydantic import BaseModel, Field

from lmstrix import AsyncLMStrix, ContextOverflowError, EmbeddedEngine, GenerationError, LMStrix, UsageError
from lmstrix.core.answers.acting import DENIED, Transcript, act, tool_of, tools_of
from lmstrix.core.answers.inference import Acquired, InferenceManager, InferenceOptions, PlannedAnswer, Prepared
from lmstrix.core.answers.load_policy import ContextChoice
from lmstrix.core.registry.records import ModelRecord
from lmstrix.ground.deadline import Deadline, without_limit
from lmstrix.ground.errors import LMStrixError, TimeLimitError
from lmstrix.ground.types import (
    Finished,
    GenerationRequest,
    GenerationResult,
    GenerationStats,
    LoadedModel,
    Message,
    StreamEvent,
    ToolAnswered,
    ToolCall,
)
from tests.support.model_files import put_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from lmstrix.ground.backend import ModelBackend


class Unit(enum.Enum):
    CELSIUS = "C"
    KELVIN = "K"


class Place(BaseModel):
    city: str
    country: str = "France"


# Schemas


def test_a_schema_says_what_the_signature_says() -> None:
    def weather(city: Annotated[str, Field(description="Where.")], days: int = 1, unit: Literal["C", "K"] = "C") -> str:
        """The weather of some days."""
        raise AssertionError

    definition = tool_of(weather).definition
    assert (definition.name, definition.description) == ("weather", "The weather of some days.")
    schema = cast("dict[str, Any]", definition.parameters)
    assert schema["type"] == "object"
    assert schema["required"] == ["city"]
    assert schema["properties"]["city"]["description"] == "Where."
    assert schema["properties"]["days"]["type"] == "integer"
    assert schema["properties"]["unit"]["enum"] == ["C", "K"]


def test_arguments_become_what_the_annotations_say() -> None:
    def weather(place: Place, unit: Unit) -> object:
        return place.country, unit

    assert tool_of(weather).call(place={"city": "Lyon"}, unit="K") == ("France", Unit.KELVIN)


def test_a_function_without_parameters_is_a_tool() -> None:
    def now() -> str:
        return "noon"

    assert tool_of(now).definition.parameters == {"additionalProperties": False, "properties": {}, "type": "object"}


class Opaque:
    """Nothing that JSON could hold."""


def positional(a: int, /) -> None: ...
def variadic(*a: int) -> None: ...
def opaque(a: Opaque) -> None: ...


@pytest.mark.parametrize(
    ("function", "part"),
    [(positional, "cannot be given by name"), (variadic, r"\*a"), (opaque, "no JSON schema"), (lambda: 1, "no named")],
)
def test_what_cannot_be_a_tool_is_refused_by_name(function: Callable[..., object], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        tool_of(function)


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two tools are called add"):
        tools_of([add, divide, add])


# Rounds


def add(a: int, b: int) -> int:
    return a + b


def divide(a: int, b: int) -> float:
    return a / b


def describe(a: int) -> dict[str, object]:
    return {"a": a, "unit": Unit.KELVIN, "opaque": Opaque.__doc__}


@dataclass
class Playing:
    """A backend that answers with these results in turn, and counts a token a character."""

    results: list[tuple[str, tuple[ToolCall, ...]]]
    context_length: int = 10_000

    async def apply_template(self, instance_id: str, messages: list[Message], *, tools: object = ()) -> str:
        return "".join(message.text for message in messages)

    async def count_tokens(self, instance_id: str, text: str) -> int:
        return len(text)

    async def stream(self, instance_id: str, request: GenerationRequest) -> AsyncGenerator[StreamEvent]:
        text, calls = self.results.pop(0)
        stats = GenerationStats(stop_reason="toolCalls" if calls else "eosFound")
        yield Finished(
            result=GenerationResult(text=text, stats=stats, model_key="m", instance_id=instance_id, tool_calls=calls)
        )


async def sleep_long() -> None:
    await asyncio.sleep(60)


async def play(
    backend: Playing,
    *,
    max_rounds: int = 10,
    deadline: Deadline | None = None,
    approve: Callable[[ToolCall], bool] | None = None,
) -> tuple[list[ToolAnswered], Transcript]:
    instance = LoadedModel(
        instance_id="i",
        instance_reference="r",
        model_key="m",
        kind="llm",
        path="m",
        context_length=backend.context_length,
        max_context_length=backend.context_length,
    )
    choice = ContextChoice(context_length=backend.context_length, source="asked")
    transcript = Transcript()
    events = act(
        InferenceManager(cast("ModelBackend", backend)),
        Prepared(acquired=Acquired(instance=instance, choice=choice, load_s=None), prompt_tokens=1, max_tokens=1),
        PlannedAnswer(
            record=ModelRecord("m", {}),
            request=GenerationRequest(messages=(Message(role="user", text="go"),)),
            options=InferenceOptions(),
            deadline=deadline or without_limit(),
        ),
        tools=tools_of([add, divide, describe, sleep_long]),
        max_rounds=max_rounds,
        transcript=transcript,
        approve=approve,
    )
    return [event async for event in events if isinstance(event, ToolAnswered)], transcript


def call(name: str, call_id: str | None = None, **arguments: object) -> ToolCall:
    return ToolCall(name=name, arguments=arguments, call_id=call_id)


async def test_rounds_go_on_until_no_tool_is_called() -> None:
    backend = Playing(
        [("", (call("add", "1", a=1, b=2), call("add", "2", a=3, b="4"))), ("", (call("describe", a=1),)), ("done", ())]
    )
    answered, transcript = await play(backend)
    assert [(event.text, event.failed) for event in answered[:2]] == [("3", False), ("7", False)]
    assert '"unit":"K"' in answered[2].text
    assert transcript.rounds == 3
    assert [(m.role, m.tool_call_id) for m in transcript.messages] == [
        ("assistant", None),
        ("tool", "1"),
        ("tool", "2"),
        ("assistant", None),
        ("tool", None),
        ("assistant", None),
    ]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (call("divide", a=1, b=0), "Error: ZeroDivisionError: division by zero"),
        (call("add", a=1, b="x"), "Error: b: Input should be a valid integer"),
        (call("add", a=1), "Error: b: Missing required argument"),
        (call("add", a=1, b=2, c=3), "Error: c: Unexpected keyword argument"),
        (call("nosuch"), "Error: there is no tool 'nosuch'; there are add, divide, describe"),
        (ToolCall(name="add", arguments=None, error="it is no JSON"), "Error: it is no JSON"),
    ],
)
async def test_the_model_is_told_what_went_wrong(wrong: ToolCall, told: str) -> None:
    (answered,), transcript = await play(Playing([("", (wrong,)), ("sorry", ())]))
    assert answered.failed
    assert answered.text.startswith(told)
    assert transcript.messages[1].text == answered.text
    assert transcript.messages[2].text == "sorry"


async def test_what_is_not_approved_is_not_run_and_the_model_is_told() -> None:
    asked: list[str] = []

    def approve(call: ToolCall) -> bool:
        asked.append(call.name)
        return call.name == "add"

    calls = (call("divide", "1", a=1, b=0), call("add", "2", a=1, b=2), call("nosuch", "3"))
    answered, transcript = await play(Playing([("", calls), ("done", ())]), approve=approve)
    assert [(event.text, event.failed) for event in answered[:2]] == [(DENIED, True), ("3", False)]
    assert transcript.messages[1].text == DENIED
    assert asked == ["divide", "add"], "what cannot be run is asked about by nobody"


async def test_the_time_of_who_approves_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("lmstrix.ground.deadline.time", SimpleNamespace(monotonic=lambda: now_s))

    def approve(_: ToolCall) -> bool:
        nonlocal now_s
        now_s += 3600
        return True

    deadline = Deadline(60)
    calls = (call("add", "1", a=1, b=2), call("add", "2", a=1, b=1))
    answered, _ = await play(Playing([("", calls), ("done", ())]), approve=approve, deadline=deadline)
    assert [event.text for event in answered] == ["3", "2"]
    assert (now_s, deadline.left_s) == (7200, 60)


async def test_who_approves_may_end_it() -> None:
    def approve(_: ToolCall) -> bool:
        raise LMStrixError("enough")

    backend = Playing([("", (call("add", a=1, b=2),)), ("never", ())])
    with pytest.raises(LMStrixError, match="enough"):
        await play(backend, approve=approve)
    assert len(backend.results) == 1


async def test_the_time_of_the_call_ends_its_tools_too_and_is_no_failure_of_theirs() -> None:
    with pytest.raises(TimeLimitError, match="of running the tool sleep_long"):
        await play(Playing([("", (call("sleep_long"),)), ("never", ())]), deadline=Deadline(0.2))


async def test_too_many_rounds_end_it() -> None:
    endless = Playing([("", (call("add", a=1, b=2),))] * 3)
    with pytest.raises(GenerationError, match="after 3 rounds"):
        await play(endless, max_rounds=3)
    assert endless.results == []


async def test_a_conversation_that_outgrows_the_context_ends_before_it_is_sent() -> None:
    backend = Playing([("x" * 200, (call("add", a=1, b=2),)), ("never", ())], context_length=100)
    with pytest.raises(ContextOverflowError):
        await play(backend)
    assert len(backend.results) == 1


# On the engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    folder = tmp_path_factory.mktemp("acting-models")
    put_model(folder, "scripted", scripted_model(context_length=2048))
    with EmbeddedEngine(folder) as running:
        yield running


async def get_weather(city: str) -> str:
    """The weather now."""
    await asyncio.sleep(0)
    return f"21 degrees in {city}"


def test_a_model_calls_a_function(engine: EmbeddedEngine) -> None:
    asked = []

    def get_weather(city: str) -> str:
        """The weather now."""
        asked.append(city)
        return f"21 degrees in {city}"

    with LMStrix(server=engine.address) as lms:
        result = lms.act("the weather?", "scripted", tools=[get_weather])
    assert asked == ["Paris"]
    assert result.text == result["response"] == "It is 21 degrees in Paris today."
    assert [(message.role, message.text) for message in result.messages] == [
        ("assistant", ""),
        ("tool", "21 degrees in Paris"),
        ("assistant", result.text),
    ]
    assert result.rounds == 2


def test_a_call_is_approved_in_the_thread_that_waits(engine: EmbeddedEngine) -> None:
    import threading

    threads = []

    def approve(call: ToolCall) -> bool:
        threads.append(threading.current_thread())
        return False

    def get_weather(city: str) -> str:
        """The weather now."""
        raise AssertionError(city)

    with LMStrix(server=engine.address) as lms:
        result = lms.act("the weather?", "scripted", tools=[get_weather], approve=approve, max_rounds=3)
    assert threads[0] is threading.main_thread()
    assert result.messages[1].text == DENIED


async def test_a_model_calls_a_coroutine(engine: EmbeddedEngine) -> None:
    async with AsyncLMStrix(server=engine.address) as lms:
        result = await lms.act("the weather?", "scripted", tools=[get_weather])
    assert result.messages[1].text == "21 degrees in Paris"


def test_a_coroutine_needs_a_loop(engine: EmbeddedEngine) -> None:
    with LMStrix(server=engine.address) as lms, pytest.raises(UsageError, match="only AsyncLMStrix"):
        lms.act("the weather?", "scripted", tools=[get_weather])
