"""Lines for a terminal, broken between words where it would break them in the middle of one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lmstrix.reports.table import width_of

if TYPE_CHECKING:
    from typing import TextIO


def write_line(stream: TextIO, line: str) -> None:
    """Write one line: exactly as it is where a program or a file takes it, at most as wide as a terminal otherwise."""
    columns = _columns(stream)
    lines = [line] if columns is None or width_of(line) <= columns else at_words(line, columns)
    stream.write("\n".join(lines) + "\n")
    stream.flush()


def at_words(line: str, columns: int) -> list[str]:
    """The line in pieces of at most so many cells; a longer word, a path for example, stays whole to be copied."""
    pieces: list[str] = []
    room = 0
    for word in line.split(" "):
        width = width_of(word)
        if pieces and 1 + width <= room:
            pieces[-1] += f" {word}"
            room -= 1 + width
        else:
            pieces.append(word)
            room = columns - width
    return pieces


def _columns(stream: TextIO) -> int | None:
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None  # a terminal that tells no size says 0
    except OSError:
        return None
