"""Conversations of the Python API: AsyncChat, and Chat, which runs it through a portal."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from lmstrix.ground.types import Finished, Message
from lmstrix.python.events import answer_of, texts_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from lmstrix.api.portal import Portal
    from lmstrix.core.answers.conversations import Conversation
    from lmstrix.ground.types import StreamEvent
    from lmstrix.python.results import InferenceResult


class AsyncChat:
    """A conversation that remembers its turns. A turn that fails or is left early is not kept."""

    def __init__(
        self,
        ask: Callable[[str, tuple[Message, ...], str | None], AsyncGenerator[StreamEvent]],
        conversation: Conversation,
    ) -> None:
        self._ask = ask
        self._conversation = conversation

    @property
    def messages(self) -> tuple[Message, ...]:
        """All turns so far, a system prompt first."""
        return self._conversation.messages

    def forget_oldest(self, exchanges: int = 1) -> None:
        """Drop the oldest questions and what was said to them; the system prompt stays."""
        self._conversation = self._conversation.without_oldest(exchanges)

    async def send(self, text: str) -> InferenceResult:
        """Say something; the answer."""
        return await answer_of(self.events(text))

    def stream(self, text: str) -> AsyncGenerator[str]:
        """Say something; the text of the answer as it comes."""
        return texts_of(self.events(text))

    async def events(self, text: str) -> AsyncGenerator[StreamEvent]:
        """Say something; all events of the answer."""
        # The conversation as it is now: turns added while this answer comes are not part of what was asked.
        question, conversation = Message(role="user", text=text), self._conversation
        asked = self._ask(text, conversation.asking(question), conversation.model_key)
        async with aclosing(asked) as events:
            async for event in events:
                # Kept before it is handed on, so that a caller who stops at the last event has it in the chat.
                if isinstance(event, Finished):
                    answer = Message(role="assistant", text=event.result.text)
                    model_key = event.result.model_key
                    self._conversation = conversation.answered(question, (answer,), model_key=model_key)
                yield event


class Chat:
    """A conversation that remembers its turns. A turn that fails or is left early is not kept."""

    def __init__(self, portal: Portal, chat: AsyncChat) -> None:
        self._portal = portal
        self._chat = chat

    @property
    def messages(self) -> tuple[Message, ...]:
        """All turns so far, a system prompt first."""
        return self._chat.messages

    def forget_oldest(self, exchanges: int = 1) -> None:
        """Drop the oldest questions and what was said to them; the system prompt stays."""
        self._chat.forget_oldest(exchanges)

    def send(self, text: str) -> InferenceResult:
        """Say something; the answer."""
        return self._portal.run(self._chat.send(text))

    def stream(self, text: str) -> Iterator[str]:
        """Say something; the text of the answer as it comes."""
        return self._portal.iterate(self._chat.stream(text))

    def events(self, text: str) -> Iterator[StreamEvent]:
        """Say something; all events of the answer."""
        return self._portal.iterate(self._chat.events(text))
