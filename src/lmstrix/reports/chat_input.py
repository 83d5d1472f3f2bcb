"""What a chat is told: lines from a pipe, or from somebody at a terminal who types, pastes and opens an editor.

On a terminal readline edits the line. What is pasted is one text, however many lines it has: a terminal that brackets
what it pastes says so itself, and from another one the lines come faster than anybody types.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from lmstrix.ground.errors import UsageError
from lmstrix.ground.text import decoded, encoding_of
from lmstrix.reports.editor import edited

if TYPE_CHECKING:
    from collections.abc import Sequence

PROMPT, MORE = "> ", ". "
FENCE = '"""'
MULTI, END, EDIT = ("/multi", "!multi"), ("/end", "!end"), ("/edit", "!edit")  # with ! as the llm tool writes them
LEAVE = ("exit", "quit")
_PASTE_GAP_S = 0.02  # between the lines of a paste; nobody types the next line so soon


class Told(NamedTuple):
    """One thing that was told: a `text`, and whether it may be a command. A pasted or edited text never is."""

    text: str
    may_command: bool


class History(Protocol):
    """Where questions are kept from one chat to the next."""

    def read(self) -> Sequence[str]: ...
    def add(self, question: str) -> None: ...


class PipedInput:
    """Lines from a pipe or a file."""

    interactive = False

    def __init__(self) -> None:
        self._read = 0
        self._source: BinaryIO = sys.stdin.buffer

    def next(self) -> Told | None:
        """The next text, of one line or several; None at the end of input."""
        line = self._line()
        return None if line is None else _whole(line, self._line)

    def keep(self, question: str) -> None:
        """Nothing: nobody looks with arrow keys for what a script has asked."""

    def _line(self, _prompt: str = PROMPT) -> str | None:
        # As bytes, decoded line by line: Python would decode by the locale, and in pieces that fail together.
        data = self._source.readline()
        if not data:
            return None
        self._read += 1
        try:
            if self._read == 1 and encoding_of(data) == "utf-16":
                # Its line ends are no bytes of their own. It is a file that PowerShell wrote, so it has an end.
                self._source = io.BytesIO(decoded(data + self._source.read()).encode())
                data = self._source.readline()
            text = decoded(data) if self._read == 1 else data.decode()
        except UnicodeDecodeError as exc:
            raise UsageError(
                f"line {self._read} of stdin is not valid {exc.encoding.upper()} "
                f"(byte 0x{exc.object[exc.start]:02x} at offset {exc.start}); "
                "nothing of it was sent; convert it first"
            ) from exc
        return text.removesuffix("\n").removesuffix("\r")


class TerminalInput:
    """Somebody at a terminal."""

    interactive = True

    def __init__(self, history: History | None) -> None:
        self._history = history
        # Only input() edits with readline; where stdout is a file it would write the prompt into it.
        self._edits = sys.stdout.isatty() and _enable_editing(history.read() if history is not None else ())

    def next(self) -> Told | None:
        """The next text; None at the end of input, or where somebody leaves."""
        line = self._line(PROMPT)
        if line is None or line.strip().casefold() in LEAVE:
            return None
        pasted = [line]
        while _more_waits() and (following := self._line(MORE)) is not None:
            pasted.append(following)
        text = "\n".join(pasted)
        if "\n" in text:
            # As it is: a pasted text may hold a slash, a backslash or three quotes at any place.
            return Told(text.strip("\n"), may_command=False)
        if line.strip() in EDIT:
            return Told(edited(), may_command=False)
        return _whole(line, self._line)

    def keep(self, question: str) -> None:
        """Find it again with the arrow keys, in later chats too."""
        if self._edits:
            _remember(question)
        if self._history is not None:
            self._history.add(question)

    def _line(self, prompt: str = MORE) -> str | None:
        try:
            if sys.stdout.isatty():
                line = input(prompt)
            else:
                sys.stderr.write(prompt)
                sys.stderr.flush()
                line = sys.stdin.readline()
                if not line:
                    return None
            line.encode()  # in some locales Python lets bytes that are no UTF-8 pass as halves of surrogate pairs
        except EOFError:
            return None
        except UnicodeError as exc:
            raise UsageError("this line is not valid UTF-8; it was not sent") from exc
        return line.removesuffix("\n").removesuffix("\r")


ChatInput = PipedInput | TerminalInput


class _ReadLine(Protocol):
    def __call__(self, prompt: str, /) -> str | None: ...


def _whole(line: str, read: _ReadLine) -> Told:
    """A line with those that belong to it: a fenced text, one ended by /end, or lines that go on with a backslash."""
    if line.strip().startswith(FENCE):
        return Told(_fenced(line.strip()[len(FENCE) :], read), may_command=False)
    if line.strip() in MULTI:
        return Told(_until_end(read), may_command=False)
    lines = [line]
    while lines[-1].endswith("\\"):
        # The backslash said that the line goes on; it is no part of the question.
        lines[-1] = lines[-1][:-1]
        following = read(MORE)
        if following is None:
            break
        lines.append(following)
    return Told("\n".join(lines), may_command=True)


def _fenced(first: str, read: _ReadLine) -> str:
    lines: list[str] = []
    line: str | None = first
    while line is not None and not line.rstrip().endswith(FENCE):
        lines.append(line)
        line = read(MORE)
    if line is not None:
        lines.append(line.rstrip()[: -len(FENCE)])
    return "\n".join(lines).strip("\n")


def _until_end(read: _ReadLine) -> str:
    lines: list[str] = []
    while (line := read(MORE)) is not None and line.strip() not in END:
        lines.append(line)
    return "\n".join(lines).strip("\n")


def _more_waits() -> bool:
    """Whether another line has come already, as after a paste into a terminal that does not bracket it."""
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.kbhit()
    import select

    return bool(select.select([sys.stdin], [], [], _PASTE_GAP_S)[0])


def _enable_editing(questions: Sequence[str]) -> bool:
    """Arrow keys and history for input(), where there is readline; the console of Windows has both of its own."""
    if sys.platform == "win32":
        return False
    try:
        import readline
    except ImportError:
        return False
    # Python switches it off, for its own prompt; with it, a terminal hands over a paste as one text.
    readline.parse_and_bind("set enable-bracketed-paste on")
    readline.set_auto_history(False)  # else each line of a text would be an entry
    readline.clear_history()
    for question in questions:
        readline.add_history(question)
    return True


def _remember(question: str) -> None:
    if sys.platform != "win32":
        import readline

        readline.add_history(question)
