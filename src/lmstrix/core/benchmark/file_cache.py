"""How much of a model's files is in memory already, which is what makes a load warm; and dropping it for a cold one.

The system says which pages of a mapped file are resident (mincore, Linux and macOS) and can be advised to drop clean
ones (Linux). Elsewhere nothing is known, and a load carries no label rather than a guess.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

COLD_RATIO = 0.05
WARM_RATIO = 0.95
_LOWEST_BIT = bytes(value & 1 for value in range(256))  # the others have meanings of their own on some systems


def cached_ratio(files: Iterable[str]) -> float | None:
    """The share of the files' pages in memory, 0..1; None when it cannot be told."""
    if sys.platform == "win32":
        return None
    resident = total = 0
    for file in files:
        try:
            pages = _resident_pages(file)
        except (OSError, ValueError, AttributeError):
            return None
        resident += pages.count(1)
        total += len(pages)
    return resident / total if total else None


def _resident_pages(file: str) -> bytes:
    """1 for each page of a file in memory, else 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(file, "rb") as opened:  # noqa: PTH123 - mmap wants the descriptor
        size = os.fstat(opened.fileno()).st_size
        # A private writable mapping that is never written: ctypes takes the address of no other.
        with mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
            flags = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
            first = ctypes.c_char.from_buffer(mapped)
            try:
                failed = libc.mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), flags)
            finally:
                del first  # or the mapping cannot be closed
            if failed:
                raise OSError(ctypes.get_errno(), "mincore")
            return bytes(flags).translate(_LOWEST_BIT)


def drop_cached(files: Iterable[str]) -> bool:
    """Ask the system to drop the files from its cache; whether it can be asked."""
    if sys.platform != "linux":
        return False
    for file in files:
        try:
            descriptor = os.open(file, os.O_RDONLY)
        except OSError:
            return False
        # Advice only, and for clean pages only: what it did is seen by asking `cached_ratio` afterwards.
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return True
