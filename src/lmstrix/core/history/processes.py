"""Who wrote something: a process told apart from a later one of the same id.

On Linux that comes from /proc and costs microseconds; elsewhere psutil gives the time the process started.
"""

from __future__ import annotations

import os
from pathlib import Path

from lmstrix.ground.machine import boot_id

_STAT_FIELDS_AFTER_NAME = 19  # of /proc/<pid>/stat: the start time is field 22, and the name, field 2, may hold blanks


def process_identity(pid: int) -> str | None:
    """A text only this process has; None when no process of this id runs."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        # A zombie has ended, whatever its entry says.
        return None if fields[0] in ("Z", "X") else f"{boot_id()}/{fields[_STAT_FIELDS_AFTER_NAME]}"
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.Error:
        return None


def own_identity() -> str:
    return process_identity(os.getpid()) or "unknown"
