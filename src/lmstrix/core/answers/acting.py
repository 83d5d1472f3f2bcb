"""Answers that call Python functions: the model asks, the function runs, the model reads what it returned, and so on.

A function's JSON schema comes from its signature through pydantic, which also checks the arguments before the call.
What goes wrong in a call, wrong arguments and exceptions alike, is told to the model, which may try again; only the
backend's failures and too many rounds end the answer. Each round is counted against the context before it is sent.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from lmstrix.ground.callbacks import run_in_caller
from lmstrix.ground.errors import GenerationError, TimeLimitError, UsageError
from lmstrix.ground.types import Finished, Message, StreamEvent, ToolAnswered, ToolCall, ToolDefinition
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from lmstrix.core.answers.inference import InferenceManager, PlannedAnswer, Prepared
    from lmstrix.ground.deadline import Deadline

DEFAULT_ROUNDS = 10
DENIED = "The user denied this call, and it was not run. Go on without it, or say why it is needed."
Approve = Callable[[ToolCall], bool]
"""Says whether a call may run; what it raises ends the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function the model may call; `call` checks the arguments first."""

    definition: ToolDefinition
    call: Callable[..., object]
    is_async: bool


@dataclass(slots=True)
class Transcript:
    """The turns of an answer with tools, added as they end: calls, what the tools said, the answer."""

    messages: list[Message] = field(default_factory=list)
    rounds: int = 0


def tool_of(function: Callable[..., object]) -> Tool:
    """A tool of a Python function with annotated parameters; its docstring tells the model what it does."""
    from pydantic import TypeAdapter, validate_call
    from pydantic.errors import PydanticUserError

    name = getattr(function, "__name__", "")
    if not callable(function) or not name.isidentifier():
        raise UsageError(f"{function!r} is no named function; a tool is a function with annotated parameters")
    # A model gives arguments as a JSON object, by name.
    refused = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for each in inspect.signature(function).parameters.values():
        if each.kind in refused:
            raise UsageError(f"tool {name}: {each} cannot be given by name; write a plain parameter")
    try:
        schema = TypeAdapter(cast("Any", function)).json_schema()
        checked = validate_call(function)
    except (PydanticUserError, NameError) as exc:
        raise UsageError(f"tool {name}: its parameters have no JSON schema: {exc}") from exc
    return Tool(
        definition=ToolDefinition(
            name=name,
            description=inspect.getdoc(function) or "",
            parameters={"type": "object", "properties": {}, **schema},
        ),
        call=checked,
        is_async=inspect.iscoroutinefunction(function),
    )


def tools_of(functions: Iterable[Callable[..., object]]) -> tuple[Tool, ...]:
    """Tools of functions, each name once."""
    tools = tuple(tool_of(function) for function in functions)
    names = [tool.definition.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two tools are called {name}; rename one")
    return tools


def refuse_coroutines(functions: Iterable[Callable[..., object]]) -> list[Callable[..., object]]:
    """The functions, for blocking callers: a coroutine function would run on a loop that is not theirs.

    Raises UsageError.
    """
    listed = list(functions)
    for function in listed:
        if inspect.iscoroutinefunction(function):
            raise UsageError(f"tool {function.__name__} is a coroutine function; only AsyncLMStrix can call it")
    return listed


async def act(
    manager: InferenceManager,
    prepared: Prepared,
    planned: PlannedAnswer,
    *,
    tools: Iterable[Tool],
    max_rounds: int = DEFAULT_ROUNDS,
    transcript: Transcript | None = None,
    approve: Approve | None = None,
) -> AsyncGenerator[StreamEvent]:
    """The events of all rounds, with one Finished at the end. `approve` is asked before each call that can be made.

    Plain functions run in the thread that waits for the answer, or in a worker thread where none waits.
    """
    known = {tool.definition.name: tool for tool in tools}
    transcript = transcript or Transcript()
    messages = list(planned.request.messages)
    for transcript.rounds in range(1, max_rounds + 1):
        current = replace(planned, request=replace(planned.request, messages=tuple(messages)))
        if transcript.rounds > 1:
            # What the tools said is part of the prompt now, and may no longer fit.
            prepared = await manager.fit(prepared.acquired, current)
        finished: Finished | None = None
        async with aclosing(manager.ask(prepared, current)) as events:
            async for event in events:
                # Held back: only the last round's may end the stream.
                if isinstance(event, Finished):
                    finished = event
                else:
                    yield event
        assert finished is not None
        result = finished.result
        said = Message(role="assistant", text=result.text, tool_calls=result.tool_calls)
        new = [said]
        if result.tool_calls:
            async for answered in _answers(known, result.tool_calls, planned.deadline, approve):
                yield answered
                new.append(Message(role="tool", text=answered.text, tool_call_id=answered.call.call_id))
        # Together, once all tools have answered: a transcript must not hold a call without its answer.
        messages += new
        transcript.messages += new
        if not result.tool_calls:
            yield finished
            return
    raise GenerationError(
        f"{prepared.instance.model_key} still calls tools after {max_rounds} rounds; allow more with "
        f"{parameter('max_rounds')}, or ask for less",
        model_key=prepared.instance.model_key,
    )


async def _answers(
    known: dict[str, Tool], calls: Iterable[ToolCall], deadline: Deadline, approve: Approve | None
) -> AsyncIterator[ToolAnswered]:
    for call in calls:
        # What cannot be run is the model's slip, and nothing to ask anybody about.
        can_run = call.arguments is not None and call.name in known
        if approve is not None and can_run:
            # A person thinks, which no limit of the server's or the tools' time is about.
            with deadline.paused():
                approved = await run_in_caller(approve, call)
            if not approved:
                yield ToolAnswered(call=call, text=DENIED, failed=True)
                continue
        try:
            async with deadline.step(f"running the tool {call.name}"):
                text = _as_text(await _run(known, call))
        except TimeLimitError:
            raise  # the whole call's time, not a failure of the tool's
        except Exception as exc:  # noqa: BLE001 - whatever a tool fails with is the model's to know
            yield ToolAnswered(call=call, text=f"Error: {_reason(exc)}", failed=True)
        else:
            yield ToolAnswered(call=call, text=text)


async def _run(known: dict[str, Tool], call: ToolCall) -> object:
    if call.arguments is None:
        raise UsageError(call.error or "the arguments are not a JSON object")
    if call.name not in known:
        raise UsageError(f"there is no tool {call.name!r}; there are {', '.join(known)}")
    tool = known[call.name]
    arguments = dict(call.arguments)
    if tool.is_async:
        return await cast("Any", tool.call(**arguments))
    return await run_in_caller(tool.call, **arguments)


def _as_text(value: object) -> str:
    """What a tool returned, as the model reads it: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    from pydantic_core import to_json

    return to_json(value, fallback=str).decode()


def _reason(failure: Exception) -> str:
    if isinstance(failure, UsageError):
        return str(failure)
    from pydantic import ValidationError

    if isinstance(failure, ValidationError):
        problems = failure.errors(include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)
    return f"{type(failure).__name__}: {failure}"
