"""Normal distributions, and what is read off them: tails, cuts and mixtures. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROOT_HALF = math.sqrt(0.5)
_ROOT_TWO_PI = math.sqrt(2 * math.pi)


class Normal(NamedTuple):
    """A normal distribution."""

    mean: float
    sd: float

    def widened(self, scatter: float) -> Normal:
        """This, with an independent scatter on top."""
        return Normal(self.mean, math.hypot(self.sd, scatter))

    def scaled(self, factor: float) -> Normal:
        """The distribution of the value times `factor`."""
        return Normal(self.mean * factor, self.sd * factor)

    def seen(self, reading: Normal) -> tuple[Normal, float]:
        """This after a reading of it, and the density that it gave the reading beforehand."""
        variance = self.sd**2 + reading.sd**2
        surprise = reading.mean - self.mean
        density = math.exp(-surprise * surprise / (2 * variance)) / math.sqrt(2 * math.pi * variance)
        gain = self.sd**2 / variance
        return Normal(self.mean + gain * surprise, self.sd * math.sqrt(max(0.0, 1 - gain))), density

    def taught(self, before: Normal, after: Normal) -> Normal:
        """This shared part, after a model whose own value went from `before` to `after`."""
        prior_variance = before.sd**2
        gain = self.sd**2 / prior_variance
        # A test that ended less certain than it began (a wild reading) teaches its mean, but widens nothing.
        variance = self.sd**2 - gain**2 * (prior_variance - min(after.sd, before.sd) ** 2)
        return Normal(self.mean + gain * (after.mean - before.mean), math.sqrt(max(variance, 0.0)))


class Cut(NamedTuple):
    """What cutting a standard normal off to an interval does: to its mean, in sds, and to its variance, as a ratio."""

    shift: float
    shrink: float


def beyond(z: float) -> float:
    """The chance that a standard normal exceeds z."""
    return 0.5 * math.erfc(z * _ROOT_HALF)


def cut_off(a: float, b: float, mass: float) -> Cut:
    """A standard normal cut off to [a, b], which holds `mass` of it."""
    # At an infinite end the density is 0, and infinity times 0 must not become a NaN.
    density_a = math.exp(-a * a / 2) / _ROOT_TWO_PI if math.isfinite(a) else 0.0
    density_b = math.exp(-b * b / 2) / _ROOT_TWO_PI if math.isfinite(b) else 0.0
    shift = (density_a - density_b) / mass
    pull = ((a * density_a if density_a else 0.0) - (b * density_b if density_b else 0.0)) / mass
    return Cut(shift, min(1.0, max(0.0, 1 + pull - shift * shift)))


def mixture(parts: Iterable[tuple[float, float, float]]) -> Normal:
    """Mean and spread of a mixture of (weight, mean, variance)."""
    parts = list(parts)  # read three times
    total = sum(weight for weight, _, _ in parts)
    mean = sum(weight * value for weight, value, _ in parts) / total
    variance = sum(weight * (spread + (value - mean) ** 2) for weight, value, spread in parts) / total
    return Normal(mean, math.sqrt(variance))
