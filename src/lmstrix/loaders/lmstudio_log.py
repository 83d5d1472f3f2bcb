"""The end of LM Studio's own log files, `<home>/server-logs/<YYYY-MM>/<YYYY-MM-DD>.<n>.log`: what a load has added.

They may hold what users write to their models. So nothing is read but what was written since `LogEnd` was made, and
whoever reads it keeps figures only. Files that cannot be read say nothing: logging may be off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.regular_files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = "server-logs"
_MOST_BYTES = 4 * 2**20  # of one file: a load logs some kilobytes, unless others are answered beside it


class LogEnd:
    """Where the logs of one LM Studio home end now."""

    def __init__(self, lmstudio_home: Path) -> None:
        self._folder = lmstudio_home / _FOLDER
        self._sizes = self._measured()

    def added(self) -> str:
        """What was logged since, in files that were there and in new ones."""
        grown = ((path, self._sizes.get(path, 0), size) for path, size in sorted(self._measured().items()))
        return "".join(_read(path, start, size) for path, start, size in grown if size > start)

    def _measured(self) -> dict[Path, int]:
        sizes: dict[Path, int] = {}
        try:
            for path in self._folder.glob("*/*.log"):
                sizes[path] = path.stat().st_size
        except OSError:
            pass  # rotated away meanwhile, or not ours to read
        return sizes


def _read(path: Path, start: int, size: int) -> str:
    try:
        with open_regular(path) as file:
            file.seek(max(start, size - _MOST_BYTES))
            return file.read(_MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""
