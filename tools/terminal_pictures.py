"""What a terminal showed while a program ran, and an SVG of it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from typing import TYPE_CHECKING

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 40
_PIECE = re.compile(
    r"\x1b\[(?P<count>\d*)(?P<command>[A-Za-z])|\x1b\[\?\d+[hl]|(?P<move>[\r\n])|(?P<text>[^\x1b\r\n]+)"
)


def screens(*words: str, columns: int, may_fail: bool = False) -> list[str]:
    """What a terminal showed while `lmstrix` ran with these words, from moment to moment."""
    child, terminal = pty.fork()
    if child == 0:
        # Before it starts, as it asks for the size only once.
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        os.execv(sys.executable, [sys.executable, "-m", "lmstrix", *words])
    shown = b""
    found = [""]
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:
            break  # how Linux says that the program has ended
        if not read:
            break
        shown += read
        found.append(_screen(shown.decode(errors="ignore")))
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    if status and not may_fail:
        raise SystemExit(f"lmstrix {' '.join(words)} failed:\n{found[-1]}")
    return found


def _screen(shown: str) -> str:
    """The lines as they stand after everything shown: what a progress display wrote over is gone."""
    lines, row = [""], 0
    for piece in _PIECE.finditer(shown):
        if piece["move"] == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece["command"] == "A":
            row = max(0, row - int(piece["count"] or 1))
        elif piece["command"] == "K":
            lines[row] = ""
        elif piece["command"] == "m" or piece["text"]:
            lines[row] += piece[0]
    return "\n".join(lines).rstrip()


def write_picture(target: Path, runs: list[tuple[str, str]], columns: int) -> None:
    """One SVG of commands and what each showed. Without Rich's web font: the site asks nobody for anything."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - a device, not a path of ours
        console = Console(record=True, width=columns, file=nowhere, force_terminal=True)
        for command, screen in runs:
            console.print(Text(f"$ {command}"))
            if screen:
                console.print(Text.from_ansi(screen))
        form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        svg = console.export_svg(title="lmstrix", theme=MONOKAI, code_format=form, unique_id=target.stem)
    target.write_text(svg, encoding="utf-8")
