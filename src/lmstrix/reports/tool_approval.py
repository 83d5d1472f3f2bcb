"""Asking on the terminal, before a tool runs, whether it may: its name and all its arguments are shown."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from lmstrix.ground import log
from lmstrix.ground.errors import LMStrixError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.ground.types import ToolCall

_CHOICES = "[y]es, [n]o, [a]lways, [q]uit: "


def refuse_without_terminal() -> None:
    """Raise UsageError where there is nobody to ask."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "--approve asks on the terminal, and stdin or stderr is none; leave it out, or give the text with "
            "--text-file FILE"
        )


class ToolApproval:
    """Whether a call may run, as somebody at the terminal says. `before_asking` clears the place for the question."""

    def __init__(self, before_asking: Callable[[], None]) -> None:
        self._before_asking = before_asking
        self._always: set[str] = set()

    def __call__(self, call: ToolCall) -> bool:
        """Ask, unless this tool may always run. Raises LMStrixError when the whole answer is to end."""
        if call.name in self._always:
            log.info("tool {}: approved, as always", call.name)
            return True
        self._before_asking()
        choice = _ask(call)
        log.info(
            "tool {}: {}", call.name, {"y": "approved", "a": "approved for always", "n": "denied"}.get(choice, "ended")
        )
        if choice == "q":
            raise LMStrixError(f"ended at the call of {call.name}, as you chose; it was not run")
        if choice == "a":
            self._always.add(call.name)
        return choice != "n"


def _ask(call: ToolCall) -> str:
    """One of y, n, a and q."""
    sys.stderr.write(f"The model wants to run {written_call(call)}\n")
    while True:
        sys.stderr.write(_CHOICES)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:  # the terminal is gone, or was told so with Ctrl-D
            sys.stderr.write("\n")
            return "q"
        word = line.strip().casefold()
        if word and any(choice.startswith(word) for choice in ("yes", "no", "always", "quit")):
            return word[0]


def written_call(call: ToolCall) -> str:
    """A call in one line, whole, with everything that could drive a terminal or hide a part written as its number."""
    arguments = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in (call.arguments or {}).items()
    )
    return "".join(_visible(character) for character in f"{call.name}({arguments})")


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) <= 0xFFFF else f"\\U{ord(character):08x}"
