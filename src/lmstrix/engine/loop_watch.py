"""How late the engine's event loop is: everything it serves waits as long as its longest piece of work.

A task that sleeps says how late it woke. What is told: a warning when that is much, not more often than every ten
seconds, and figures for whoever asks (`/api/lmstrix/loop`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLimits:
    """When lag is told."""

    interval_s: float = 0.1
    """Between two looks: a thousandth of the processor's time at most."""
    lag_s: float = 0.25
    """A reader notices a pause of that length; the longest that is meant to be is half of it."""
    quiet_s: float = 10.0
    """Between two warnings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLag:
    """How late the loop woke: the last time, the worst time, and how often it was more than the limit."""

    last_ms: float
    worst_ms: float
    late_count: int
    looks: int


LIMITS: Final = WatchLimits()


class LoopWatch:
    """Measures the lag of the loop that `run` runs on; `warn` gets the lines for the log."""

    def __init__(self, warn: Callable[[str], None], limits: WatchLimits = LIMITS) -> None:
        self._warn = warn
        self._limits = limits
        self._last_s = self._worst_s = 0.0
        self._late_count = self._looks = self._untold = 0
        self._untold_worst_s = 0.0
        self._told_at: float | None = None

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._limits.interval_s
            await asyncio.sleep(self._limits.interval_s)
            now = loop.time()
            self.note(max(0.0, now - due), now)

    def note(self, lag_s: float, now_s: float) -> None:
        """Count one measurement, taken at `now_s`, and tell it where it is due."""
        self._looks += 1
        self._last_s, self._worst_s = lag_s, max(self._worst_s, lag_s)
        if lag_s > self._limits.lag_s:
            self._late_count += 1
            self._untold += 1
            self._untold_worst_s = max(self._untold_worst_s, lag_s)
        # Also those that were held back, once the log may be written again.
        if self._untold and (self._told_at is None or now_s - self._told_at >= self._limits.quiet_s):
            self._tell(now_s)

    def _tell(self, now_s: float) -> None:
        often = "" if self._untold == 1 else f", the longest of {self._untold} such pauses"
        self._warn(f"the event loop was held up for {self._untold_worst_s * 1000:.0f} ms{often}")
        self._untold, self._untold_worst_s, self._told_at = 0, 0.0, now_s

    @property
    def lag(self) -> LoopLag:
        """The figures so far."""
        return LoopLag(
            last_ms=round(self._last_s * 1000, 3),
            worst_ms=round(self._worst_s * 1000, 3),
            late_count=self._late_count,
            looks=self._looks,
        )
