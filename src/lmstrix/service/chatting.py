"""`chat`: a conversation that is new, or goes on with one that was kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lmstrix.core.answers.chat import ChatSession, ChatTools
from lmstrix.core.answers.conversations import Conversation
from lmstrix.service.answering import Watch, answer
from lmstrix.service.finding import known_models

if TYPE_CHECKING:
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.service.workspace import Workspace


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
        store=store,
        keep=workspace.keeps_texts,
    )
    session = ChatSession(tools, request, conversation)
    if model is not None:
        await known_models(workspace)  # fills an empty registry, so that a first chat finds its model
        session.command(f"/model {model}")
    return session
