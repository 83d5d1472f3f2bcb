"""One writer at a time for a file that is read, changed and written back: of two at once one would undo the other.

Readers need no lock, as a file is replaced in one step (`ground.files`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

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
