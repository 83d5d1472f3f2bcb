"""Conversations on the terminal and as a file: a list of them, and one with all its turns."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lmstrix.reports.json_form import json_form
from lmstrix.reports.table import Column, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lmstrix.core.answers.conversations import Conversation, ConversationSummary
    from lmstrix.ground.types import Message
    from lmstrix.reports.console import Console

_COLUMNS = (
    Column(title="CONVERSATION", shrink=True, keep=16),
    Column(title="WRITTEN", drop=2),
    Column(title="EXCHANGES", right=True, drop=3),
    Column(title="MODEL", shrink=True, keep=12, drop=1),
    Column(title="BEGINS WITH", shrink=True, prose=True),
)
_BEGINNING = 60


def show_conversations(console: Console, found: Sequence[ConversationSummary], *, searched: bool) -> None:
    """Conversations as a table."""
    if console.json:
        console.result("conversations", {"conversations": [json_form(each) for each in found]})
        return
    rows = [
        (
            each.name,
            each.written_at.astimezone().strftime("%Y-%m-%d %H:%M"),
            "-" if each.problem is not None else str(each.exchanges),
            each.model_key or "-",
            "damaged" if each.problem is not None else shorten(" ".join(each.first_question.split()), _BEGINNING),
        )
        for each in found
    ]
    if rows:
        console.table(_COLUMNS, rows)
    else:
        console.note(
            "no conversation has these words" if searched else "no conversations yet (lmstrix chat begins one)"
        )


def show_conversation(console: Console, conversation: Conversation) -> None:
    """One conversation with all its turns."""
    if console.json:
        turns = [{key: value for key, value in asdict(turn).items() if value} for turn in conversation.messages]
        value = {"name": conversation.name, "model_key": conversation.model_key, "messages": turns}
        console.result("conversation", value)
    else:
        console.text(as_markdown(conversation))


def as_markdown(conversation: Conversation) -> str:
    """The turns under headings."""
    head = [f"# {conversation.name}"]
    head += [] if conversation.model_key is None else [f"Answered by {conversation.model_key}."]
    return "\n\n".join([*head, *(_turn("## ", turn) for turn in conversation.messages)]) + "\n"


def as_text(conversation: Conversation) -> str:
    """The turns as plain text, each after the role that speaks."""
    return "\n\n".join(_turn("", turn) for turn in conversation.messages) + "\n"


def _turn(mark: str, turn: Message) -> str:
    return "\n\n".join([f"{mark}{turn.role.capitalize()}{'' if mark else ':'}", *_parts(turn)])


def _parts(turn: Message) -> Iterator[str]:
    yield from (f"[image: {image}]" for image in turn.images)
    if turn.text:
        yield turn.text.strip("\n")
    for call in turn.tool_calls:
        arguments: dict[str, Any] = dict(call.arguments or {})
        yield f"[calls {call.name} with {json.dumps(arguments, ensure_ascii=False)}]"
