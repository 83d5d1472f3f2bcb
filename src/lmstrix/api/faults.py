"""What was asked of a server, and the error it answered with, as records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Operation = Literal["connect", "ask", "load", "predict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRequest:
    """What was asked of the server, for the text of a failure.

    The operation `ask` is any short request; `what` completes "was asked to …"; `limit_s` is the deadline that applied.
    """

    operation: Operation
    address: str
    what: str
    model_key: str | None = None
    context_length: int | None = None
    limit_s: float | None = None

    @property
    def model(self) -> str:
        """What to call the model in messages."""
        return self.model_key or "the model"

    @property
    def at_context(self) -> str:
        """The context length as a part of a sentence; nothing where it does not matter."""
        return f" at {self.context_length:,} tokens of context" if self.context_length else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFault:
    """An error as the server serializes it."""

    title: str = ""
    cause: str = ""
    suggestion: str = ""
    error_data: Mapping[str, Any] | None = None
    display_data: Mapping[str, Any] | None = None

    @property
    def headline(self) -> str:
        """Title and cause in one line, for people."""
        parts = [" ".join(part.split()) for part in (self.title, self.cause) if part.strip()]
        # Each part once: servers often repeat the title as the cause.
        return ": ".join(part.rstrip(".:") for part in dict.fromkeys(parts)) or "the server gave no reason"

    @property
    def all_text(self) -> str:
        """Everything the server said, for the rules."""
        data = [json.dumps(part, default=str) for part in (self.error_data, self.display_data) if part]
        return "\n".join([self.title, self.cause, self.suggestion, *data])


def read_fault(error: object) -> ServerFault:
    """The serialized error of a packet or body; members of the wrong type are left out, a bare text is the title."""
    if not isinstance(error, Mapping):
        return ServerFault(title=error if isinstance(error, str) else "")

    def text(name: str) -> str:
        value = error.get(name)
        return value if isinstance(value, str) else ""

    def data(name: str) -> Mapping[str, Any] | None:
        value = error.get(name)
        return value if isinstance(value, Mapping) else None

    titles = [part for part in (text("rootTitle"), text("title"), text("message")) if part]
    return ServerFault(
        title=": ".join(dict.fromkeys(titles)),
        cause=text("cause"),
        suggestion=text("suggestion"),
        error_data=data("errorData"),
        display_data=data("displayData"),
    )
