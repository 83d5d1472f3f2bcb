"""The chat on a terminal, or over a pipe: lines in, answers out.

On a terminal failures are shown and the chat goes on, and Ctrl-C ends an answer or a line, never the chat. Over a pipe
each line is a question, the first failure ends it, and with --json each answer is one line.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lmstrix.core.answers.chat import overflow_hint
from lmstrix.ground.errors import LMStrixError, Stopped, UsageError
from lmstrix.ground.text import one_line
from lmstrix.reports.answers import answer_json, show_stream, show_truncation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.core.answers.chat import ChatSession
    from lmstrix.ground.types import GenerationResult, StreamEvent
    from lmstrix.reports.console import Console

    Say = Callable[[str], Iterator[StreamEvent]]  # asks a question of the session; the events of the answer

PROMPT, MORE = "> ", ". "
FENCE = '"""'


def run_chat(session: ChatSession, console: Console, *, say: Say) -> None:
    """Read and answer until the end of input or /exit."""
    interactive = sys.stdin.isatty()
    if interactive:
        console.note("/help shows the commands; Ctrl-D leaves")
    while not session.ended:
        try:
            text = _read(interactive)
            if text is None:
                break
            if text.strip():
                _take(session, console, text, say)
        except KeyboardInterrupt as interrupt:
            if not interactive or isinstance(interrupt, Stopped):
                raise
            console.note("\ncancelled (Ctrl-D leaves)")
        except LMStrixError as exc:
            if not interactive:
                raise
            console.note(f"{one_line(exc)}{overflow_hint(exc)}")
    if interactive:
        console.note("")


def _take(session: ChatSession, console: Console, text: str, say: Say) -> None:
    if text.startswith("/") and not text.startswith("//"):
        shown = session.command(text)
        for line in shown.splitlines():
            console.note(line)
        return
    # // is how a question begins with a slash without being a command.
    question = text[1:] if text.startswith("//") else text

    def ended(result: GenerationResult) -> None:
        if console.json:
            console.result_line("chat", answer_json(result))
        show_truncation(console, result)

    show_stream(console, say(question), live=not console.json, ended=ended)
    console.note(session.meter)


def _read(interactive: bool) -> str | None:
    """The next text, of one line or several; None at the end of input."""
    line = _line(PROMPT, interactive)
    if line is None:
        return None
    if line.strip().startswith(FENCE):
        return _fenced(line.strip()[len(FENCE) :], interactive)
    lines = [line]
    while lines[-1].endswith("\\"):
        # The backslash said that the line goes on; it is no part of the question.
        lines[-1] = lines[-1][:-1]
        following = _line(MORE, interactive)
        if following is None:
            break
        lines.append(following)
    return "\n".join(lines)


def _fenced(first: str, interactive: bool) -> str:
    lines: list[str] = []
    line: str | None = first
    while line is not None and not line.rstrip().endswith(FENCE):
        lines.append(line)
        line = _line(MORE, interactive)
    if line is not None:
        lines.append(line.rstrip()[: -len(FENCE)])
    return "\n".join(lines).strip("\n")


def _line(prompt: str, interactive: bool) -> str | None:
    """One line without its end; edited with readline on a terminal."""
    try:
        if interactive and sys.stdout.isatty():
            _enable_editing()
            # Only input() edits with readline; where stdout is a file it would write the prompt into it.
            return input(prompt)
        if interactive:
            sys.stderr.write(prompt)
            sys.stderr.flush()
        line = sys.stdin.readline()
    except EOFError:
        return None
    except UnicodeDecodeError as exc:
        raise UsageError("this line is not valid UTF-8; it was not sent") from exc
    return line.removesuffix("\n").removesuffix("\r") if line else None


def _enable_editing() -> None:
    """Arrow keys and history for input(); importing is what switches them on, and Windows has none."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return
