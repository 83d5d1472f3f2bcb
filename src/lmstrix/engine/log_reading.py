"""The background engine's log, read back: its last lines, what comes after them, and a line as a record.

The engine begins its log anew when it is full, and whoever follows it goes on in the new file.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lmstrix.engine.state_file import engine_status
from lmstrix.ground.errors import EngineError
from lmstrix.ground.files import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

_POLL_S: Final = 0.1
_LINE: Final = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?)Z (?P<level>debug|info|warn|error) +(?P<text>.*)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line. `time` is UTC, ISO 8601; it and `level` are None where something else than the engine printed it."""

    time: str | None
    level: str | None
    text: str


def parse_log_line(line: str) -> LogLine:
    """The parts of a line."""
    match = _LINE.fullmatch(line.rstrip("\n"))
    if match is None:
        return LogLine(time=None, level=None, text=line.rstrip("\n"))
    return LogLine(time=match["time"].replace(" ", "T") + "Z", level=match["level"], text=match["text"])


def engine_log_lines(home: Path, *, lines: int = 50, follow: bool = False) -> Iterator[str]:
    """The last lines of the log, each with its newline; with `follow`, then every new one, without end."""
    path = engine_status(home).log_file
    if not path.exists():
        if not follow:
            # Following may begin before the engine does; without following there is nothing to show.
            raise EngineError(f"there is no log yet at {path}: lmstrix engine start writes one")
        make_private_folder(path.parent)
        path.touch(mode=0o600)
    file = _opened(path)
    try:
        last = file.readlines()
        # A log that has just been begun anew has its last lines in the file before.
        if len(last) < lines and (before := path.with_name(path.name + ".1")).exists():
            with _opened(before) as older:
                last = [*older.readlines(), *last]
        yield from last[-lines:] if lines > 0 else []
        while follow:
            # Asked before reading: what was written to the old file up to its end is still in it.
            moved = _has_moved(file, path)
            yield from file
            if moved and path.exists():
                file.close()
                file = _opened(path)
            elif not moved:
                time.sleep(_POLL_S)
    finally:
        file.close()


def _opened(path: Path) -> TextIO:
    return path.open(encoding="utf-8", errors="replace", newline="\n")


def _has_moved(file: TextIO, path: Path) -> bool:
    """Whether the path names another file than the open one, or this one was emptied."""
    status = os.fstat(file.fileno())
    try:
        return not os.path.samestat(status, path.stat()) or status.st_size < file.tell()
    except OSError:
        return False
