"""Opening a file that somebody else put there: it is a regular one, and opening it never waits.

What is called `model.gguf` may be a pipe, whose opening waits for a writer for ever, or a device, where it sets things
off. The file is looked at before it is opened, and again afterwards, because its name may have changed hands between.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# A pipe that took the name after the first look is opened without waiting. Windows has no such pipes.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def open_regular(path: Path | str) -> io.FileIO:
    """The regular file at `path`, links followed, open for reading, unbuffered. Raises OSError for all else."""
    _refuse_irregular(os.stat(path), path)  # noqa: PTH116 - a walk has plain strings
    descriptor = os.open(path, _FLAGS)
    try:
        _refuse_irregular(os.fstat(descriptor), path)
        return io.FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _refuse_irregular(status: os.stat_result, path: Path | str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
