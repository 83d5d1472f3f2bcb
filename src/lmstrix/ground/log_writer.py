"""One writer of log lines: it counts what cannot be written, holds repeats and floods back, and raises nothing.

A line that cannot be written (a full disk, a closed pipe) is counted, and the count is written when writing works
again. A server writes from a thread of its own, so that a reader who sleeps holds up nothing but the log.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from lmstrix.ground.log_text import LineLimiter, log_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from lmstrix.ground.log_target import LogTarget

Level = Literal["debug", "info", "warn", "error"]
_RANKS: Final = {"debug": 0, "info": 1, "warn": 2, "error": 3}
_MOST_WAITING: Final = 4000
"""Lines a thread may be behind, a megabyte or two, before further ones are counted instead of kept."""
_MOST_KEPT_CHARS: Final = 5000
"""Of a line that waits: more than is ever written of one, so that it still shows as cut."""
_TICK_S: Final = 1.0
"""How soon the end of a series of repeats is told."""
_CLOSE_S: Final = 1.0
"""How long the end of the process waits for the last lines."""


class LogWriter:
    """Lines of `level` and above, to one target. `threaded`: `write` hands them to a thread and never waits."""

    def __init__(
        self, target: LogTarget, *, level: Level = "info", secrets: Collection[str] = (), threaded: bool = False
    ) -> None:
        self._target = target
        self._secrets = secrets
        self._rank = _RANKS[level]
        self._limiter = LineLimiter()
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[Level, str] | None] | None = None
        self._thread: threading.Thread | None = None
        self.lost = 0
        if threaded:
            self._waiting = queue.SimpleQueue()
            self._thread = threading.Thread(target=self._write_waiting, name="lmstrix-log", daemon=True)
            self._thread.start()

    def write(self, level: Level, text: str) -> None:
        """Tell a line. Raises nothing."""
        if _RANKS[level] < self._rank:
            return
        if self._waiting is None:
            with self._lock:
                self._admit(level, text)
        elif self._waiting.qsize() < _MOST_WAITING:
            # The rest of an endless text would only be kept to be cut off.
            self._waiting.put((level, text[:_MOST_KEPT_CHARS]))
        else:
            self.lost += 1

    def close(self) -> None:
        """Write what is waiting, for a moment, and let go of the target."""
        if self._waiting is not None and self._thread is not None:
            self._waiting.put(None)
            self._thread.join(_CLOSE_S)
            # It is stuck in a write that nobody reads; the end of the process ends it.
            if self._thread.is_alive():
                return
        for line in self._limiter.rest():
            self._put(line)
        with contextlib.suppress(OSError):
            self._target.close()

    def _write_waiting(self) -> None:
        assert self._waiting is not None
        while True:
            try:
                told = self._waiting.get(timeout=_TICK_S)
            except queue.Empty:
                for line in self._limiter.due(time.monotonic()):
                    self._put(line)
                continue
            if told is None:
                return
            self._admit(*told)

    def _admit(self, level: Level, text: str) -> None:
        for line in self._limiter.admit(f"{level:<5} {log_text(text, self._secrets)}", time.monotonic()):
            self._put(line)

    def _put(self, line: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        lost = self.lost
        # First on the line that works again: what a full disk cut off must not have the next line at its end.
        before = f"\n{stamp}Z warn  {lost:,} lines could not be written\n" if lost else ""
        try:
            self._target.write(f"{before}{stamp}Z {line}\n")
        except OSError:
            self.lost += 1
        else:
            self.lost -= lost
