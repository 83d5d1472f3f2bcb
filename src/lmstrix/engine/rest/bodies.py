"""Request bodies of the REST interfaces, read into predictions. Pure.

What this engine cannot do and a caller could notice (several choices, log probabilities, remote images) is refused by
name; fields nobody knows are passed over, as OpenAI's servers do. A prompt longer than the context is an error here,
never cut: these interfaces have no way to say that they cut it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lmstrix.engine.answer_form import read_schema, read_tools
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.json_text import read_json
from lmstrix.engine.records import ChatPart, ChatTurn, PredictionSettings
from lmstrix.engine.values import (
    field,
    read_bool,
    read_count,
    read_int,
    read_messages,
    read_number,
    read_object,
    read_positive,
    read_text,
    read_texts,
)

if TYPE_CHECKING:
    from lmstrix.ground.types import Role

Body = Mapping[str, Any]
_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_SAMPLING: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "temperature": read_number,
    "top_p": read_number,
    "min_p": read_number,
    "top_k": read_count,
    "repeat_penalty": read_number,
    "presence_penalty": read_number,
    "frequency_penalty": read_number,
    "seed": read_int,
}
_MOST_EMBEDDED_TEXTS: Final = 2_048
"""As OpenAI has it."""
_TOKEN_ID: Final = re.compile(r"[0-9]{1,10}")
_NO_IMAGE: Final = "Images must be sent as data URLs (data:image/png;base64,…): this engine fetches nothing."


def model_name(body: Body) -> str | None:
    """The model asked for; None means any that is loaded."""
    name = field(body, "model", read_text)
    return name or None


def ttl_s(body: Body, default: float | None) -> float | None:
    """Seconds without use after which a model loaded for this request goes."""
    return field(body, "ttl", read_positive, default)  # type: ignore[no-any-return]  # read_positive gives an int


def max_tokens(body: Body, *names: str) -> int | None:
    """The first limit given; -1 means none."""
    for name in names:
        if body.get(name) is not None:
            limit = read_int(name, body[name], -1)
            return None if limit < 0 else limit
    return None


def sampling(body: Body) -> dict[str, Any]:
    """The sampling settings, which PredictionSettings calls as the body does."""
    return {name: read(name, body[name]) for name, read in _SAMPLING.items() if body.get(name) is not None}


def prediction_settings(body: Body) -> PredictionSettings:
    """The settings of an OpenAI-style request."""
    _refuse_extras(body)
    settings = PredictionSettings(
        **sampling(body),
        max_tokens=max_tokens(body, "max_completion_tokens", "max_tokens"),
        stop=_stop(body.get("stop")),
        logit_bias=_logit_bias(body.get("logit_bias")),
        overflow_policy="stopAtLimit",
    )
    settings = _with_response_format(settings, body.get("response_format"))
    settings = _with_tools(settings, body)
    # Some templates know levels, most thinking on or off alone, for which every effort but none means on.
    effort = field(body, "reasoning_effort", read_text)
    if effort is None:
        return settings
    off = effort in ("none", "off")
    return replace(settings, enable_thinking=not off, reasoning_effort=None if off or effort == "on" else effort)


def _refuse_extras(body: Body) -> None:
    for name, harmless, why in (
        ("n", (1,), "one answer at a time"),
        ("best_of", (1,), "one answer at a time"),
        ("logprobs", (False,), "log probabilities are available through the SDK only"),
        ("draft_model", ("",), "there is no speculative decoding"),
        ("suffix", ("",), "there is no filling in the middle"),
        ("echo", (False,), "the prompt is not repeated"),
    ):
        value = body.get(name)
        # SDKs send defaults along, so a value that asks for nothing passes.
        if value is not None and value not in harmless:
            raise EngineFault(f"The embedded engine cannot honour {name}: {why}.", kind="unsupported")


def _stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,) if value else ()
    return read_texts("stop", value)


def _logit_bias(value: object) -> tuple[tuple[int, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping) or not all(_TOKEN_ID.fullmatch(token) for token in value):
        raise EngineFault("logit_bias must map token ids to numbers.", kind="invalid")
    return tuple(
        (read_count("logit_bias", int(token)), read_number("logit_bias", bias)) for token, bias in value.items()
    )


def _with_response_format(settings: PredictionSettings, value: object) -> PredictionSettings:
    match value:
        case None | {"type": "text"}:
            return settings
        case {"type": "json_object"}:
            return replace(settings, json_any=True)
        case {"type": "json_schema", "json_schema": {"schema": Mapping() as schema}}:
            return replace(settings, json_schema=read_schema("response_format", schema))
    raise EngineFault("response_format must be text, json_object or json_schema with a schema.", kind="invalid")


def _with_tools(settings: PredictionSettings, body: Body) -> PredictionSettings:
    tools = field(body, "tools", read_tools, ())
    match body.get("tool_choice"):
        case None:
            return replace(settings, tools=tools)
        case "none" | "auto" | "required" as mode:
            return replace(settings, tools=tools, tool_choice=mode)
        # llama.cpp can be made to call some tool, not a certain one: so that one is all it is offered.
        case {"type": "function", "function": {"name": str(name)}}:
            wanted = tuple(tool for tool in tools if tool["function"]["name"] == name)
            if wanted:
                return replace(settings, tools=wanted, tool_choice="required")
            raise EngineFault(f"tool_choice names {name}, which is not among the tools.", kind="invalid")
    raise EngineFault("tool_choice must be none, auto, required or a function.", kind="invalid")


def message_turns(body: Body) -> tuple[ChatTurn, ...]:
    """The messages of a chat request."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise EngineFault("messages must be a list with at least one message.", kind="invalid")
    return tuple(_turn(message) for message in read_messages("messages", messages))


def _turn(message: object) -> ChatTurn:
    asked = message.get("role") if isinstance(message, Mapping) else None
    if not isinstance(message, Mapping) or not isinstance(asked, str) or asked not in _ROLES:
        raise EngineFault(f"Every message needs a role: {', '.join(_ROLES)}.", kind="invalid")
    # The newer word "developer" has already become "system" here.
    role = _ROLES[asked]
    content = message.get("content")
    if role == "tool":
        text = "".join(part.text for part in content_parts(content))
        part = ChatPart(
            type="toolCallResult",
            text=text,
            call_id=field(message, "tool_call_id", read_text),
            name=field(message, "name", read_text),
        )
        return ChatTurn(role=role, parts=(part,))
    return ChatTurn(role=role, parts=(*content_parts(content), *_tool_calls(message.get("tool_calls"))))


def content_parts(content: object) -> tuple[ChatPart, ...]:
    """The content of a message: nothing, a text, or a list of parts."""
    if content is None:
        return ()
    if isinstance(content, str):
        return (ChatPart(type="text", text=content),)
    if isinstance(content, Sequence):
        return tuple(_content_part(part) for part in content)
    raise EngineFault("content must be a text or a list of parts.", kind="invalid")


def _content_part(part: object) -> ChatPart:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "text" | "message", "content": str(text)}:
            return ChatPart(type="text", text=text)
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "image", "data_url": str(url)}:
            return ChatPart(type="file", file_type="image", data=_image_data(url))
    raise EngineFault("content parts must be texts or images.", kind="invalid")


def _image_data(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise EngineFault(_NO_IMAGE, kind="invalid")
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as exc:  # also for what is no ASCII
        raise EngineFault(_NO_IMAGE, kind="invalid") from exc


def _tool_calls(calls: object) -> tuple[ChatPart, ...]:
    try:
        return tuple(
            ChatPart(
                type="toolCallRequest",
                call_id=field(call, "id", read_text),
                name=read_text("name", call["function"]["name"]),
                arguments=read_object("arguments", read_json(call["function"].get("arguments") or "{}")),
            )
            for call in calls or ()  # type: ignore[attr-defined]  # TypeError is the check
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise EngineFault("tool_calls must be functions with a name and JSON arguments.", kind="invalid") from exc


def embedding_inputs(body: Body) -> list[str]:
    """The texts to embed."""
    value = body.get("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise EngineFault("input must be a text or a list of texts.", kind="invalid")
    if len(texts) > _MOST_EMBEDDED_TEXTS:
        raise EngineFault(f"input: {_MOST_EMBEDDED_TEXTS:,} texts are the most, in one request.", kind="invalid")
    if body.get("dimensions") is not None:
        raise EngineFault("The embedded engine cannot honour dimensions: they are the model's own.", kind="unsupported")
    return texts


def prompt(body: Body) -> str:
    """The text to continue."""
    match body.get("prompt"):
        case str(text) | [str(text)]:
            return text
    raise EngineFault("prompt must be one text.", kind="invalid")


def wants_stream(body: Body) -> bool:
    """Whether the answer goes out as it is made."""
    return bool(field(body, "stream", read_bool, False))


def wants_usage(body: Body) -> bool:
    """Whether a stream ends with the token counts."""
    options = body.get("stream_options")
    return isinstance(options, Mapping) and options.get("include_usage") is True
