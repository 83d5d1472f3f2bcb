"""Files that are being written, beside the ones they will replace, and those that a killed writer left there.

A writer holds a lock of the system on its file until the file has its final name, and the system frees the lock of a
process that dies, on another machine too where a drive is shared. So a file that is old and that nobody holds is of no
use to anybody. Where a drive knows no locks nothing tells a slow writer from a dead one, and the file stays. Windows
lets nobody remove a file that is open. The name carries our own, so that no other program's file is ever meant.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD_S = 3600.0
"""A write takes milliseconds, of the largest files seconds; between a file's making and its lock are microseconds."""

_NAME = re.compile(r"\..+\.lmstrix-[0-9a-f]{8}\.tmp")
_swept: set[Path] = set()
_sweeping = threading.Lock()


def temporary_beside(path: Path) -> Path:
    """A new name beside the file, because a rename is one step only within a file system."""
    # Random, because two writers must not share a file.
    return path.with_name(f".{path.name}.lmstrix-{os.urandom(4).hex()}.tmp")


@contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Hold the open file's lock, also once its own descriptor is closed."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    kept = os.dup(descriptor)
    try:
        with suppress(OSError):  # a drive without locks
            fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(kept)


def sweep_once(folder: Path, now_s: float) -> None:
    """Remove what killed writers left in a folder, the first time that this process writes there.

    `now_s` is the time by the clock of the drive, which a network's has for itself.
    """
    with _sweeping:
        if folder in _swept:
            return
        _swept.add(folder)
    remove_left(folder, before_s=now_s - OLD_S)


def remove_left(folder: Path, *, before_s: float | None = None) -> None:
    """Remove what nobody holds any more and was last written `before_s` (since the epoch), or whenever."""
    with suppress(OSError), os.scandir(folder) as entries:  # it may be written to, and not listed
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                with suppress(OSError):  # its writer has just given it its name, or another has removed it
                    _remove(Path(entry.path), entry.stat(follow_symlinks=False), before_s)


def _remove(path: Path, found: os.stat_result, before_s: float | None) -> None:
    if before_s is not None and found.st_mtime >= before_s:
        return
    if sys.platform == "win32":
        path.unlink()
        return
    import fcntl

    # Root may remove what belongs to others.
    if found.st_uid != os.geteuid():
        return
    # For writing, since NFS locks a file alone for who may write it; and no link, nor a pipe, which waits.
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)
