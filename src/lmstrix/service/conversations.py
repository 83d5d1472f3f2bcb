"""`conversations`: what infer and chat have kept, as a list to choose from. Asks no server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.answers.conversations import ConversationSummary
from lmstrix.core.history.text_search import holds_all
from lmstrix.ground.errors import LMStrixError

if TYPE_CHECKING:
    from datetime import datetime

    from lmstrix.core.answers.conversations import Conversation
    from lmstrix.service.workspace import Workspace


def list_conversations(
    workspace: Workspace, *, search: str | None = None, last: int | None = None
) -> list[ConversationSummary]:
    """All of them, the one written last first; with `search` those that hold all its words anywhere."""
    store = workspace.conversations
    words = search.split() if search is not None else None
    found: list[ConversationSummary] = []
    for name in store.names():
        if last is not None and len(found) == last:
            break
        written_at = store.written_at(name)
        try:
            conversation = store.load(name)
        except LMStrixError as exc:
            # One damaged file must not hide the others.
            found.append(ConversationSummary(name=name, written_at=written_at, problem=str(exc)))
            continue
        if words is None or holds_all("\n".join([name, *(turn.text for turn in conversation.messages)]), words):
            found.append(_summary(conversation, written_at))
    return found


def _summary(conversation: Conversation, written_at: datetime) -> ConversationSummary:
    questions = (turn.text for turn in conversation.messages if turn.role == "user")
    return ConversationSummary(
        name=conversation.name,
        written_at=written_at,
        model_key=conversation.model_key,
        exchanges=conversation.exchanges,
        first_question=next(questions, ""),
    )
