"""Chat histories as LM Studio's clients send them, read into turns. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.records import ChatPart, ChatTurn
from lmstrix.engine.values import field, read_messages, read_object, read_text
from lmstrix.ground.types import Role


def history_turns(history: object, *, system_prompt: str = "") -> tuple[ChatTurn, ...]:
    """A chat history as turns; `system_prompt` opens one that has no system message."""
    try:
        messages = history["messages"]  # type: ignore[index]  # TypeError for what has no keys is the check
        turns = tuple(
            ChatTurn(role=_read_role(item["role"]), parts=_read_parts(item["content"]))
            for item in read_messages("history", messages)
        )
    # A history is deep and comes from anyone: what has no such shape fails somewhere inside with one of these.
    except (KeyError, TypeError, AttributeError) as exc:
        raise EngineFault("A history must be {messages: [{role, content: [parts]}]}.", kind="invalid") from exc
    if system_prompt and not any(turn.role == "system" for turn in turns):
        opening = ChatTurn(role="system", parts=(ChatPart(type="text", text=system_prompt),))
        return (opening, *turns)
    return turns


def _read_role(role: object) -> Any:
    if role not in get_args(Role):
        raise EngineFault(f"Unknown role {role!r} in a history.", kind="invalid")
    return role


def _read_parts(content: object) -> tuple[ChatPart, ...]:
    if isinstance(content, str):
        return (ChatPart(type="text", text=content),)
    if not isinstance(content, Sequence):
        raise TypeError
    return tuple(_read_part(part) for part in content)


def _read_part(part: Mapping[str, Any]) -> ChatPart:
    match part:
        case {"type": "text", "text": str(text)}:
            return ChatPart(type="text", text=text)
        case {"type": "file", "identifier": str(identifier)}:
            return ChatPart(
                type="file",
                file_id=identifier,
                file_type=field(part, "fileType", read_text),
                name=field(part, "name", read_text),
            )
        case {"type": "toolCallRequest", "toolCallRequest": {"name": str(name)} as request}:
            return ChatPart(
                type="toolCallRequest",
                name=name,
                call_id=field(request, "id", read_text),
                arguments=field(request, "arguments", read_object, {}),
            )
        case {"type": "toolCallResult", "content": str(text)}:
            return ChatPart(
                type="toolCallResult",
                text=text,
                call_id=field(part, "toolCallId", read_text),
                name=field(part, "name", read_text),
            )
    raise EngineFault(f"Unknown part {part.get('type')!r} in a history.", kind="invalid")


def joined_text(turns: Sequence[ChatTurn]) -> str:
    """All text of a history, one after the other: the prompt of a raw completion sent as a chat.

    Raises `EngineFault` "unsupported" for files, which a text cannot hold.
    """
    if any(part.type == "file" for turn in turns for part in turn.parts):
        raise EngineFault("A raw completion takes text only, no files or images", kind="unsupported")
    return "".join(part.text for turn in turns for part in turn.parts if part.type == "text")
