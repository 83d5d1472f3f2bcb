"""A screen of its own that is drawn again and again, and the keys that end it; the terminal is as before afterwards.

Ctrl-Z gives the terminal back too, until the process goes on (`reports/pausing.py`).
Drawing goes through Rich, which knows what terminals can do; the lines are the caller's, who is told the size each
time, so that a window that changes its size is right at once.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Self

from lmstrix.ground.units import counted
from lmstrix.reports.pausing import Pausing

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TextIO

    from rich.live import Live

_LOOK_S = 0.1  # how long a key or another size waits to be noticed
_LEAVE = ("q", "Q")


def can_draw() -> bool:
    """Whether stdout is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


class LiveScreen:
    """The screen; use as a context manager. `color` False draws no colours."""

    def __init__(self, *, color: bool) -> None:
        self._color = color
        self._open = ExitStack()
        self._live: Live | None = None
        self._drawn: os.terminal_size | None = None
        self._pausing = Pausing(leave=self._leave, enter=self._enter)

    def __enter__(self) -> Self:
        self._enter()
        self._pausing.begin()
        return self

    def _enter(self) -> None:
        # Rich takes a tenth of a second to import, so only a screen that is really drawn pays for it.
        from rich.console import Console
        from rich.live import Live

        self._open.enter_context(_keys_at_once())
        file = self._open.enter_context(_terminal())
        console = Console(file=file, no_color=not self._color, force_terminal=True, highlight=False)
        self._live = self._open.enter_context(Live(console=console, screen=True, auto_refresh=False))
        self._drawn = None  # the new screen is empty

    def _leave(self) -> None:
        # A terminal that is gone has nothing to be given back.
        with suppress(OSError):
            self._open.close()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pausing.end()
        self._leave()

    def show(self, lines: Callable[[int], list[str]], *, for_s: float) -> bool:
        """Draw the `lines` of a width for so long, again where the size changes; whether somebody wants to leave."""
        until = time.monotonic() + for_s
        self._drawn = None
        while True:
            size = shutil.get_terminal_size()
            if size != self._drawn:
                with self._pausing.not_now():
                    self._draw(lines, size)
                    self._drawn = size
            if _key(min(_LOOK_S, max(0.0, until - time.monotonic()))) in _LEAVE:
                return True
            if time.monotonic() >= until:
                return False

    def _draw(self, lines: Callable[[int], list[str]], size: os.terminal_size) -> None:
        from rich.text import Text

        assert self._live is not None
        found = fitting(lines(size.columns), size.lines)
        self._live.update(Text("\n".join(found), no_wrap=True, overflow="crop"), refresh=True)


def fitting(lines: list[str], height: int) -> list[str]:
    """As many lines as there is room for, with how many are left out, and how to leave where there is room for that."""
    if len(lines) <= height - 2:
        return [*lines, "", "q ends"]
    if len(lines) <= height:
        return lines
    shown = lines[: max(1, height - 1)]
    return [*shown, f"and {counted(len(lines) - len(shown), 'more line')}"][: max(1, height)]


if sys.platform == "win32":
    import msvcrt
    from contextlib import nullcontext

    def _terminal() -> nullcontext[TextIO]:
        """What to draw on."""
        return nullcontext(sys.stdout)

    def _keys_at_once() -> nullcontext[None]:
        """Keys come one by one already."""
        return nullcontext()

    def _key(wait_s: float) -> str:
        """The key that was pressed within so long, or nothing."""
        until = time.monotonic() + wait_s
        while not msvcrt.kbhit():
            if time.monotonic() >= until:
                return ""
            time.sleep(0.02)
        return msvcrt.getwch()

else:
    import select
    import termios
    import tty
    from contextlib import contextmanager
    from typing import TYPE_CHECKING as _CHECKING

    if _CHECKING:
        from collections.abc import Iterator

    def _terminal() -> TextIO:
        """What to draw on. Its own, as a command that is hung up turns stdout away from its terminal (kill -HUP leaves
        that alive, with this screen on it).
        """
        return os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)

    @contextmanager
    def _keys_at_once() -> Iterator[None]:
        """Keys come one by one and are not shown, while inside; where stdin is a terminal."""
        if not sys.stdin.isatty():
            yield
            return
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        tty.setcbreak(descriptor)
        try:
            yield
        finally:
            with suppress(termios.error):  # likewise
                termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    def _key(wait_s: float) -> str:
        """The key that was pressed within so long, or nothing."""
        if not sys.stdin.isatty():
            time.sleep(wait_s)
            return ""
        ready, _, _ = select.select([sys.stdin], [], [], wait_s)
        if not ready:
            return ""
        # Past Python's buffer, which would keep further keys where select does not see them.
        told = os.read(sys.stdin.fileno(), 1)
        if not told:
            time.sleep(wait_s)  # the terminal is gone
        return told.decode(errors="replace")
