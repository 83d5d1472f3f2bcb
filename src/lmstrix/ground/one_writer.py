"""One writer at a time for a file that is read, changed and written back: of two at once one would undo the other.

Readers need no lock, as a file is replaced in one step (`ground.files`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.files import PRIVATE, make_private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATIENCE_S = 10.0
"""A change takes milliseconds; who is not let in by then waits for a process that is stopped."""


@contextmanager
def one_writer(file: Path) -> Iterator[None]:
    """Be the only one that changes the file. Raises OSError where another holds it for long."""
    from filelock import FileLock  # 33 ms that only writers pay

    if not file.parent.exists():
        make_private_folder(file.parent)
    with FileLock(f"{file}.lock", timeout=_PATIENCE_S, mode=PRIVATE):
        yield


@contextmanager
def one_change(file: Path) -> Iterator[None]:
    """The same for what a user asked to write. Raises LMStrixError where the system, or another process, refuses it."""
    try:
        with one_writer(file):
            yield
    except OSError as exc:
        raise LMStrixError(
            f"{file} cannot be written ({exc.strerror or exc}); it is unchanged: free some disk space or check the "
            "folder's permissions"
        ) from exc
