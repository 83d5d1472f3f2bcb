"""A file that an answer is written to: looked at before the model is asked, written whole or not at all."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.files import write_whole
from lmstrix.ground.half_written import temporary_beside
from lmstrix.ground.held_files import remove_file

if TYPE_CHECKING:
    from pathlib import Path


def check_output(file: Path, option: str) -> None:
    """Raise UsageError, naming the option, if the file could not be written now. What is there stays as it is."""
    try:
        folder = file.absolute().parent
        if not folder.is_dir():
            raise UsageError(f"{option}: there is no folder {folder}")
        if file.is_dir():
            raise UsageError(f"{option}: {file} is a folder; give the name of a file")
        if file.exists() and not os.access(file, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied")
        if not _is_stream(file):
            _try_beside(_target(file))
    except OSError as exc:
        raise UsageError(f"{option}: {file} cannot be written: {exc.strerror or exc}") from exc


def save_text(file: Path, text: str) -> None:
    """Write an answer whole or not at all."""
    content = text.encode("utf-8", "replace")
    try:
        if _is_stream(file):
            file.write_bytes(content)
        else:
            write_whole(_target(file), content, durable=False)
    except OSError as exc:
        raise LMStrixError(f"{file} cannot be written: {exc.strerror or exc}") from exc


def _try_beside(file: Path) -> None:
    """Make a file where the answer's would be made: a full or read-only disk and access lists show only so."""
    attempt = temporary_beside(file)
    os.close(os.open(attempt, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    remove_file(attempt)


def _is_stream(file: Path) -> bool:
    """Whether it is a pipe or a device, such as /dev/stdout: to be written to, never to be replaced by a file."""
    return file.exists() and not file.is_file()


def _target(file: Path) -> Path:
    """The file itself where the name is a link: a new file in its place would leave what it points to as it was."""
    return file.resolve() if file.is_symlink() else file
