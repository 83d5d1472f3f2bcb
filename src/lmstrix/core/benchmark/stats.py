"""Statistics for few measurements that follow no known distribution. Pure.

The median is the figure and order statistics give its interval: the true median lies between the k-th smallest and the
k-th largest value with a probability that is binomial, whatever the distribution. Six values are the fewest with a 95 %
interval (their whole range, 96.9 %). Two series are compared by the Mann-Whitney U test, exact where no values
are equal, else by the normal approximation with corrections for ties and continuity; their difference is the
Hodges-Lehmann estimate, whose interval belongs to the same test. Values far out are flagged, never dropped.

Traded away: power. With six values per side nothing weaker than complete separation of almost all values shows.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95
_FENCE = 1.5  # interquartile ranges beyond a quartile
_MOST_EXACT = 50  # values per side: more are close enough to normal


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """`low` to `high`; `coverage_ratio` is the probability, at least the one asked for, that the truth lies within."""

    low: float
    high: float
    coverage_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A series in short. `outliers` are positions in it; `interval` is None where there are too few values."""

    count: int
    median: float
    minimum: float
    maximum: float
    interval: Interval | None
    outliers: tuple[int, ...] = ()

    @property
    def width_ratio(self) -> float | None:
        """The width of the interval as a share of the median."""
        if self.interval is None or self.median == 0:
            return None
        return (self.interval.high - self.interval.low) / abs(self.median)


@dataclass(frozen=True, slots=True, kw_only=True)
class UTest:
    """`u` counts the pairs in which the first series is larger (ties half); `p_value` is two-sided."""

    u: float
    p_value: float
    exact: bool


def summarize(values: Sequence[float]) -> Summary | None:
    """What a series comes to; None for an empty one."""
    if not values:
        return None
    return Summary(
        count=len(values),
        median=median(values),
        minimum=min(values),
        maximum=max(values),
        interval=median_interval(values),
        outliers=outliers(values),
    )


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The narrowest pair of order statistics that holds the median with this confidence; None if none does."""
    count = len(values)
    rank, coverage, missed = 0, 1.0, 0.0
    for k in range(1, count // 2 + 1):
        missed += math.comb(count, k - 1) / 2**count  # fewer than k values lie below the median
        if 1 - 2 * missed < confidence:
            break
        rank, coverage = k, 1 - 2 * missed
    if rank == 0:
        return None
    ordered = sorted(values)
    return Interval(low=ordered[rank - 1], high=ordered[-rank], coverage_ratio=coverage)


def percentile(values: Sequence[float], ratio: float) -> float | None:
    """The value below which a share of `ratio` lies, interpolated between neighbours; None for an empty series."""
    if not values:
        return None
    ordered = sorted(values)
    place = ratio * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def outliers(values: Sequence[float]) -> tuple[int, ...]:
    """Positions of values more than 1.5 interquartile ranges beyond the quartiles."""
    lower, upper = percentile(values, 0.25), percentile(values, 0.75)
    if lower is None or upper is None:
        return ()
    reach = _FENCE * (upper - lower)
    return tuple(place for place, value in enumerate(values) if not lower - reach <= value <= upper + reach)


def is_settled(values: Sequence[float], width_ratio: float) -> bool:
    """Whether the median's interval is at most `width_ratio` of the median wide: more runs would tell little more."""
    summary = summarize(values)
    width = summary.width_ratio if summary is not None else None
    return width is not None and width <= width_ratio


def mann_whitney_u(first: Sequence[float], second: Sequence[float]) -> UTest | None:
    """Whether two series come from the same distribution; None when one is empty."""
    n, m = len(first), len(second)
    if not n or not m:
        return None
    u = sum((a > b) + 0.5 * (a == b) for a in first for b in second)
    ties = [count for count in Counter([*first, *second]).values() if count > 1]
    if not ties and max(n, m) <= _MOST_EXACT:
        return UTest(u=u, p_value=min(1.0, 2 * _tail(n, m, min(u, n * m - u))), exact=True)
    return UTest(u=u, p_value=_approximate(n, m, u, ties), exact=False)


def _approximate(n: int, m: int, u: float, ties: Sequence[int]) -> float:
    total = n + m
    correction = sum(count**3 - count for count in ties) / (total * (total - 1))
    variance = n * m / 12 * (total + 1 - correction)
    if variance <= 0:
        return 1.0  # all values are equal
    # U moves in steps; half a step less is the continuity correction.
    distance = max(u, n * m - u) - n * m / 2 - 0.5
    return min(1.0, math.erfc(distance / math.sqrt(2 * variance)))


def _tail(n: int, m: int, u: float) -> float:
    """The probability of a U of at most `u` when both series are alike and no values are equal."""
    return sum(_arrangements(n, m)[: math.floor(u) + 1]) / math.comb(n + m, n)


@lru_cache(maxsize=64)
def _arrangements(n: int, m: int) -> tuple[int, ...]:
    """How many of the orders of n and m values have U = 0, 1, …: coefficients of the Gaussian binomial."""
    counts = [1] + [0] * (n * m)
    for step in range(1, n + 1):
        for u in range(n * m, m + step - 1, -1):  # times (1 - q^(m+step))
            counts[u] -= counts[u - m - step]
        for u in range(step, n * m + 1):  # over (1 - q^step)
            counts[u] += counts[u - step]
    return tuple(counts)


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, Interval | None]:
    """By how much `second` lies above `first`: the median of all pairwise differences, and its interval."""
    n, m = len(first), len(second)
    differences = sorted(b - a for a in first for b in second)
    rank, coverage = _difference_rank(n, m)
    if rank == 0:
        return median(differences), None
    return median(differences), Interval(low=differences[rank - 1], high=differences[-rank], coverage_ratio=coverage)


def _difference_rank(n: int, m: int) -> tuple[int, float]:
    """How many of the sorted differences from either end bound the interval, and its coverage; 0 if none does."""
    if max(n, m) > _MOST_EXACT:
        spread = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(n * m * (n + m + 1) / 12)
        return max(0, math.floor(n * m / 2 - spread)), CONFIDENCE
    rank, coverage = 0, 1.0
    missed = 0.0
    orders = math.comb(n + m, n)
    for k in range(1, n * m // 2 + 1):
        missed += _arrangements(n, m)[k - 1] / orders
        if 1 - 2 * missed < CONFIDENCE:
            break
        rank, coverage = k, 1 - 2 * missed
    return rank, coverage
