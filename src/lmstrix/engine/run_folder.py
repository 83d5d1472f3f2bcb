"""The private folder of the models' sockets: it keeps others out, and is made anew when somebody swept it away.

It lies in XDG_RUNTIME_DIR where there is one, which belongs to the user alone and is never swept; else in the folder
for temporary files. Its name cannot be foreseen. A lock on it says that its engine lives: cleaners of /tmp that ask for
it (systemd's) leave the folder alone, and the next engine removes folders that nobody holds any more.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmstrix.engine.faults import EngineFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PREFIX: Final = "lmstrix-run-"
_MAX_BYTES: Final = 80
"""Longer, and the sockets in it would exceed what the system accepts as a socket's path (104 bytes on macOS)."""
_YOUNG_S: Final = 60.0
"""An engine that has just made its folder may not have locked it yet."""


class RunFolder:
    """One engine's folder, from its first use to `remove`."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._base = _base(os.environ if environ is None else environ)
        self._path: Path | None = None
        self._lock: int | None = None

    def ready(self) -> Path:
        """The folder, which is there now and is ours. Raises EngineFault where none can be made."""
        if self._path is None or not _is_ours(self._path):
            # Left alone if it is somebody else's now: what is under our old name need not be ours.
            self._let_go()
            try:
                self._path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._base))
            except OSError as exc:
                raise EngineFault(
                    "The models have no place for their sockets.",
                    kind="load_failed",
                    cause=f"{self._base}: {exc.strerror or exc}",
                    suggestion="Free some space there, or set XDG_RUNTIME_DIR or TMPDIR to a folder of your own.",
                ) from exc
            self._lock = _locked(self._path)
        return self._path

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        if self._path is not None and _is_ours(self._path):
            _remove(self._path)
        self._path = None
        self._let_go()

    def remove_stale(self) -> int:
        """Remove folders of engines that were killed; how many."""
        stale = [folder for folder in _leftovers(self._base) if folder != self._path]
        return sum(_remove_unheld(folder) for folder in stale)

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _base(environ: Mapping[str, str]) -> Path:
    temporary = Path(tempfile.gettempdir())
    # mkdtemp adds eight characters of its own.
    for name in (environ.get("XDG_RUNTIME_DIR", ""), str(temporary)):
        fits = len(os.fsencode(name)) + len(_PREFIX) + 9 <= _MAX_BYTES
        # A runtime folder that others may write to, or that is not ours (sudo keeps the variable), is none.
        if name and fits and (Path(name) == temporary or (Path(name).is_absolute() and _is_ours(Path(name)))):
            return Path(name)
    return Path("/tmp") if os.name == "posix" else temporary  # noqa: S108 - the folder made there is private


def _is_ours(folder: Path) -> bool:
    """A folder of this user's, not a link to one, that nobody else may enter."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    if sys.platform == "win32":
        return stat.S_ISDIR(status.st_mode)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _leftovers(base: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for folder in base.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                if _is_ours(folder) and time.time() - folder.stat().st_mtime > _YOUNG_S:
                    yield folder


def _locked(folder: Path) -> int | None:
    """An open descriptor that holds the lock; None where somebody else has it, or where there are no such locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_unheld(folder: Path) -> bool:
    lock = _locked(folder)
    if lock is None:
        return False
    try:
        return _remove(folder)
    finally:
        os.close(lock)


def _remove(folder: Path) -> bool:
    """Remove the sockets in a folder and then itself; anything else that lies there is not ours to remove."""
    try:
        for child in folder.iterdir():
            if stat.S_ISSOCK(child.lstat().st_mode):
                child.unlink()
        folder.rmdir()
    except OSError:
        return False
    return True
