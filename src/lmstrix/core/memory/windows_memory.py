"""What memory Windows has free: physical memory, and what is left of its commit limit.

Windows promises no memory that it could not keep, in physical memory or in its page file: once all is promised,
allocations fail (WinError 1455) however much physical memory is free. So the smaller of the two is what is available.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

SOURCE = "GlobalMemoryStatusEx"


class MemoryStatus(NamedTuple):
    """The fields of MEMORYSTATUSEX that are used here, in bytes.

    `commit_limit` and `commit_left` are what Windows calls the page file's: physical memory and page file together, or
    the limit of this process's job where that is less.
    """

    total_physical: int
    available_physical: int
    commit_limit: int
    commit_left: int

    @property
    def available_bytes(self) -> int:
        return min(self.available_physical, self.commit_left)


def read_status() -> MemoryStatus | None:
    """What GlobalMemoryStatusEx tells; None on other systems or where it fails."""
    if sys.platform != "win32":
        return None
    import ctypes

    class Status(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = (
            ("length", ctypes.c_uint32),
            ("memory_load", ctypes.c_uint32),
            ("total_physical", ctypes.c_uint64),
            ("available_physical", ctypes.c_uint64),
            ("total_page_file", ctypes.c_uint64),
            ("available_page_file", ctypes.c_uint64),
            ("total_virtual", ctypes.c_uint64),
            ("available_virtual", ctypes.c_uint64),
            ("available_extended_virtual", ctypes.c_uint64),
        )

    told = Status(length=ctypes.sizeof(Status))
    if not ctypes.WinDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(told)):
        return None
    return MemoryStatus(told.total_physical, told.available_physical, told.total_page_file, told.available_page_file)
