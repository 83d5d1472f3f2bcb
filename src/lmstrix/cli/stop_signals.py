"""TERM, HUP and Ctrl-Break end a command as Ctrl-C does: steps are cancelled, what is ours unloaded, results kept.

Python turns only SIGINT into an exception; the others end the process where it stands, with a model left loaded.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from lmstrix.ground.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# Windows has no SIGHUP, and SIGBREAK alone: what Ctrl-Break sends, which ends a program when nothing else does.
_WORDS = {"SIGTERM": "terminated", "SIGHUP": "hung up", "SIGBREAK": "interrupted"}


class StopSignals:
    """The signal that ended a command: Ctrl-C unless another one was heard."""

    def __init__(self) -> None:
        self._heard: int = signal.SIGINT
        # Asked now: a terminal that has hung up no longer says that it is one.
        self._terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]

    @property
    def exit_code(self) -> int:
        """As shells number it."""
        return 128 + self._heard

    @property
    def word(self) -> str:
        """What happened, for the last line."""
        return _WORDS.get(signal.Signals(self._heard).name, "interrupted")

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While inside, these signals raise `Stopped` in the main thread."""
        numbers = [number for number in signal.Signals if number.name in _WORDS]
        # Ignored before we began (nohup), a signal stays ignored; and only the main thread may change what it does.
        mine = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
        if threading.current_thread() is not threading.main_thread():
            mine = []
        before = {number: signal.signal(number, self._interrupt) for number in mine}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, _frame: FrameType | None) -> NoReturn:
        self._heard = number
        if signal.Signals(number).name == "SIGHUP":
            self._leave_terminal()
        raise Stopped

    def _leave_terminal(self) -> None:
        """Write to nowhere what would go to a terminal that is gone: an error there would cut the clean-up short."""
        for descriptor in self._terminals:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
