"""Writing a file whole or not at all, lastingly where that is asked, and keeping what is private from all others."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from lmstrix.ground.half_written import held, sweep_once, temporary_beside
from lmstrix.ground.held_files import remove_file, replace_file

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o600
"""Permission bits of a file that only its owner may read."""
_OTHERS = 0o077


def make_private_folder(folder: Path) -> None:
    """Make a folder of ours, and all above it that is missing, or take others' permissions from it. Raises OSError."""
    # One by one: `mkdir` makes the parents that are missing for all to read.
    for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    make_private(folder)


def make_private_file(path: Path) -> None:
    """Make an empty file of ours, or take others' permissions from the one that is there. Raises OSError."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT, PRIVATE))
    make_private(path)


def make_private(path: Path) -> None:
    """Take the permissions of group and others from a file or folder, if it is there and ours to change.

    Earlier versions left them to the umask, and so does whoever copies a file here.
    """
    with suppress(OSError):  # a file system without permissions: nothing that we could change
        found = path.stat()
        # Root could change what belongs to others; and a sticky folder, such as /tmp, is meant for everybody.
        if found.st_mode & _OTHERS and found.st_uid == _user() and not found.st_mode & stat.S_ISVTX:
            path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0  # Windows says 0 of every file


def write_whole(path: Path, data: bytes | str, *, mode: int | None = None, durable: bool = True) -> None:
    """Put `data` in the place of the file at `path`, in one step: a reader sees the old content or the new, never half.

    `mode` gives the permission bits, less the umask; None keeps those of the file it replaces. `durable` makes the new
    content outlast a power cut, for some milliseconds. Raises OSError; the old file is then as it was.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = temporary_beside(path)

    def create(name: str, flags: int) -> int:
        # The bits are set as the file is made: a secret must not be readable by all until a chmod.
        return os.open(name, flags, 0o666 if mode is None else mode)

    try:
        with ExitStack() as until_renamed:
            with open(temporary, "xb", opener=create) as file:
                until_renamed.enter_context(held(file.fileno()))
                file.write(content)
                file.flush()
                if durable:
                    # Without this, a power cut may keep the rename and lose what was written before it.
                    flush_to_drive(file.fileno())
                written_s = os.fstat(file.fileno()).st_mtime
            if mode is None:
                with suppress(OSError):
                    temporary.chmod(path.stat().st_mode & 0o777)
            replace_file(temporary, path)
    except BaseException:  # an interrupt too must not leave the temporary file behind
        with suppress(OSError):
            remove_file(temporary)
        raise
    sweep_once(path.parent, written_s)
    if durable:
        # The content is in place: to say now that it is not would be untrue, and some file systems sync no folders.
        with suppress(OSError):
            _sync_folder(path.parent)


def flush_to_drive(descriptor: int) -> None:
    """Return when what was written to an open file outlasts a power cut. Raises OSError."""
    if sys.platform == "darwin":
        import fcntl

        # There fsync() hands the content to the drive, which may keep it in a cache of its own for seconds.
        with suppress(OSError):  # drives of a network do not know the command
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut, where folders can be opened."""
    if os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flush_to_drive(descriptor)
    finally:
        os.close(descriptor)
