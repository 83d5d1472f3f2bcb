"""What a process held when it was last seen at work, and whether the system then ended it for lack of memory.

A process that has ended has no memory to ask for, and the kernel leaves no word of why it killed it, so both are looked
at while it works: what it holds many times a second, and how many processes of its control group, or of the machine
where it has none, were killed for lack of memory before. What a model held at such an end is how much fits, which no
other reading says so surely. On Linux; other systems do not kill so, and nothing is known there.
"""

from __future__ import annotations

import math
import mmap
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmstrix.core.memory.host import memory_group_folders
from lmstrix.ground.types import MemoryShortage

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOONEST_S: Final = 0.004
"""Between two looks while what is held grows. A look takes 20 microseconds."""
_KILLED: Final = -9  # by SIGKILL, which not every system has
_LATEST_S: Final = 0.1
"""The same in a request where nothing has changed for a while: answers take no memory, prompts do. A load takes it in
bursts, and is looked at evenly."""
_STALE_S: Final = 5.0
"""An end so long after the last look was of an idle process: kills counted since then may have been of any other. Long
enough for an event loop that is late to hear of the end."""
_RESIDENT_FIELD: Final = 1  # of /proc/PID/statm, in pages
_COUNTED_IN: Final = {1: ("memory.oom_control",), 2: ("memory.events.local", "memory.events")}
"""Where a control group counts, by version."""
_COUNTER: Final = "oom_kill"  # its name in every file that has it


class LastLook:
    """Looks at a process while somebody waits for its work. `root` is the file system to read, for tests."""

    def __init__(self, pid: int, *, root: Path = Path("/")) -> None:
        self._statm = root / f"proc/{pid}/statm"
        self._counter: Path | None = None
        if sys.platform == "linux":
            self._counter = next((file for file in _counters(root, pid) if _kills(file) is not None), None)
        self._kills_before = 0
        self._held_bytes = 0
        self._grew_bytes = 0
        self._looked_at_s = -math.inf
        self._working = 0
        self._idle = threading.Event()

    @contextmanager
    def at_work(self, *, loading: bool = False) -> Iterator[None]:
        """The process works while the context is entered; entered several times, until it is left as often."""
        if self._counter is None:
            yield
            return
        self._working += 1
        if self._working == 1:
            self._kills_before = _kills(self._counter) or 0
            self._idle = threading.Event()
            # Not on the event loop, which may be busy with what the process has to say.
            latest_s = _SOONEST_S if loading else _LATEST_S
            threading.Thread(target=self._keep_looking, args=(self._idle, latest_s), daemon=True).start()
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

    def shortage(self, return_code: int) -> MemoryShortage | None:
        """How the system ended it for lack of memory; None where that is not how it ended. To be asked at its end."""
        if self._counter is None or return_code != _KILLED or not self._held_bytes:
            return None
        if time.monotonic() - self._looked_at_s > _STALE_S:
            return None
        kills = _kills(self._counter)
        if kills is None or kills <= self._kills_before:
            return None
        return MemoryShortage(held_bytes=self._held_bytes, grew_bytes=self._grew_bytes)

    def _keep_looking(self, idle: threading.Event, latest_s: float) -> None:
        wait_s = _SOONEST_S
        while held_bytes := self._look():
            wait_s = _SOONEST_S if held_bytes > self._held_bytes else min(2 * wait_s, latest_s)
            self._grew_bytes, self._held_bytes = max(0, held_bytes - self._held_bytes), held_bytes
            self._looked_at_s = time.monotonic()
            if idle.wait(wait_s):
                return

    def _look(self) -> int:
        """What it holds now; 0 when it has ended."""
        try:
            return int(self._statm.read_bytes().split()[_RESIDENT_FIELD]) * mmap.PAGESIZE
        except (OSError, IndexError, ValueError):
            return 0


def _counters(root: Path, pid: int) -> Iterator[Path]:
    """Files that count the processes killed for lack of memory, the one closest to the process first."""
    for folder, version in memory_group_folders(root, pid):
        for name in _COUNTED_IN[version]:
            yield folder / name
    yield root / "proc/vmstat"


def _kills(file: Path) -> int | None:
    """The count in one of these files; None where it has none."""
    try:
        text = file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    values = [line.split()[1] for line in text.splitlines() if line.startswith(f"{_COUNTER} ")]
    return int(values[0]) if values and values[0].isdigit() else None
