"""The chat on a terminal, or over a pipe: lines in, answers out.

On a terminal failures are shown and the chat goes on, and Ctrl-C ends an answer or a line, never the chat. Over a pipe
each line is a question, the first failure ends it, and with --json each answer is one line.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lmstrix.core.answers.chat import END_KEYS, overflow_hint
from lmstrix.ground.errors import LMStrixError, Stopped
from lmstrix.ground.text import one_line
from lmstrix.ground.units import counted
from lmstrix.reports.answers import answer_json, show_stream, show_truncation
from lmstrix.reports.chat_input import PipedInput, TerminalInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.core.answers.chat import ChatSession
    from lmstrix.ground.types import GenerationResult, StreamEvent
    from lmstrix.reports.answers import AnswerForm
    from lmstrix.reports.chat_input import Told
    from lmstrix.reports.console import Console

    Say = Callable[[str], Iterator[StreamEvent]]  # asks a question of the session; the events of the answer

_RECALLED_LINES, _RECALLED_CHARACTERS = 6, 400  # of each message of the last exchange: enough to know it again


def run_chat(session: ChatSession, console: Console, *, say: Say, form: AnswerForm) -> None:
    """Read and answer until the end of input or /exit."""
    interactive = sys.stdin.isatty()
    source = TerminalInput(session.history) if interactive else PipedInput()
    asked = False
    if interactive:
        _show_header(session, console)
    while not session.ended:
        try:
            told = source.next()
            if told is None:
                break
            if told.text.strip():
                asked = True
                source.keep(told.text)
                _take(session, console, told, say, form)
        except KeyboardInterrupt as interrupt:
            if not interactive or isinstance(interrupt, Stopped):
                raise
            console.note("")  # the line that was being typed ends here
            console.note(f"cancelled ({END_KEYS} leaves)")
        except LMStrixError as exc:
            if not interactive:
                raise
            console.note(f"{one_line(exc)}{overflow_hint(exc)}")
    if interactive:
        console.note("")
    elif not asked:
        console.note("stdin is empty: nothing was asked")


def _show_header(session: ChatSession, console: Console) -> None:
    """Who will answer, and of a conversation that goes on, where it stands."""
    console.note(session.header)
    conversation = session.conversation
    if conversation.exchanges:
        console.note(f"{conversation.name}: {counted(conversation.exchanges, 'exchange')} so far; the last:")
    for message in conversation.last_exchange:
        lines = message.text.strip()[:_RECALLED_CHARACTERS].splitlines()[:_RECALLED_LINES]
        shown = "\n".join(lines)
        mark = "> " if message.role == "user" else "  "
        for line in lines:
            console.note(f"{mark}{line}")
        if len(shown) < len(message.text.strip()):
            console.note(f"{mark}...")
    console.note(f"/help shows the commands; {END_KEYS} leaves")


def _take(session: ChatSession, console: Console, told: Told, say: Say, form: AnswerForm) -> None:
    # Spaces before a command are a slip; before a question they may be the indentation of code, and stay.
    first = told.text.lstrip()
    if told.may_command and first.startswith("/") and not first.startswith("//"):
        shown = session.command(first)
        for line in shown.splitlines():
            console.note(line)
        return
    # // is how a question begins with a slash without being a command.
    question = first[1:] if told.may_command and first.startswith("//") else told.text

    def ended(result: GenerationResult) -> None:
        if console.json:
            console.result_line("chat", answer_json(result))
        show_truncation(console, result)

    show_stream(console, say(question), live=not console.json, ended=ended, form=form)
    console.note(session.meter)
