"""Prediction settings and chats as llama.cpp's HTTP API wants them, and prompts cut to fit. Pure."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.uploads import FileStore, no_such_upload
from lmstrix.ground.sampling import SAMPLING_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lmstrix.engine.records import ChatPart, ChatTurn, PredictionSettings
    from lmstrix.ground.types import OverflowPolicy

_SAMPLING_FIELDS = (*SAMPLING_FIELDS, "xtc_probability", "xtc_threshold", "typical_p")
"""Those of PredictionSettings that llama.cpp calls the same."""


def sampling_fields(settings: PredictionSettings, *, default_seed: int | None = None) -> dict[str, Any]:
    """Everything that steers sampling, stopping and the form of the answer; what is None is left to llama.cpp."""
    fields = {name: value for name in _SAMPLING_FIELDS if (value := getattr(settings, name)) is not None}
    if default_seed is not None:
        fields.setdefault("seed", default_seed)
    if settings.logit_bias:
        fields["logit_bias"] = [[token, bias] for token, bias in settings.logit_bias]
    if settings.stop:
        fields["stop"] = list(settings.stop)
    # llama.cpp takes one constraint only; the most specific one wins.
    if settings.gbnf_grammar:
        fields["grammar"] = settings.gbnf_grammar
    elif settings.json_schema is not None:
        fields["json_schema"] = settings.json_schema
    elif settings.json_any:
        fields["json_schema"] = {"type": "object"}
    if settings.log_probs is not None:
        fields["n_probs"] = max(1, settings.log_probs)
    return fields


def template_fields(settings: PredictionSettings) -> dict[str, Any]:
    """What the chat template gets beside the messages."""
    told = {"enable_thinking": settings.enable_thinking, "reasoning_effort": settings.reasoning_effort}
    given = {name: value for name, value in told.items() if value is not None}
    return {"chat_template_kwargs": given} if given else {}


def template_variables(
    messages: list[dict[str, Any]], settings: PredictionSettings, properties: Mapping[str, Any]
) -> dict[str, Any]:
    """What a template that came with a request gets."""
    return {
        "messages": messages,
        "tools": list(settings.tools) or None,
        "bos_token": properties["bos_token"],
        "eos_token": properties["eos_token"],
        "add_generation_prompt": True,
    }


def chat_messages(turns: Iterable[ChatTurn], files: FileStore | None) -> list[dict[str, Any]]:
    """The history as OpenAI-style messages. Images become parts of their own."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        # One message of LM Studio may hold several results; OpenAI's form wants a message per result.
        results = [part for part in turn.parts if part.type == "toolCallResult"]
        messages += [_tool_result(part) for part in results]
        if len(results) < len(turn.parts) or not turn.parts:
            messages.append(_message(turn, files))
    return messages


def image_bytes(turns: Iterable[ChatTurn], files: FileStore | None) -> list[bytes]:
    """Every image of the history, in order."""
    return [_content(part, files) for turn in turns for part in turn.parts if is_image(part)]


def _message(turn: ChatTurn, files: FileStore | None) -> dict[str, Any]:
    parts = [_content_part(part, files) for part in turn.parts if part.type in ("text", "file")]
    content: object = parts
    # Many chat templates know text only and print a list of parts as a list.
    if all(part["type"] == "text" for part in parts):
        content = "".join(part["text"] for part in parts)
    message: dict[str, Any] = {"role": turn.role, "content": content}
    calls = [_tool_call(part) for part in turn.parts if part.type == "toolCallRequest"]
    if calls:
        message["tool_calls"] = calls
    return message


def _content_part(part: ChatPart, files: FileStore | None) -> dict[str, Any]:
    if part.type == "text":
        return {"type": "text", "text": part.text}
    if is_image(part):
        # Whatever the image is: llama.cpp looks at the bytes, not at the type.
        url = "data:image/png;base64," + base64.b64encode(_content(part, files)).decode()
        return {"type": "image_url", "image_url": {"url": url}}
    # Documents have become text by now, for a client that could have uploaded one.
    raise no_such_upload(part.file_id)


def _content(part: ChatPart, files: FileStore | None) -> bytes:
    if part.data is not None:
        return part.data
    if files is None or part.file_id is None:
        raise no_such_upload(part.file_id)
    return files.get(part.file_id).data


def is_image(part: ChatPart) -> bool:
    """Whether it is an image, uploaded or sent along."""
    return part.type == "file" and part.file_type == "image"


def _tool_call(part: ChatPart) -> dict[str, Any]:
    function = {"name": part.name, "arguments": json.dumps(part.arguments or {})}
    return {"type": "function", "id": part.call_id or "", "function": function}


def _tool_result(part: ChatPart) -> dict[str, Any]:
    message = {"role": "tool", "content": part.text, "tool_call_id": part.call_id or ""}
    return {**message, "name": part.name} if part.name else message


def trimmed(tokens: Sequence[int], keep: int, policy: OverflowPolicy) -> list[int]:
    """At most `keep` of `tokens`: without their middle, or without the oldest (but the first, which may be BOS)."""
    if len(tokens) <= keep:
        return list(tokens)
    # The first token may be BOS, without which many models talk nonsense.
    head = 1 if policy == "rollingWindow" else (keep + 1) // 2
    tail = keep - head
    return [*tokens[:head], *tokens[len(tokens) - tail :]]


def generation_room(context_length: int, max_tokens: int | None) -> int:
    """Tokens to leave free for the answer when a prompt has to be cut: what was asked for, a quarter unless said."""
    return max(1, min(max_tokens or context_length // 4, context_length // 2))


def overflow_fault(prompt_tokens: int, context_length: int, *, cause: str | None = None) -> EngineFault:
    """The prompt does not fit, worded as LM Studio words it."""
    return EngineFault(
        f"Trying to keep the first {prompt_tokens} tokens when context the overflows. However, the model is loaded "
        f"with context length of only {context_length} tokens, which is not enough. Try to load the model with a "
        "larger context length, or provide a shorter input",
        kind="overflow",
        cause=cause,
        error_data={"promptTokens": prompt_tokens, "contextLength": context_length},
    )
