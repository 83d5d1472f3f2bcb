"""`chat`: a conversation that is new, or goes on with one that was kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lmstrix.core.answers.chat import ChatModel, ChatSession, ChatTools
from lmstrix.core.answers.conversations import Conversation
from lmstrix.core.answers.load_policy import choose_context
from lmstrix.core.answers.question_history import QuestionHistory
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import ModelNotFoundError
from lmstrix.service.answering import Watch, answer
from lmstrix.service.finding import known_models, only_model

if TYPE_CHECKING:
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.service.workspace import Workspace

QUESTIONS = "questions.jsonl"


async def chat(
    workspace: Workspace,
    request: InferRequest,
    *,
    model: str | None = None,
    system_prompt: str | None = None,
    name: str | None = None,
    latest: bool = False,
) -> ChatSession:
    """A chat: new, or going on with the conversation `name`, or with the latest one."""
    store = workspace.conversations
    if latest:
        conversation = store.latest()
    else:
        conversation = store.load(name) if name is not None else Conversation(name=store.new_name())
    if system_prompt is not None:
        conversation = conversation.with_system_prompt(system_prompt)
    tools = ChatTools(
        ask=partial(answer, workspace, watch=Watch()),
        find_model=lambda query: workspace.find(query).model_key,
        describe_model=partial(_describe, workspace, request),
        store=store,
        history=QuestionHistory(workspace.paths.own / QUESTIONS) if workspace.keeps_texts else None,
        notify=workspace.notify,
    )
    session = ChatSession(tools, request, conversation)
    if model is not None:
        await known_models(workspace)  # fills an empty registry, so that a first chat finds its model
        session.command(f"/model {model}")
    return session


def _describe(workspace: Workspace, request: InferRequest, model: str | None) -> ChatModel | None:
    """What will be asked, and at which context; None where no model was ever chosen."""
    named = model or workspace.usual_model()
    try:
        record = workspace.find(named) if named is not None else only_model(workspace.registry())
    except ModelNotFoundError:
        # The first question says so, with names that are like it.
        return ChatModel(model_key=named, context=None) if named is not None else None
    if record is None:
        return None
    known = record.best_result
    choice = choose_context(
        request.context_length,
        declared=record.max_context_length or UNKNOWN_DECLARED_TOKENS,
        tested=record.tested_context_length,
        tested_is_limit=known is None or known.is_limit,
    )
    return ChatModel(model_key=record.model_key, context=choice)
