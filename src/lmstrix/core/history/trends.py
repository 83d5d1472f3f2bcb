"""Whether a figure of a model's calls went up or down from one span of time to the next. Pure.

Medians are compared: one slow call, or a first one that read the model from disk, moves no median.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lmstrix.core.benchmark.stats import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

Direction = Literal["up", "down", "steady", "too few"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendRules:
    """From when on a change is told."""

    fewest_calls: int = 5
    """On each side: with fewer, the interval that holds a median with 90 in 100 reaches beyond the values measured."""
    steady_ratio: float = 0.1
    """A desktop's other programs change the speed of single calls by about as much."""


RULES = TrendRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """`change_ratio` is by how much of the earlier median the later one is more, None where too few calls measured it;
    `calls` and `calls_before` are those that did.
    """

    direction: Direction
    calls: int
    calls_before: int
    change_ratio: float | None = None


def trend_of(now: Sequence[float], before: Sequence[float], rules: TrendRules = RULES) -> Trend:
    """How the figures of now compare with those before."""
    later, earlier = percentile(now, 0.5), percentile(before, 0.5)
    if min(len(now), len(before)) < rules.fewest_calls or later is None or not earlier:
        return Trend(direction="too few", calls=len(now), calls_before=len(before))
    change = later / earlier - 1
    direction: Direction = "steady" if abs(change) < rules.steady_ratio else "up" if change > 0 else "down"
    return Trend(direction=direction, calls=len(now), calls_before=len(before), change_ratio=change)
