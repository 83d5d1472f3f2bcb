"""What memory a Mac has free, and how much of it the GPU of Apple silicon may use.

Free is what macOS hands out without compressing or swapping what programs hold: free pages, pages that only repeat what
files hold, and those their programs marked as purgeable. That is all memory less what Activity Monitor calls used.
"""

from __future__ import annotations

import platform
import re
import sys
from typing import NamedTuple

_PAGE_SIZE = re.compile(r"page size of (\d+) bytes")
_GIVEN_BACK = ("Pages free", "File-backed pages", "Pages purgeable")
"""`vm_stat` counts speculative pages among the file-backed ones, and not among the free."""
_SMALL_MAC_BYTES = 36 * 2**30


class WorkingSet(NamedTuple):
    """How much memory the GPU may use, and who says so."""

    size_bytes: int
    source: str


def available_bytes(vm_stat: str) -> int | None:
    """What is available, by what the command `vm_stat` prints; None where it prints something else."""
    page_size = _PAGE_SIZE.search(vm_stat)
    counts = [re.search(rf"^{name}:\s+(\d+)\.$", vm_stat, re.MULTILINE) for name in _GIVEN_BACK]
    found = [int(count[1]) for count in counts if count is not None]
    if page_size is None or len(found) < len(_GIVEN_BACK):
        return None
    return int(page_size[1]) * sum(found)


def working_set(total_bytes: int, *, wired_limit_mb: int | None, metal_bytes: int | None) -> WorkingSet:
    """The user's own limit if there is one, else what Metal says, else the least that Macs of this size allow."""
    # 0 means that nobody has set it.
    if wired_limit_mb:
        return WorkingSet(wired_limit_mb * 2**20, "iogpu.wired_limit_mb")
    if metal_bytes is not None:
        return WorkingSet(metal_bytes, "Metal")
    if total_bytes <= _SMALL_MAC_BYTES:
        return WorkingSet(total_bytes * 2 // 3, "assumed (2/3 of memory)")
    return WorkingSet(total_bytes * 3 // 4, "assumed (3/4 of memory)")


def is_apple_silicon() -> bool:
    """Whether this Mac's processor is Apple's, also where Python was built for Intel's and says so."""
    return sys.platform == "darwin" and (platform.machine() == "arm64" or is_translated())


def is_translated() -> bool:
    """Whether Rosetta translates this process: a Python built for Intel's processors, on Apple silicon."""
    return sysctl_number("sysctl.proc_translated") == 1


def sysctl_number(name: str) -> int | None:
    """A number of the kernel's; None on other systems, and where this Mac has none of that name."""
    if sys.platform != "darwin":
        return None
    import ctypes

    # Some are of 4 bytes and some of 8, of which the first are the lower.
    value = ctypes.c_uint64(0)
    size = ctypes.c_size_t(ctypes.sizeof(value))
    sysctl = ctypes.CDLL(None).sysctlbyname
    status = sysctl(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return value.value if status == 0 else None
