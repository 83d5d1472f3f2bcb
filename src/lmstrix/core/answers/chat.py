"""A chat: what is said, what the slash commands do. Reading lines and showing answers is the caller's.

The whole conversation is sent with each question; nothing is dropped by itself. When it no longer fits, the question
fails with the sizes, and `/trim` forgets the oldest exchanges.
"""

from __future__ import annotations

import sys
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.core.answers.conversations import Conversation, ConversationStore
from lmstrix.ground.errors import ContextOverflowError, LMStrixError, UsageError
from lmstrix.ground.types import Finished, Message
from lmstrix.ground.units import counted, format_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from lmstrix.core.answers.load_policy import ContextChoice
    from lmstrix.core.answers.question_history import QuestionHistory
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.ground.types import GenerationResult, StreamEvent

END_KEYS = "Ctrl-Z and Enter" if sys.platform == "win32" else "Ctrl-D"
"""What ends the input from a terminal."""
HELP = f"""\
/model [NAME]   show the model, or ask another one from now on
/system [TEXT]  show the system prompt, or set it (/system - removes it)
/save [NAME]    keep the conversation, under another name if one is given
/load [NAME]    go on with a kept conversation, or list them
/context        how much of the context is taken
/trim [N]       forget the oldest exchange, or the N oldest
/stats          tokens and times of the last answer
/clear          begin a new conversation
/help           this
/multi          write a question of several lines; /end sends it
/edit           write the question in $EDITOR (on a terminal)
/exit           leave (or {END_KEYS}; on a terminal exit and quit too)
What is pasted on a terminal is one question. A line that ends with \\ goes on in the next; \"\"\" begins and ends a
text of several lines; // sends a line that begins with /. Ctrl-C cancels an answer."""
_MESSAGE_BYTES = 24  # what a chat template adds to each message, about: the share of a short one must not seem nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModel:
    """The model that will answer, and the context it is asked at, as far as that is known before it is loaded."""

    model_key: str
    context: ContextChoice | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTools:
    """What a chat needs from outside. `history` is None where no texts may be kept; then only /save writes."""

    ask: Callable[[InferRequest], AsyncGenerator[StreamEvent]]
    find_model: Callable[[str], str]
    describe_model: Callable[[str | None], ChatModel | None]
    store: ConversationStore
    history: QuestionHistory | None
    notify: Callable[[str], None]


class ChatSession:
    """One chat. `request` has the sampling and limits of every question."""

    def __init__(self, tools: ChatTools, request: InferRequest, conversation: Conversation) -> None:
        self._tools = tools
        self._request = request
        self.conversation = conversation
        self.last: GenerationResult | None = None
        self.ended = False
        self._counted = conversation  # what the tokens of the last answer were counted of

    async def say(self, text: str) -> AsyncGenerator[StreamEvent]:
        """Ask, with all that was said before; what is left early or fails leaves the conversation as it was."""
        question = Message(role="user", text=text)
        # Held here: a command given meanwhile must not change what this answer belongs to.
        conversation = self.conversation
        asked = replace(
            self._request, prompt=text, model=conversation.model_key, messages=conversation.asking(question)
        )
        async with aclosing(self._tools.ask(asked)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    self._answered(conversation, question, event.result)
                yield event

    @property
    def history(self) -> QuestionHistory | None:
        """The questions of earlier chats."""
        return self._tools.history

    @property
    def header(self) -> str:
        """Who will answer, and in how much context."""
        model = self._tools.describe_model(self.conversation.model_key)
        if model is None:
            return "no model yet; /model NAME chooses one"
        if model.context is None:
            return model.model_key
        size = model.context.context_length
        # An instance that is loaded already may have more, and a long conversation asks for more.
        room = "the server's default context" if size is None else f"a context of at least {size:,} tokens"
        return f"{model.model_key}, {room} ({model.context.source})"

    def command(self, line: str) -> str:
        """What a line that begins with / does; returns what to show. Raises UsageError."""
        word, _, rest = line.strip()[1:].strip().partition(" ")
        commands: dict[str, Callable[[str], str]] = {
            "model": self._model,
            "system": self._system,
            "save": self._save,
            "load": self._load,
            "context": self._context,
            "trim": self._trim,
            "stats": self._stats,
            "clear": self._clear,
            "help": lambda _: HELP,
            "exit": self._exit,
            "quit": self._exit,
        }
        if word not in commands:
            raise UsageError(f"unknown command /{word} (/help lists them; // sends a line that begins with /)")
        return commands[word](rest.strip())

    @property
    def meter(self) -> str:
        """How much of the context is taken: what the last answer left, or where turns have gone since, their share."""
        if self.last is None or self.last.stats.total_tokens is None:
            return f"{counted(self.conversation.exchanges, 'exchange')}; nothing was counted yet"
        taken, size, about = self.last.stats.total_tokens, self.last.context_length, ""
        if self.conversation.messages != self._counted.messages:
            taken, about = round(taken * _weight(self.conversation) / _weight(self._counted)), "about "
        share = f" of {size:,} tokens ({taken / size:.0%})" if size else " tokens"
        return f"context {about}{taken:,}{share}"

    def _answered(self, conversation: Conversation, question: Message, result: GenerationResult) -> None:
        answer = Message(role="assistant", text=result.text)
        self.conversation = conversation.answered(question, (answer,), model_key=result.model_key)
        self.last, self._counted = result, self.conversation
        # After each answer, so that a chat that is killed can be continued.
        if self._tools.history is not None:
            try:
                self._tools.store.save(self.conversation)
            except OSError as exc:  # the answer is there: a full disk must not end the chat
                self._tools.notify(f"the conversation was not kept: {exc.strerror or exc}")

    def _model(self, name: str) -> str:
        if name:
            self.conversation = replace(self.conversation, model_key=self._tools.find_model(name))
        return f"the model is {self.conversation.model_key or 'the default one, or else the one used last'}"

    def _system(self, text: str) -> str:
        if text:
            self.conversation = self.conversation.with_system_prompt(None if text == "-" else text)
        return f"system prompt: {self.conversation.system_prompt or 'none'}"

    def _save(self, name: str) -> str:
        if name:
            self.conversation = replace(self.conversation, name=name)
        try:
            return f"kept as {self._tools.store.save(self.conversation)}"
        except OSError as exc:
            raise LMStrixError(f"the conversation cannot be kept: {exc.strerror or exc}") from exc

    def _load(self, name: str) -> str:
        if not name:
            return "\n".join(self._tools.store.names()) or "no conversation is kept yet"
        found = self._tools.store.load(name)
        model_key = found.model_key or self.conversation.model_key
        # The last answer belongs to the conversation that is left: its token count must not be shown for this one.
        self.conversation, self.last = replace(found, model_key=model_key), None
        who = model_key or "the default model, or else the one used last"
        return f"{name}: {counted(found.exchanges, 'exchange')} with {who}"

    def _context(self, _: str) -> str:
        return self.meter

    def _trim(self, count: str) -> str:
        if not (count or "1").isdecimal() or count == "0":
            raise UsageError(f"/trim {count}: give a number of exchanges, such as /trim 2")
        before = self.conversation.exchanges
        if not before:
            return "there is nothing to forget"
        self.conversation = self.conversation.without_oldest(int(count or "1"))
        return f"forgot {before - self.conversation.exchanges} of {counted(before, 'exchange')}"

    def _stats(self, _: str) -> str:
        if self.last is None:
            raise UsageError("nothing was answered yet")
        stats = self.last.stats
        speed = stats.best_decode_tokens_per_second
        parts = [
            f"{self.last.model_key}: {stats.prompt_tokens or 0:,} + {stats.completion_tokens or 0:,} tokens",
            f"first after {format_seconds(stats.ttft_s)}",
            f"{format_seconds(stats.total_s)} in all",
        ]
        return ", ".join(parts if speed is None else [*parts, f"{speed:.1f} tokens/s"])

    def _clear(self, _: str) -> str:
        # Under a new name: the conversation so far stays on the disk.
        fresh = Conversation(name=self._tools.store.new_name(), model_key=self.conversation.model_key)
        self.conversation, self.last = fresh.with_system_prompt(self.conversation.system_prompt), None
        return "a new conversation"

    def _exit(self, _: str) -> str:
        self.ended = True  # looked at by the loop that reads the lines
        return ""


def _weight(conversation: Conversation) -> int:
    """The size of a conversation, by which its tokens are shared among its turns."""
    texts = (message.text for message in conversation.messages)
    return 1 + sum(_MESSAGE_BYTES + len(text.encode("utf-8", "surrogatepass")) for text in texts)


def overflow_hint(failure: LMStrixError) -> str:
    """What to do in a chat about a question that failed."""
    return "; /trim forgets the oldest exchange" if isinstance(failure, ContextOverflowError) else ""
