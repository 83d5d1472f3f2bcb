"""How much memory a process holds, held at most, and has reserved: from /proc on Linux, through psutil elsewhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """Bytes of one process. Where the system keeps no peaks they are what it holds now."""

    resident_bytes: int
    peak_resident_bytes: int
    peak_address_space_bytes: int


GONE = ProcessMemory(resident_bytes=0, peak_resident_bytes=0, peak_address_space_bytes=0)


def process_memory(pid: int) -> ProcessMemory:
    """The memory of a process now; nothing when it has ended."""
    if sys.platform == "linux":
        return _from_proc(pid)
    import psutil

    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return GONE
    peak = memory.rss
    if sys.platform == "win32":
        peak = memory.peak_wset
    return ProcessMemory(resident_bytes=memory.rss, peak_resident_bytes=peak, peak_address_space_bytes=memory.vms)


def _from_proc(pid: int) -> ProcessMemory:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return GONE
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    # A process that has ended and was not waited for has a status without memory.
    if "VmRSS" not in fields:
        return GONE
    return ProcessMemory(
        resident_bytes=int(fields["VmRSS"][0]) * _KIB,
        peak_resident_bytes=int(fields["VmHWM"][0]) * _KIB,
        peak_address_space_bytes=int(fields["VmPeak"][0]) * _KIB,
    )
