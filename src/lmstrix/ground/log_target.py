"""Where the lines of a log go: standard error, or a file that is begun anew before it grows too large.

Writing raises OSError where the disk is full, the pipe is closed or the file may not be written; the log counts that.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES: Final = 4 * 2**20
"""Some forty thousand lines; the file before it is kept as well."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class LogTarget(Protocol):
    """Takes the text of whole lines. Raises OSError."""

    def write(self, text: str) -> None: ...
    def close(self) -> None: ...


class StreamTarget:
    """Standard error as the program has it, for a command line."""

    def write(self, text: str) -> None:
        """Write and flush."""
        if sys.stderr is None:
            raise OSError("there is no standard error")
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except ValueError as exc:
            raise OSError("standard error is closed") from exc

    def close(self) -> None:
        """It is not ours to close."""


class DescriptorTarget:
    """Standard error past Python's buffer: a thread that is stuck writing there must not hold its lock at the end."""

    def __init__(self, descriptor: int = 2) -> None:
        # A descriptor that is not open now would be that of a socket or a model later.
        os.fstat(descriptor)
        self._descriptor = descriptor

    def write(self, text: str) -> None:
        """Write all of it."""
        _write_all(self._descriptor, text)

    def close(self) -> None:
        """It is not ours to close."""


class FileTarget:
    """The file at `path`, which becomes `path`.1 when it is full. Opening raises OSError.

    Where the process's standard error is this file too, it goes on in the new one: what Python itself prints there must
    not grow a file that nobody looks at.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._descriptor = self._opened()

    def write(self, text: str) -> None:
        """Append, after looking whether the file is full, or was taken away."""
        status = os.fstat(self._descriptor)
        # A pipe or a device is written to as it is.
        if stat.S_ISREG(status.st_mode):
            if status.st_size + len(text) > self._max_bytes and status.st_size:
                self._begin_anew()
            elif not self._is_at_its_path(status):
                self._reopen()
        _write_all(self._descriptor, text)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _opened(self) -> int:
        # Readable by nobody else: names of models and of clients are in it.
        return os.open(self._path, _FLAGS, 0o600)

    def _is_at_its_path(self, status: os.stat_result) -> bool:
        try:
            return os.path.samestat(status, self._path.stat())
        except OSError:
            return False

    def _begin_anew(self) -> None:
        try:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        except OSError:
            # Windows renames no file that another process has open, and a folder may have become read-only.
            os.truncate(self._descriptor if os.truncate in os.supports_fd else self._path, 0)
        else:
            self._reopen()

    def _reopen(self) -> None:
        new, old = self._opened(), self._descriptor
        status = os.fstat(old)
        for standard in (1, 2):
            with contextlib.suppress(OSError):
                if os.path.samestat(status, os.fstat(standard)):
                    os.dup2(new, standard)
        self._descriptor = new
        os.close(old)


def _write_all(descriptor: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]
