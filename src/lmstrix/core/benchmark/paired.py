"""Differences between the two halves of pairs: is their centre zero, and where does it lie? Pure.

Wilcoxon's signed-rank test (Biometrics Bulletin 1, 1945), exact: the ranks of the sizes are summed where the difference
is positive, and every assignment of signs is counted. Equal sizes share the mean of their ranks; differences of zero
tell nothing and are left out. The centre is the estimate of Hodges and Lehmann (Annals of Mathematical Statistics 34,
1963): the median of the averages of all two differences, each with itself too. Its interval is the test turned around
(Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3rd edition, section 3.3).

The signed ranks were chosen over the t-test by simulation (tests/core/benchmark/test_comparing_worlds.py): both keep
their promise under drifts and heavy tails, and where now and then a measurement is far too slow, as on a busy machine,
the ranks find more. Traded away: n pairs never give a p-value below 2 / 2 ** n.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.stats import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_PAIRS = 200
"""Counting takes the cube of this; so many pairs take about a second."""


def least_p_value(pairs: int) -> float:
    """What the test gives when all of so many differences point one way; it can give no less."""
    return min(1.0, math.ldexp(2.0, -pairs))


def signed_rank_p(differences: Sequence[float]) -> float:
    """The two-sided probability of a rank sum so far from its middle if each sign were a coin's."""
    told = [value for value in differences if value]
    ranks = _doubled_ranks([abs(value) for value in told])
    positive = sum(rank for rank, value in zip(ranks, told, strict=True) if value > 0)
    # The two tails mirror each other: a sum and what it lacks of the whole are equally likely.
    tail = min(positive, sum(ranks) - positive)
    return min(1.0, 2 * sum(_sums(tuple(sorted(ranks)))[: tail + 1]) / (1 << len(ranks)))


def _doubled_ranks(sizes: Sequence[float]) -> list[int]:
    """Twice the rank of each size: ranks that are shared are halves, and sums are counted in whole numbers."""
    ordered = sorted(sizes)
    return [bisect_left(ordered, size) + bisect_right(ordered, size) + 1 for size in sizes]


@lru_cache(maxsize=32)
def _sums(ranks: tuple[int, ...]) -> tuple[int, ...]:
    """In how many ways some of the ranks add up to 0, 1, 2, …"""
    ways = [1] + [0] * sum(ranks)
    reached = 0
    for rank in ranks:
        reached += rank
        for total in range(reached, rank - 1, -1):
            ways[total] += ways[total - rank]
    return tuple(ways)


def centre(differences: Sequence[float]) -> float:
    """The Hodges-Lehmann estimate."""
    return median(_averages(differences))


def centre_interval(differences: Sequence[float], confidence: float) -> Interval | None:
    """Where the centre lies with this confidence; None when so few differences cannot say it."""
    rank, coverage = _interval_rank(len(differences), confidence)
    if rank == 0:
        return None
    averages = sorted(_averages(differences))
    return Interval(low=averages[rank - 1], high=averages[-rank], coverage_ratio=coverage)


def _averages(differences: Sequence[float]) -> list[float]:
    return [(a + b) / 2 for place, a in enumerate(differences) for b in differences[place:]]


@lru_cache(maxsize=64)
def _interval_rank(count: int, confidence: float) -> tuple[int, float]:
    """How many of the sorted averages from either end bound the interval, and its coverage; 0 if none does."""
    rank, coverage, missed = 0, 1.0, 0
    ways = _sums(tuple(2 * rank for rank in range(1, count + 1)))[::2]
    for k in range(1, len(ways) // 2 + 1):
        missed += ways[k - 1]
        covered = 1 - 2 * missed / (1 << count)
        # Sums of floats: at exactly the level asked for, rounding must not decide.
        if covered < confidence and not math.isclose(covered, confidence, rel_tol=1e-12):
            break
        rank, coverage = k, covered
    return rank, coverage
