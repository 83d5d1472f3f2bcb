"""The hypotheses of a belief: made from a prior, weighed by the evidence. Pure. `belief` says what they mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.context.constants import BELIEF
from lmstrix.core.context.normal import Normal, beyond
from lmstrix.core.context.prior import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lmstrix.core.context.prior import LoadReading, Prior

__all__ = ["Hypothesis", "weigh"]


class Hypothesis(NamedTuple):
    """Slope and transient fixed; the headroom is normal, cut off to [low, high], with its overhead and budget parts."""

    weight: float
    slope: float
    u: float
    mean: float
    sd: float
    low: float
    high: float
    beyond_high: float
    mass: float
    overhead: Normal
    budget: Normal


class _WeighedSlope(NamedTuple):
    """A slope, with the overhead that the readings leave under it."""

    weight: float
    slope: float
    overhead: Normal


class _Bounds(NamedTuple):
    """The headroom that what held and what failed allow."""

    low: float
    high: float
    trust: float


class Weighed(NamedTuple):
    """The hypotheses that count, and the share of what was possible that what held and what failed has left.

    Where the budget was read again, times how much better they expect those readings than somebody who knows nothing.
    """

    hypotheses: list[Hypothesis]
    mass: float


def weigh(prior: Prior, evidence: Evidence) -> Weighed:
    """The hypotheses that count. Where none explains what held and what failed, they are as before it, with no mass."""
    slopes = _weighed_slopes(prior, evidence.readings)
    possible = sum(slope.weight for slope in slopes)
    hypotheses, left = _normalized(_cut(prior, evidence, slopes))
    if hypotheses:
        return Weighed(hypotheses, left / possible)
    # Overhead and slope are still what the readings say: only the budget is not what was believed.
    return Weighed(_normalized(_cut(prior, Evidence(), slopes))[0], 0.0)


def _weighed_slopes(prior: Prior, readings: Sequence[LoadReading]) -> list[_WeighedSlope]:
    """Every slope and overhead regime, after the readings."""
    log_weights = []
    for slope, slope_weight in prior.slopes(fine=bool(readings)):
        for factor, regime_weight in BELIEF.overhead_regimes:
            start = Normal(prior.overhead.mean, prior.overhead.sd * factor)
            log_evidence, overhead = _read(prior, readings, slope, start)
            log_weights.append((math.log(slope_weight * regime_weight) + log_evidence, slope, overhead))
    # Weights relative to the likeliest: after a surprising reading, all of them alone would underflow to 0.
    best = max(log_weight for log_weight, _, _ in log_weights)
    slopes = (
        _WeighedSlope(math.exp(log_weight - best), slope, overhead) for log_weight, slope, overhead in log_weights
    )
    return [each for each in slopes if each.weight > BELIEF.negligible_weight]


def _read(prior: Prior, readings: Sequence[LoadReading], slope: float, overhead: Normal) -> tuple[float, Normal]:
    """Log evidence of the readings under `slope`, and the overhead they leave."""
    log_evidence = 0.0
    mean, variance = overhead.mean, overhead.sd**2
    for reading in readings:
        noise = prior.reading_noise(reading.memory_bytes, exact=reading.exact)
        seen = reading.memory_bytes - prior.curve.fixed_bytes - slope * reading.growth
        if reading.filled:
            # How much of the transient is still held when the memory is read, nobody says: half, give or take half.
            transient = prior.transient_bytes(reading.growth, slope, 1.0)
            seen -= 0.5 * transient
            noise = math.hypot(noise, 0.5 * transient)
        spread = variance + noise * noise
        surprise = seen - mean
        log_evidence -= 0.5 * (surprise * surprise / spread + math.log(spread))
        gain = variance / spread
        mean += gain * surprise
        variance *= 1 - gain
    return log_evidence, Normal(mean, math.sqrt(variance))


def _cut(prior: Prior, evidence: Evidence, slopes: Sequence[_WeighedSlope]) -> Iterator[Hypothesis]:
    """Every slope with every budget regime and transient, its headroom cut off by what held and what failed."""
    budgets = list(prior.budgets(evidence.budgets))
    for slope_weight, slope, overhead in slopes:
        transients = [(u, weight, list(_bounds(prior, evidence, slope, u))) for u, weight in BELIEF.transients]
        for budget_mean, budget_sd, budget_weight in budgets:
            mean = budget_mean - prior.curve.fixed_bytes - overhead.mean
            sd = math.hypot(budget_sd, overhead.sd)
            budget = Normal(budget_mean, budget_sd)
            for u, u_weight, bounds in transients:
                weight = slope_weight * budget_weight * u_weight
                for low, high, trust in bounds:
                    beyond_high = beyond((high - mean) / sd)
                    mass = beyond((low - mean) / sd) - beyond_high
                    # Far out in a tail both ends round to the same number: such a hypothesis is ruled out.
                    if low < high and mass > 0.0:
                        yield Hypothesis(
                            weight * trust, slope, u, mean, sd, low, high, beyond_high, mass, overhead, budget
                        )


def _bounds(prior: Prior, evidence: Evidence, slope: float, u: float) -> Iterator[_Bounds]:
    """With what is remembered, and, as it may not be true any more, without."""

    def load(n: int | None, otherwise: float) -> float:
        return otherwise if n is None else slope * prior.curve.growth(n) - prior.curve.touched_later(n)

    def prefill(n: int | None, otherwise: float) -> float:
        if n is None:
            return otherwise
        growth = prior.curve.growth(n)
        return slope * growth + prior.transient_bytes(growth, slope, u)

    low = max(load(evidence.held_load, -math.inf), prefill(evidence.held_prefill, -math.inf))
    high = min(load(evidence.failed_load, math.inf), prefill(evidence.failed_prefill, math.inf))
    if evidence.remembered is None:
        yield _Bounds(low, high, 1.0)
    else:
        yield _Bounds(max(low, prefill(evidence.remembered, low)), high, BELIEF.memory_trust)
        yield _Bounds(low, high, 1 - BELIEF.memory_trust)


def _normalized(hypotheses: Iterable[Hypothesis]) -> Weighed:
    """The hypotheses that count, weights scaled so that weight * mass sums to 1. None when no mass is left."""
    found = sorted(hypotheses, key=lambda item: item.weight * item.mass)
    total = sum(item.weight * item.mass for item in found)
    if total < 1e-12:  # what is left is rounding error, and scaling it up would believe in it
        return Weighed([], 0.0)
    # Every question costs an erfc per hypothesis, and most of them weigh next to nothing.
    dropped, light = 0, 0.0
    for item in found:
        light += item.weight * item.mass
        if light > BELIEF.dropped_mass * total:
            break
        dropped += 1
    kept = found[dropped:]
    kept_total = sum(item.weight * item.mass for item in kept)
    return Weighed([item._replace(weight=item.weight / kept_total) for item in kept], total)
