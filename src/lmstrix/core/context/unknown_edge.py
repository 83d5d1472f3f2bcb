"""The limit when the budget was misread, or is not known at all: anywhere, every ratio equally likely. Pure.

The budget we read may be another one than the model lives on: main memory where a card counts, the machine where a
container is limited. Then the reading says nothing, and only what held and what failed does. The edge, the length at
which loads begin to fail, is taken as log-uniform: it is as likely to lie between 2,000 and 4,000 tokens as between
32,000 and 64,000. What follows from it are geometric steps, and a bisection in ratio.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.context.constants import BELIEF
from lmstrix.core.context.normal import Normal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.core.context.prior import Evidence, Prior

__all__ = ["UnknownEdge"]

_ROOT_12 = math.sqrt(12.0)  # the width of an even spread over its sd
_LOG_CONTRADICTED_SHARE = math.log(BELIEF.contradicted_share)


class _Interval(NamedTuple):
    """Where the edge lies under one transient: between two logarithms of lengths."""

    u: float
    weight: float
    low: float
    high: float

    @property
    def mass(self) -> float:
        return self.weight * (self.high - self.low)

    def above(self, position: float) -> float:
        """The share of it above `position`."""
        return min(1.0, max(0.0, (self.high - position) / (self.high - self.low)))


class UnknownEdge:
    """What the evidence leaves of an edge that may lie anywhere, for each transient a prefill may have.

    `weight` is how likely that was before the evidence, and `mass` what of it is possible after it.
    """

    def __init__(self, prior: Prior, evidence: Evidence) -> None:
        self._prior = prior
        least = math.log(prior.curve.floor / BELIEF.unknown_edge_reach)
        most = math.log(prior.curve.top * BELIEF.unknown_edge_reach)
        self.weight = BELIEF.misread_weight if prior.budget_known else 1.0
        if evidence.failed_prefill is not None:
            self.weight = min(1.0, self.weight + BELIEF.untouched_weight)
        intervals = []
        for u, weight, loads in self._cases(evidence, least, most):
            low = max(least, loads, self._needed(evidence.held_prefill, u, least))
            high = min(
                most, self._needed(evidence.failed_load, None, most), self._needed(evidence.failed_prefill, u, most)
            )
            if low < high:
                intervals.append(_Interval(u, weight, low, high))
        if not intervals:
            # A fill that failed far below what loads contradicts every transient: then only fills say anything.
            failed = [n for n in (evidence.failed_load, evidence.failed_prefill) if n is not None]
            high = min([most, *map(math.log, failed)])
            known = math.log(evidence.held_prefill) if evidence.held_prefill else high + _LOG_CONTRADICTED_SHARE
            low = min(max(least, known), high - BELIEF.unknown_edge_least)
            intervals = [_Interval(0.0, self.weight, low, high)]
        self._intervals = intervals
        total = sum(interval.mass for interval in self._intervals)
        self._shares = [interval.mass / total for interval in self._intervals]
        self.mass = total / (most - least)

    def _cases(self, evidence: Evidence, least: float, most: float) -> Iterator[tuple[float, float, float]]:
        """Each transient with its weight, and where the edge must lie for the loads that held.

        Where loads touch nothing they have an edge of their own, which lies where they have shown it by chance.
        """
        # That takes a fill to show, and until one has failed nothing is to be feared for it.
        untouched = 0.0 if evidence.failed_prefill is None else BELIEF.untouched_weight
        for u, weight in BELIEF.unknown_transients:
            yield u, (self.weight - untouched) * weight, self._needed(evidence.held_load, None, least)
        if not untouched:
            return
        held = least if evidence.held_load is None else math.log(evidence.held_load)
        chance = 1.0
        if evidence.failed_load is not None:
            chance = max(0.0, math.log(evidence.failed_load) - held) / (most - least)
        reach = math.log(BELIEF.untouched_reach)
        yield BELIEF.unknown_transients[0][0], untouched * chance, max(least, held - reach)

    def holds(self, n: int) -> float:
        """The chance that a load of `n` tokens and its prefill both hold."""
        return sum(
            share * interval.above(self._needed(n, interval.u, 0.0))
            for share, interval in zip(self._shares, self._intervals, strict=True)
        )

    def severe(self, n: int) -> float:
        """The chance that a load of `n` tokens takes far more than what fits (`BELIEF.severe_share`)."""
        curve = self._prior.curve
        per_token = curve.growth_per_token
        within = curve.total(n) / (1 + BELIEF.severe_share) - curve.fixed_bytes
        if within <= 0 or not per_token:
            return 0.0
        return 1.0 - self.holds(curve.floor + int(within / per_token))

    def budget(self, start_bytes: float, slope: float) -> Normal:
        """The budget that goes with the edge, where a load takes `start_bytes` and `slope` for each byte of growth."""
        growth = self._prior.curve.growth
        least = slope * growth(int(math.exp(min(interval.low for interval in self._intervals))))
        most = slope * growth(int(math.exp(max(interval.high for interval in self._intervals))))
        return Normal(start_bytes + (least + most) / 2, max((most - least) / _ROOT_12, 1.0))

    def _needed(self, n: int | None, u: float | None, otherwise: float) -> float:
        """Where the edge must lie at least for `n` tokens to be filled, with `u` of the transient; None: to be loaded.

        The edge is that of lengths filled with no transient at all.
        """
        if n is None:
            return otherwise
        curve = self._prior.curve
        if not curve.growth_per_token:
            return math.log(n)
        more = -curve.touched_later(n) if u is None else self._prior.transient_bytes(curve.growth(n), 1.0, u)
        return math.log(max(1.0, n + more / curve.growth_per_token))
