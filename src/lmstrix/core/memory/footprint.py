"""How much memory a process takes, and took at most, as each system counts it best.

Linux: what is resident. Windows: the larger of that and what the process alone has committed, for Windows takes pages
away from processes that rest. macOS: the larger of that and its "physical footprint", which holds what the GPU was
given and what was compressed, and leaves out files that are mapped, as weights often are.

Traded away: on a Mac, mapped weights beside buffers of the GPU, of which the larger part counts alone.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

_RUSAGE_INFO_V4 = 4
_RUSAGE_BYTES = 512  # of which version 4 fills 296: kernels have written more than an older header says
_RESIDENT_AT, _FOOTPRINT_AT, _MOST_FOOTPRINT_AT = 64, 72, 240
"""Where `struct rusage_info_v4` of Apple's sys/resource.h has ri_resident_size, ri_phys_footprint and
ri_lifetime_max_phys_footprint."""


class Footprint(NamedTuple):
    """Bytes of one process. Where the system keeps no peak it is what the process takes now."""

    now_bytes: int
    peak_bytes: int


def footprint(pid: int) -> Footprint | None:
    """What a process takes; None when it has ended or belongs to somebody else."""
    if sys.platform == "darwin":
        usage = _read_rusage(pid)
        return mac_footprint(usage) if usage is not None else None
    import psutil

    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return None
    if sys.platform == "win32":
        return Footprint(max(memory.rss, memory.private), max(memory.peak_wset, memory.peak_pagefile))
    return Footprint(memory.rss, memory.rss)


def mac_footprint(usage: bytes) -> Footprint:
    """The same of what `proc_pid_rusage` fills in."""
    resident, present, most = (
        int.from_bytes(usage[at : at + 8], "little") for at in (_RESIDENT_AT, _FOOTPRINT_AT, _MOST_FOOTPRINT_AT)
    )
    now_bytes = max(resident, present)
    return Footprint(now_bytes, max(now_bytes, most))


def _read_rusage(pid: int) -> bytes | None:
    if sys.platform != "darwin":
        return None
    import ctypes

    usage = ctypes.create_string_buffer(_RUSAGE_BYTES)
    status = ctypes.CDLL("/usr/lib/libproc.dylib").proc_pid_rusage(pid, _RUSAGE_INFO_V4, usage)
    return usage.raw if status == 0 else None
