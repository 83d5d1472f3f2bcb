"""A file read front to back, one stretch at a time, by reads that fail where a mapping would end the process.

A mapped file that somebody shortens takes its reader down with a signal that no `except` catches. A read past the new
end comes back short, and that is an error of one file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import io

_STRETCH_BYTES = 256 * 2**10
"""Read at once: large enough that the system calls cost nothing beside the parsing, small enough to throw away."""


class FileChangedError(Exception):
    """The file became shorter, or another one, while it was read."""


class TooMuchReadError(Exception):
    """The file made its reader go through more than it was allowed to."""


class FileWindow:
    """The bytes of an open `file`; `size` is its size when it was opened. At most `read_bytes` are read in all."""

    def __init__(self, file: io.FileIO, *, read_bytes: int) -> None:
        self._file = file
        self._opened_as = _identity(file)
        self._left_bytes = read_bytes
        self._start = 0
        self._data = b""
        self.size = self._opened_as[0]

    def at(self, offset: int, size: int) -> tuple[bytes, int]:
        """Bytes that hold `size` of the file from `offset` on, and where in them these begin. They lie in the file."""
        begin = offset - self._start
        if begin < 0 or begin + size > len(self._data):
            self._move_to(offset, size)
            begin = 0
        return self._data, begin

    def check_unchanged(self) -> None:
        """Raise `FileChangedError` when the file is not what it was when it was opened."""
        if _identity(self._file) != self._opened_as:
            raise FileChangedError

    def _move_to(self, offset: int, size: int) -> None:
        wanted = min(max(size, _STRETCH_BYTES), self.size - offset)
        # Lengths in a file can make its reader jump from end to end of it, a stretch read for every jump.
        self._left_bytes -= wanted
        if self._left_bytes < 0:
            raise TooMuchReadError
        self._file.seek(offset)
        pieces = []
        # One read may return less than there is, for example 2 GiB at most.
        while wanted > 0 and (piece := self._file.read(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        self._start, self._data = offset, b"".join(pieces)
        if len(self._data) < size:
            raise FileChangedError


def _identity(file: io.FileIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns
