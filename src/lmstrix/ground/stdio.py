"""The standard streams, alike on every system: UTF-8 through pipes and files, a terminal's own encoding on a terminal.

Where Python leaves a pipe to the locale, a redirected answer loses what the locale's code page lacks (Windows: nearly
all but Latin letters). PYTHONIOENCODING or PYTHONUTF8, where somebody has set one, decides instead. On a terminal a
character it cannot show becomes "?" rather than a traceback.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from functools import cache

TYPE_CHECKING = False  # type checkers know the name; importing it would take `--version` a third longer
if TYPE_CHECKING:
    from collections.abc import Mapping

_CHOSEN_BY = ("PYTHONIOENCODING", "PYTHONUTF8")
_STANDARD_OUTPUT, _STANDARD_ERROR = -11, -12
"""GetStdHandle's numbers."""
_OBEYS_CODES = 0x0004
"""ENABLE_VIRTUAL_TERMINAL_PROCESSING of a console's mode."""


def prepare_output(environ: Mapping[str, str] | None = None) -> None:
    """Set stdout and stderr up for text of any language; once, before the first word is written."""
    environ = os.environ if environ is None else environ
    is_chosen = any(environ.get(name) for name in _CHOSEN_BY)
    for stream in (sys.stdout, sys.stderr):
        # Something else stands in a stream's place where a program that imports us has put it there.
        if isinstance(stream, io.TextIOWrapper):
            by_locale = is_chosen or stream.isatty()
            stream.reconfigure(encoding=None if by_locale else "utf-8", errors="replace")


def is_closed_pipe(failure: OSError) -> bool:
    """Whether the reader of our output has gone, which is no fault: Windows calls it an invalid argument."""
    if isinstance(failure, BrokenPipeError):
        return True
    return sys.platform == "win32" and failure.errno == errno.EINVAL and failure.filename is None


@cache
def shows_colors() -> bool:
    """Whether a terminal here obeys the codes for bold and dim, rather than showing them as characters."""
    if sys.platform != "win32":
        return True
    return all(_obeys_codes(number) for number in (_STANDARD_OUTPUT, _STANDARD_ERROR))


def _obeys_codes(number: int) -> bool:
    """Ask the console behind a standard handle to obey codes; what is no console takes what it is given."""
    if sys.platform != "win32":
        return True
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32")
    kernel.GetStdHandle.restype = wintypes.HANDLE
    handle = wintypes.HANDLE(kernel.GetStdHandle(number))
    mode = wintypes.DWORD()
    if not kernel.GetConsoleMode(handle, ctypes.byref(mode)):
        return True
    return bool(kernel.SetConsoleMode(handle, mode.value | _OBEYS_CODES))
