"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, data: bytes | str, *, mode: int | None = None, durable: bool = True) -> None:
    """Put `data` in the place of the file at `path`, in one step: a reader sees the old content or the new, never half.

    `mode` gives the permission bits, less the umask; None keeps those of the file it replaces. `durable` makes the new
    content outlast a power cut, for some milliseconds. Raises OSError; the old file is then as it was.
    """
    content = data.encode() if isinstance(data, str) else data
    # Beside the file, because a rename is one step only within a file system. The name is random, because two writers
    # must not share a file.
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")

    def create(name: str, flags: int) -> int:
        # The bits are set as the file is made: a secret must not be readable by all until a chmod.
        return os.open(name, flags, 0o666 if mode is None else mode)

    try:
        with open(temporary, "xb", opener=create) as file:
            file.write(content)
            if durable:
                # Without this, a power cut may keep the rename and lose what was written before it.
                file.flush()
                os.fsync(file.fileno())
        if mode is None:
            with suppress(OSError):
                temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    except BaseException:  # an interrupt too must not leave the temporary file behind
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        # The content is in place: to say now that it is not would be untrue, and some file systems sync no folders.
        with suppress(OSError):
            _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut, where folders can be opened."""
    if os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
