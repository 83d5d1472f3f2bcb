"""What comes through a pipe, or from a file that stdin is redirected to."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError
from lmstrix.ground.text import decoded

if TYPE_CHECKING:
    from lmstrix.reports.console import Console

_PATIENCE_S = 2.0
"""How long a pipe may be silent before the user is told what is waited for."""


def read_stdin() -> str:
    """All of stdin. Raises UsageError when it is no text, or too long for one."""
    from lmstrix.loaders.contexts import MAX_TEXT_BYTES

    data = read_stdin_bytes(MAX_TEXT_BYTES, instead="give a shorter text")
    try:
        return decoded(data)
    except UnicodeDecodeError as exc:
        raise UsageError(f"stdin is not valid {exc.encoding.upper()} (byte {exc.start}); convert it first") from exc


def read_stdin_bytes(max_bytes: int, *, instead: str) -> bytes:
    """All of stdin as it is. Raises UsageError when it is closed, or longer than `max_bytes`."""
    from lmstrix.ground.units import format_bytes

    if sys.stdin is None:
        raise UsageError("stdin is closed; give the text as a word or with --text-file, an image as a file")
    # Bytes first: Python would decode by the locale, and a prompt must not change with it.
    data = sys.stdin.buffer.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise UsageError(f"stdin is longer than {format_bytes(max_bytes)}; {instead}")
    return data


def read_pipe(console: Console) -> str | None:
    """What was piped in or redirected from a file, without being asked for; None where that is nothing."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    with contextlib.suppress(OSError):  # a stream that is not the system's has no number, and need not be waited for
        descriptor = sys.stdin.fileno()
        mode = os.fstat(descriptor).st_mode
        # A device has no end, or nothing: /dev/null is what services and schedulers give.
        if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
            return None
        if not _is_ready(descriptor):
            console.note("waiting for the text on stdin to end (--no-stdin leaves it alone)")
    found = read_stdin()
    return found if found.strip() else None


def _is_ready(descriptor: int) -> bool:
    if os.name == "nt":
        return True  # Windows cannot ask a pipe
    import select

    return bool(select.select([descriptor], [], [], _PATIENCE_S)[0])
