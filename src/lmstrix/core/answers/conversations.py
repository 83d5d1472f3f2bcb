"""Conversations: the turns of a chat, kept as one JSON file each in LMStrix's own folder.

`infer` keeps its last exchange under one name, so that `--continue` has something to go on with; a chat has a name of
its own. Turns are dropped on request only: `without_oldest` drops whole exchanges and keeps the system prompt. A file
that does not name our schema, such as a chat of LM Studio's, is somebody else's: neither listed nor continued.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.files import PRIVATE, make_private_folder, write_whole
from lmstrix.ground.held_files import read_whole, remove_file
from lmstrix.ground.types import Message, Role, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONVERSATIONS = "conversations"
SCHEMA = "lmstrix.conversation/1"
LAST_EXCHANGE = "infer"
# Names become file names: no slash, and no dot at the beginning, so that none leads out of the folder.
_NAME = re.compile(r"[\w][\w .-]{0,99}")
_BEGINNING = re.compile(rb'\s*\{\s*"schema":\s*"' + re.escape(SCHEMA.encode()) + b'"')
_BEGINNING_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The turns so far, oldest first, a system prompt before all. `model_key` answered last."""

    name: str
    model_key: str | None = None
    messages: tuple[Message, ...] = ()

    @property
    def system_prompt(self) -> str | None:
        first = self.messages[0] if self.messages else None
        return first.text if first is not None and first.role == "system" else None

    @property
    def exchanges(self) -> int:
        """How many questions were asked."""
        return sum(message.role == "user" for message in self.messages)

    def with_system_prompt(self, text: str | None) -> Conversation:
        """The same with another system prompt, or with None without one."""
        rest = self.messages[1:] if self.system_prompt is not None else self.messages
        return replace(self, messages=(Message(role="system", text=text), *rest) if text else rest)

    @property
    def last_exchange(self) -> tuple[Message, ...]:
        """The last question and all that was said to it."""
        questions = [place for place, message in enumerate(self.messages) if message.role == "user"]
        return self.messages[questions[-1] :] if questions else ()

    def asking(self, question: Message) -> tuple[Message, ...]:
        """What to send to ask `question` now."""
        return (*self.messages, question)

    def answered(self, question: Message, answer: tuple[Message, ...], *, model_key: str) -> Conversation:
        """The conversation with this exchange at its end."""
        return replace(self, model_key=model_key, messages=(*self.messages, question, *answer))

    def without_oldest(self, count: int) -> Conversation:
        """The same without its first `count` questions and all that was said to them."""
        # Whole exchanges, so that no answer or tool result is left without its question.
        questions = [place for place, message in enumerate(self.messages) if message.role == "user"]
        start = questions[count] if count < len(questions) else len(self.messages)
        head = self.messages[:1] if self.system_prompt is not None else ()
        return replace(self, messages=(*head, *self.messages[start:])) if questions and count > 0 else self


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSummary:
    """One conversation in a list. A damaged one has a `problem` and nothing else to tell."""

    name: str
    written_at: datetime
    model_key: str | None = None
    exchanges: int = 0
    first_question: str = ""
    problem: str | None = None


def is_conversation(file: Path) -> bool:
    """Whether a file is a conversation of LMStrix: it says so at its beginning, however damaged the rest may be."""
    if not file.is_file():  # a pipe of that name would keep us waiting
        return False
    try:
        with file.open("rb") as stream:
            return _BEGINNING.match(stream.read(_BEGINNING_BYTES)) is not None
    except OSError:
        return False


class ConversationStore:
    """The conversations in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """All names, the one written last first."""
        return list(self._newest_first())

    def load(self, name: str) -> Conversation:
        """One conversation. Raises UsageError when none has this name."""
        file = self._file(name)
        try:
            if file.exists() and not file.is_file():  # a pipe would keep us waiting
                raise LMStrixError(f"{file} is no conversation of LMStrix")
            found = json.loads(read_whole(file))
            if found["schema"] != SCHEMA:
                raise LMStrixError(f"{file} is no conversation of LMStrix")
            messages = tuple(_message(entry) for entry in found["messages"])
            return Conversation(name=name, model_key=_text_or_none(found.get("model_key")), messages=messages)
        except FileNotFoundError as exc:
            known = ", ".join(self.names()[:8]) or "none yet"
            raise UsageError(f"there is no conversation {name!r} (there are: {known})") from exc
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            if not is_conversation(file):
                raise LMStrixError(f"{file} is no conversation of LMStrix") from exc
            raise LMStrixError(f"{file} is damaged ({exc}); repair it, or move it elsewhere") from exc

    def latest(self) -> Conversation:
        """The one written last. Raises UsageError when there is none."""
        name = next(self._newest_first(), None)
        if name is None:
            raise UsageError("there is no conversation yet (lmstrix chat begins one; log_texts = false keeps none)")
        return self.load(name)

    def save(self, conversation: Conversation) -> Path:
        """Write a conversation, replacing an earlier state of it."""
        file = self._file(conversation.name)
        written = {
            "schema": SCHEMA,
            "name": conversation.name,
            "model_key": conversation.model_key,
            "updated_at": datetime.now(UTC).isoformat(),
            "messages": [_entry(message) for message in conversation.messages],
        }
        make_private_folder(self._folder)
        content = json.dumps(written, ensure_ascii=True, indent=1) + "\n"
        write_whole(file, content, mode=PRIVATE, durable=False)
        return file

    def written(self, name: str) -> str:
        """The file of one conversation as it is. Raises what `load` raises."""
        self.load(name)
        return read_whole(self._file(name)).decode("utf-8")

    def written_at(self, name: str) -> datetime:
        """When a conversation was written last."""
        return datetime.fromtimestamp(self._file(name).stat().st_mtime, tz=UTC)

    def delete(self, name: str) -> None:
        """Delete one conversation, also a damaged one. Raises UsageError when none has this name."""
        file = self._file(name)
        if not is_conversation(file):
            self.load(name)  # which says what is the matter
        try:
            remove_file(file)
        except OSError as exc:
            raise LMStrixError(f"{file} cannot be deleted: {exc.strerror or exc}") from exc

    def new_name(self) -> str:
        """A name no conversation has: the time, and a number when two begin in the same second."""
        stem = name = datetime.now(UTC).astimezone().strftime("chat-%Y%m%d-%H%M%S")
        number = 1
        while self._file(name).exists():
            number += 1
            name = f"{stem}-{number}"
        return name

    def _newest_first(self) -> Iterator[str]:
        files = sorted(self._folder.glob("*.json"), key=_written_ns, reverse=True)
        return (file.stem for file in files if is_conversation(file))

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name for a conversation; use letters, digits, spaces, dots and dashes")
        return self._folder / f"{name}.json"


def _entry(message: Message) -> dict[str, Any]:
    # Most messages have no images or calls: empty fields would make the file hard to read.
    return {key: value for key, value in asdict(message).items() if key in ("role", "text") or value}


def _written_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # deleted meanwhile, or a link to nothing: of one such file the others must not suffer
        return 0


def _text_or_none(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _message(entry: object) -> Message:
    if not isinstance(entry, dict) or entry.get("role") not in get_args(Role) or not isinstance(entry["text"], str):
        raise TypeError("a turn has no role or no text")
    calls = tuple(ToolCall(**call) for call in entry.get("tool_calls", ()))
    return Message(**{**entry, "images": tuple(entry.get("images", ())), "tool_calls": calls})
