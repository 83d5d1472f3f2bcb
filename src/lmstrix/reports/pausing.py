"""Ctrl-Z while a screen of our own is shown: the shell gets its terminal back, and the screen returns with us."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Pausing:
    """Calls `leave` before this process is stopped from the keyboard, and `enter` when it goes on; between `begin` and
    `end`. Only the main thread may begin. Windows stops no processes so, and nothing is done there.
    """

    def __init__(self, *, leave: Callable[[], None], enter: Callable[[], None]) -> None:
        self._leave = leave
        self._enter = enter
        self._busy = self._asked = False

    def begin(self) -> None:
        if sys.platform != "win32":
            signal.signal(signal.SIGTSTP, lambda _number, _frame: self._pause())

    def end(self) -> None:
        if sys.platform != "win32":
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    @contextmanager
    def not_now(self) -> Iterator[None]:
        """While inside, a pause waits: half a drawn line must not go on after it."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            if self._asked:
                self._pause()

    def _pause(self) -> None:
        self._asked = self._busy
        if self._busy or sys.platform == "win32":
            return
        self._leave()
        # To ourselves alone: whoever else is in the foreground got the key as well.
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()
