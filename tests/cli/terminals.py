"""A chat on a pseudo-terminal, and what stands on its screen."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.cli.processes import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Screen:
    """The other end of a pseudo-terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> str:
        """Read until `text` has been shown, and forget it and what came before, which is returned."""
        while text not in self._seen:
            self._seen += self._read()
        before, _, self._seen = self._seen.partition(text)
        return before

    def wait_for_end(self) -> None:
        try:
            while self._read():
                pass
        except OSError:  # Linux says so when the other side has left
            pass
        os.close(self._terminal)

    def _read(self) -> str:
        ready, _, _ = select.select([self._terminal], [], [], PATIENCE_S)
        assert ready, f"nothing more was shown after {self._seen[-200:]!r}"
        return os.read(self._terminal, 65536).decode(errors="replace")


@contextmanager
def chat_on_terminal(address: str, home: Path, *words: str, **environment: str) -> Iterator[Screen]:
    """`lmstrix chat` on a terminal; the block must make it end."""
    with on_terminal(address, home, "chat", *words, exit_code=0, **environment) as screen:
        yield screen


@contextmanager
def on_terminal(address: str, home: Path, *words: str, exit_code: int = 0, **environment: str) -> Iterator[Screen]:
    """`lmstrix` with these words on a terminal; the block must make it end, with this exit code."""
    import pty

    terminal, other_side = pty.openpty()
    surroundings = {"LMSTRIX_SERVER": address, "LMSTRIX_HOME": str(home), "TERM": "dumb", **environment}
    command = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, "-m", "lmstrix", *words],
        env=os.environ | surroundings,
        stdin=other_side,
        stdout=other_side,
        stderr=other_side,
        start_new_session=True,
    )
    os.close(other_side)
    screen = Screen(terminal)
    try:
        yield screen
        screen.wait_for_end()
        assert command.wait(PATIENCE_S) == exit_code
    finally:
        command.kill()
        command.wait()
