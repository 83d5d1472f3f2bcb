"""The log of this process: entry points say where it goes, everyone else only tells. Telling never fails.

    log.debug("loaded {} at {} tokens", model_key, n)

Facts are names and numbers; prompts, answers and tokens are none. While nobody listens, telling costs nothing.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.ground.log_target import LogTarget
    from lmstrix.ground.log_writer import Level, LogWriter

_SHORTEST_SECRET_CHARS: Final = 6
"""Shorter ones would be taken out of ordinary words."""

_writers: list[LogWriter] = []
_secrets: set[str] = set()


def to_stderr(level: Level, *, threaded: bool = False) -> None:
    """Send lines of `level` and above to standard error; nowhere, where there is none."""
    from lmstrix.ground.log_target import DescriptorTarget, StreamTarget

    with contextlib.suppress(OSError):
        _add(DescriptorTarget() if threaded else StreamTarget(), level, threaded=threaded)


def to_file(path: Path, level: Level, *, threaded: bool = False, max_bytes: int | None = None) -> None:
    """Send lines of `level` and above to the file at `path`, which is begun anew at `max_bytes`.

    Raises UsageError where it cannot be written.
    """
    from lmstrix.ground.log_target import MAX_FILE_BYTES, FileTarget

    try:
        target = FileTarget(path, max_bytes=max_bytes or MAX_FILE_BYTES)
    except OSError as exc:
        raise UsageError(
            f"cannot write the log file {path} ({exc.strerror or exc}): name another one with {parameter('log_file')}"
        ) from exc
    _add(target, level, threaded=threaded)


def _add(target: LogTarget, level: Level, *, threaded: bool) -> None:
    from lmstrix.ground.log_writer import LogWriter

    _writers.append(LogWriter(target, level=level, secrets=_secrets, threaded=threaded))


def close() -> None:
    """Write what is waiting, and log nothing from now on."""
    while _writers:
        _writers.pop().close()


def keep_secret(token: str | None) -> None:
    """Never write `token`, wherever it turns up. LM Studio's clients send its last half by itself."""
    parts = (token or "", (token or "").rpartition(":")[2])
    _secrets.update(part for part in parts if len(part) >= _SHORTEST_SECRET_CHARS)


def write(level: Level, text: str) -> None:
    """A line that came from elsewhere, as it is."""
    for each in _writers:
        each.write(level, text)


def debug(text: str, *facts: object) -> None:
    """What somebody who looks for a fault wants to know: `facts` fill the places of `text`."""
    if _writers:
        write("debug", text.format(*facts))


def info(text: str, *facts: object) -> None:
    """A decision, or the end of some work."""
    if _writers:
        write("info", text.format(*facts))


def warn(text: str, *facts: object) -> None:
    """Something went wrong, and the work goes on."""
    if _writers:
        write("warn", text.format(*facts))


def error(text: str, *facts: object) -> None:
    """Something failed."""
    if _writers:
        write("error", text.format(*facts))
