"""How far two benchmarks of the same thing lie apart, each made for itself at a time of its own. Pure.

What a machine does beside a benchmark changes from one session to the next, and all runs of a session share it, so
that no number of runs tells what another session would have found. Earlier sessions of the same cell and settings do:
the logarithms of their medians have a standard deviation, and a difference of two sessions is held against it times the
square root of two. With too few of them nothing can be said: on a machine busy with other things, sessions of the same
model were seen to differ by a factor of two, and no spread assumed for all machines would be both true and of use.

The ratio is referred to Student's t with 3 degrees of freedom however many sessions there were: one session in a
while runs beside something heavy, and tails so heavy need a far more careful limit than the number of sessions alone
would give. By simulation (tests/core/benchmark/test_comparing_worlds.py) this keeps false alarms below 5 %, except
where a machine is beside something ten times as heavy in one session of ten (6 to 17 %). Traded away: what differs by
less than several times the spread is not found; measured in turns within one session it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import stdev
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.stats import Interval
from lmstrix.core.benchmark.visit_records import logarithms

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadLimits:
    """What the spread of sessions goes by."""

    least_sessions: int = 6  # by simulation: with fewer, one calm week makes everything after it look changed
    least_ratio: float = 0.01  # medians that agree by chance, or are copies, must not make the spread vanish


LIMITS = SpreadLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The standard deviation of the logarithms of so many sessions' medians."""

    ratio: float
    sessions: int

    def p_value(self, log_ratio: float) -> float:
        """How likely two sessions of the same thing differ by so much."""
        return _two_sided(abs(log_ratio) / self._of_differences)

    def interval(self, log_ratio: float, confidence: float) -> Interval:
        """Where the difference lies that many sessions of both would find."""
        reach = _quantile(1 - confidence) * self._of_differences
        return Interval(low=log_ratio - reach, high=log_ratio + reach, coverage_ratio=confidence)

    @property
    def _of_differences(self) -> float:
        return self.ratio * math.sqrt(2)


def spread_of(medians: Sequence[float]) -> Spread | None:
    """The spread of earlier sessions' medians; None where there are too few."""
    logs = logarithms(medians)
    if len(logs) < LIMITS.least_sessions:
        return None
    return Spread(ratio=max(LIMITS.least_ratio, stdev(logs)), sessions=len(logs))


def _two_sided(t: float) -> float:
    """Student's t with 3 degrees of freedom in closed form (Abramowitz and Stegun, 26.7.3)."""
    angle = math.atan(t / math.sqrt(3))
    return max(0.0, 1 - 2 / math.pi * (angle + math.sin(angle) * math.cos(angle)))


@lru_cache(maxsize=32)
def _quantile(p_value: float) -> float:
    """The t that has this two-sided probability, by halving."""
    low, high = 0.0, 1.0
    while _two_sided(high) > p_value and high < 1e6:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _two_sided(middle) > p_value else (low, middle)
    return high
