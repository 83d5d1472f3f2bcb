"""What we believe about memory while searching a context limit: a few hundred weighted Gaussian hypotheses. Pure.

A load of n tokens takes       used(n)  = fixed + overhead + slope * growth(n)
and its prefill on top         extra(n) = u * (constant + share * slope * growth(n))
where fixed + growth(n) is the formula's prediction (`fixed` at the shortest length, `growth` beyond). Unknown are
overhead, slope, the transient u and the budget. With headroom = budget - fixed - overhead, the load holds when
headroom >= slope * growth(n), and the prefill when the same holds with extra(n) added.

A hypothesis fixes slope and u and picks a regime for overhead and budget (as expected, or wild); inside it overhead and
budget are normal, so the headroom is normal too and everything is closed form:
- a memory reading is linear in the overhead: a conjugate update, and an evidence that re-weights slopes and regimes;
- a load or prefill that held (failed) cuts the headroom off from below (above): a truncated normal;
- the chance that n holds is a weighted sum of normal tails.
Nothing is sampled, so tails are smooth, nothing degenerates, and equal evidence gives equal answers.

Traded away: the scatter of readings is taken as independent and normal, and the transient as one number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.context.machine_belief import BudgetHistory, MachineBelief, Normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Belief", "Evidence", "Prior", "Reading"]

GIB = 2**30
MIB = 2**20

_OVERHEAD = Normal(0.45 * GIB, 0.32 * GIB)
"""Driver, runtime and allocator beside the formula's own 96 MiB: 0.3 to 0.75 GiB in public logs."""
_OVERHEAD_SCATTER = 0.08 * GIB
_ENOUGH_BUDGETS = 6
_LEAST_BUDGET_CHANGE = 0.5
_OVERHEAD_REGIMES = ((1.0, 0.94), (4.0, 0.06))
"""(factor on the sd, weight): as expected, or wild."""
_SLOPE = Normal(1.015, 0.035)
_SLOPE_SCATTER = 0.015
_APPROXIMATE_SLOPE_SD = 0.20
_SLOPE_TAIL_WEIGHT = 0.12
_APPROXIMATE_TAIL_WEIGHT = 0.5
_SLOPE_TAIL = (0.4, 5.0)
_BUDGET_RATIO = Normal(1.0, 0.005)
_BUDGET_READING_SHARE = 0.015
_BUDGET_REGIMES = ((1.0, 0.95), (2.7, 0.05))
"""(factor on the sd, weight): as expected, or wild."""
_UNKNOWN_BUDGETS = 12
_TRANSIENTS = ((0.25, 0.485), (0.75, 0.485), (2.5, 0.03))
_TRANSIENT_CONSTANT = 0.2 * GIB
_TRANSIENT_SHARE = 0.03
_READING_SHARE = 0.01
_READING_CONSTANT = 60 * MIB
_FULL_SIZE_BUDGET = 6 * GIB
"""Below this budget the constants above shrink in proportion: half a GiB of driver does not eat 200 MiB."""
_MEMORY_TRUST = 0.9
"""How sure we are that a length that held in an earlier test still does."""
_LEAST_BUDGET = 1.0 * MIB
_SEVERE_SHARE = 0.1
_SETTLED_SLOPE_SD = 0.1
"""A slope known better than this, as a share of itself, is worth teaching."""
_NEGLIGIBLE_WEIGHT = 1e-5
_DROPPED_MASS = 5e-4


class Reading(NamedTuple):
    """Memory the model was seen to take, at a growth; `filled` when its context had been prefilled."""

    growth: float
    memory_bytes: float
    filled: bool = False


@dataclass(slots=True)
class Evidence:
    """What was observed, in bytes of growth; `remembered` held in an earlier test."""

    readings: list[Reading] = field(default_factory=list)
    held_load: float | None = None
    held_prefill: float | None = None
    failed_load: float | None = None
    failed_prefill: float | None = None
    remembered: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Where a belief starts. `fixed_bytes` is the formula's prediction at growth 0."""

    fixed_bytes: float
    budget_bytes: float
    budget: Normal
    overhead: Normal
    slope: Normal
    slope_tail_weight: float
    budget_ratio: Normal
    scale: float
    budget_known: bool = True

    @classmethod
    def of(
        cls,
        *,
        fixed_bytes: float,
        budget_bytes: float,
        architecture: str,
        machine: MachineBelief,
        approximate: bool = False,
        budget_known: bool = True,
    ) -> Prior:
        """The prior of a model of `architecture`, after what `machine` has learnt."""
        budget_bytes = max(budget_bytes, _LEAST_BUDGET)
        scale = min(1.0, budget_bytes / _FULL_SIZE_BUDGET)
        overhead = machine.overhead_bytes or _OVERHEAD.scaled(scale)
        learnt = machine.slopes.get(architecture)
        tail = _APPROXIMATE_TAIL_WEIGHT if approximate else _SLOPE_TAIL_WEIGHT
        slope = Normal(_SLOPE.mean, _APPROXIMATE_SLOPE_SD if approximate else _SLOPE.sd)
        if learnt is not None:
            slope = learnt
            tail /= 1 + 3 * machine.slope_models.get(architecture, 1)
        budget_read = Normal(budget_bytes, _BUDGET_READING_SHARE * budget_bytes)
        history = machine.budgets
        return cls(
            fixed_bytes=fixed_bytes,
            budget_bytes=budget_bytes,
            budget=_settled(budget_read, history),
            overhead=overhead.widened(_OVERHEAD_SCATTER * scale),
            slope=slope.widened(_SLOPE_SCATTER),
            slope_tail_weight=tail,
            budget_ratio=machine.budget_ratio or _BUDGET_RATIO,
            scale=scale,
            budget_known=budget_known,
        )

    def slopes(self, *, fine: bool) -> Iterator[tuple[float, float]]:
        """(slope, weight): a normal core, a log-uniform tail for a wrong formula. `fine` to weigh readings."""
        nodes = [0.4 * index for index in range(-8, 9)] if fine else [0.6 * index for index in range(-5, 6)]
        weights = [math.exp(-z * z / 2) for z in nodes]
        core = (1 - self.slope_tail_weight) / sum(weights)
        for z, weight in zip(nodes, weights, strict=True):
            yield max(0.05, self.slope.mean + z * self.slope.sd), weight * core
        low, high = _SLOPE_TAIL
        count = 60 if fine else 16
        ratio = (high / low) ** (1 / count)
        for index in range(count):
            yield low * ratio ** (index + 0.5), self.slope_tail_weight / count

    def budgets(self) -> Iterator[tuple[float, float, float]]:
        """(mean, sd, weight) of the budget in each regime. Unknown, it is anything from too little to enough."""
        if not self.budget_known:
            low, ratio = self.fixed_bytes, (1.3 * self.budget_bytes / self.fixed_bytes) ** (1 / _UNKNOWN_BUDGETS)
            for index in range(_UNKNOWN_BUDGETS):
                mean = low * ratio ** (index + 0.5)
                yield mean, mean * max(ratio - 1, 0.01) / 2, 1 / _UNKNOWN_BUDGETS
            return
        mean = self.budget.mean * self.budget_ratio.mean
        for factor, weight in _BUDGET_REGIMES:
            yield mean, math.hypot(self.budget.sd * factor, self.budget_ratio.sd * mean), weight

    def budget_prior(self) -> Normal:
        """What fits over the budget we read, all regimes together."""
        return _moments((weight, mean, sd * sd) for mean, sd, weight in self.budgets()).scaled(1 / self.budget_bytes)

    def transient_bytes(self, growth: float, slope: float, u: float) -> float:
        """What a prefill takes beside the load."""
        return u * (_TRANSIENT_CONSTANT * self.scale + _TRANSIENT_SHARE * slope * growth)


class _Hypothesis(NamedTuple):
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


def _beyond(z: float) -> float:
    """The chance that a standard normal exceeds z."""
    return 0.5 * math.erfc(z * math.sqrt(0.5))


class Belief:
    """A prior and the evidence so far, as weighted hypotheses."""

    def __init__(self, prior: Prior, evidence: Evidence) -> None:
        self.prior = prior
        self._hypotheses: list[_Hypothesis] = []
        doubt = 1.0
        while not self._hypotheses and doubt < 1e6:
            self._hypotheses = _weighed(_cut(prior, evidence, _shapes(prior, evidence.readings, doubt), doubt))
            doubt *= 3.0  # evidence no hypothesis explains: everything is less certain than thought
        if not self._hypotheses:
            self._hypotheses = _weighed(_cut(prior, Evidence(), _shapes(prior, (), 1.0), 1.0))
        overhead, slope, _ = self._posterior()
        self._expected_start = prior.fixed_bytes + overhead.mean
        self._expected_slope = slope.mean

    def holds(self, growth: float) -> float:
        """The chance that a load at `growth` and its prefill both hold."""
        transient_constant = _TRANSIENT_CONSTANT * self.prior.scale
        total = 0.0
        erfc, root = math.erfc, math.sqrt(0.5)
        for weight, slope, u, mean, sd, low, high, beyond_high, mass, _, _ in self._hypotheses:
            needed = slope * growth * (1 + u * _TRANSIENT_SHARE) + u * transient_constant
            if needed <= low:
                total += weight * mass
            elif needed < high:
                total += weight * (0.5 * erfc((needed - mean) / sd * root) - beyond_high)
        return min(1.0, max(0.0, total))

    def severe(self, growth: float) -> float:
        """The chance that a load at `growth` would take more than 1.1 times the budget."""
        slack = _SEVERE_SHARE * self.prior.budget_bytes
        total = 0.0
        for weight, slope, _, mean, sd, low, high, beyond_high, mass, _, _ in self._hypotheses:
            needed = slope * growth - slack
            if needed >= high:
                total += weight * mass
            elif needed > low:
                total += weight * max(0.0, mass - _beyond((needed - mean) / sd) + beyond_high)
        return total

    def expected_bytes(self, growth: float) -> float:
        """Memory that a load at `growth` is expected to take."""
        return self._expected_start + self._expected_slope * growth

    def taught(self, machine: MachineBelief, architecture: str) -> MachineBelief:
        """`machine` after this model's overhead, slope and budget."""
        prior = self.prior
        overhead, slope, budget_ratio = self._posterior()
        shared_overhead = machine.overhead_bytes or _OVERHEAD.scaled(prior.scale)
        slopes, counts = dict(machine.slopes), dict(machine.slope_models)
        if slope.sd < _SETTLED_SLOPE_SD * slope.mean:
            shared_slope = machine.slopes.get(architecture, _SLOPE)
            surprising = abs(slope.mean - prior.slope.mean) > 4 * prior.slope.sd
            slopes[architecture] = slope if surprising else shared_slope.taught(prior.slope, slope)
            counts[architecture] = 1 if surprising else counts.get(architecture, 0) + 1
        learnt = MachineBelief(
            models=machine.models + 1,
            overhead_bytes=shared_overhead.taught(prior.overhead, overhead),
            budget_ratio=machine.budget_ratio,
            budgets=machine.budgets,
            slopes=slopes,
            slope_models=counts,
        )
        if not prior.budget_known:
            return learnt
        shared_ratio = machine.budget_ratio or _BUDGET_RATIO
        return replace(
            learnt,
            budget_ratio=shared_ratio.taught(prior.budget_prior(), budget_ratio),
            budgets=BudgetHistory.after(machine.budgets, prior.budget_bytes),
        )

    def _posterior(self) -> tuple[Normal, Normal, Normal]:
        """Mean and spread of overhead, slope and budget ratio."""
        overheads: list[tuple[float, float, float]] = []
        slopes: list[tuple[float, float, float]] = []
        budgets: list[tuple[float, float, float]] = []
        for hypothesis in self._hypotheses:
            weight = hypothesis.weight * hypothesis.mass
            shift, shrink = _truncated_moments(hypothesis)
            variance = hypothesis.sd**2
            for part, sign, found in ((hypothesis.overhead, -1, overheads), (hypothesis.budget, 1, budgets)):
                gain = sign * part.sd**2 / variance
                spread = part.sd**2 - gain * gain * variance * (1 - shrink)
                found.append((weight, part.mean + gain * shift, max(spread, 0.0)))
            slopes.append((weight, hypothesis.slope, 0.0))
        return _moments(overheads), _moments(slopes), _moments(budgets).scaled(1 / self.prior.budget_bytes)


def _settled(read: Normal, history: BudgetHistory | None) -> Normal:
    """The budget as read, pulled towards the machine's usual one as far as readings scatter by noise and not by change.

    Usual budget U, change d, noise e: read = U + d + e. The scatter of earlier readings estimates var(d) + var(e), and
    var(e) is what a reading is trusted to; the rest is change. If all scatter were change the pull would add no more
    error than a reading is trusted to have anyway.
    """
    if history is None or history.readings < _ENOUGH_BUDGETS:
        return read
    noise = read.sd**2
    scatter = history.squares / (history.readings - 1)
    change = max(scatter - noise, _LEAST_BUDGET_CHANGE**2 * noise)
    usual = change + (change + noise) / history.readings
    if (read.mean - history.mean_bytes) ** 2 > 9 * (usual + noise):
        return read
    gain = usual / (usual + noise)
    return Normal(history.mean_bytes + gain * (read.mean - history.mean_bytes), math.sqrt(gain * noise))


def _moments(parts: Iterable[tuple[float, float, float]]) -> Normal:
    """Mean and spread of a mixture of (weight, mean, variance)."""
    parts = list(parts)
    total = sum(weight for weight, _, _ in parts)
    mean = sum(weight * value for weight, value, _ in parts) / total
    variance = sum(weight * (spread + (value - mean) ** 2) for weight, value, spread in parts) / total
    return Normal(mean, math.sqrt(variance))


def _truncated_moments(hypothesis: _Hypothesis) -> tuple[float, float]:
    """Shift of the headroom's mean by the cut, in bytes, and what is left of its variance, as a ratio."""
    a, b = (hypothesis.low - hypothesis.mean) / hypothesis.sd, (hypothesis.high - hypothesis.mean) / hypothesis.sd
    density_a = math.exp(-a * a / 2) / math.sqrt(2 * math.pi) if math.isfinite(a) else 0.0
    density_b = math.exp(-b * b / 2) / math.sqrt(2 * math.pi) if math.isfinite(b) else 0.0
    shift = (density_a - density_b) / hypothesis.mass
    pull = ((a * density_a if density_a else 0.0) - (b * density_b if density_b else 0.0)) / hypothesis.mass
    return shift * hypothesis.sd, min(1.0, max(0.0, 1 + pull - shift * shift))


def _shapes(prior: Prior, readings: Sequence[Reading], doubt: float) -> list[tuple[float, float, Normal]]:
    """(weight, slope, overhead) for every slope and overhead regime, after the readings."""
    log_weights = []
    for slope, slope_weight in prior.slopes(fine=bool(readings)):
        for factor, regime_weight in _OVERHEAD_REGIMES:
            start = Normal(prior.overhead.mean, prior.overhead.sd * factor * doubt)
            log_evidence, overhead = _read(prior, readings, slope, start, doubt)
            log_weights.append((math.log(slope_weight * regime_weight) + log_evidence, slope, overhead))
    best = max(log_weight for log_weight, _, _ in log_weights)
    shapes = [(math.exp(log_weight - best), slope, overhead) for log_weight, slope, overhead in log_weights]
    return [shape for shape in shapes if shape[0] > _NEGLIGIBLE_WEIGHT]


def _read(
    prior: Prior, readings: Sequence[Reading], slope: float, overhead: Normal, doubt: float
) -> tuple[float, Normal]:
    """Log evidence of the readings under `slope`, and the overhead they leave."""
    log_evidence = 0.0
    mean, variance = overhead.mean, overhead.sd**2
    for reading in readings:
        noise = math.hypot(_READING_SHARE * reading.memory_bytes, _READING_CONSTANT * prior.scale) * doubt
        seen = reading.memory_bytes - prior.fixed_bytes - slope * reading.growth
        if reading.filled:
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


def _cut(
    prior: Prior, evidence: Evidence, shapes: Sequence[tuple[float, float, Normal]], doubt: float
) -> Iterator[_Hypothesis]:
    """Every shape with every budget regime and transient, its headroom cut off by what held and what failed."""
    for shape_weight, slope, overhead in shapes:
        for budget_mean, budget_sd, budget_weight in prior.budgets():
            mean = budget_mean - prior.fixed_bytes - overhead.mean
            sd = math.hypot(budget_sd * doubt, overhead.sd)
            for u, u_weight in _TRANSIENTS:
                weight = shape_weight * budget_weight * u_weight
                for low, high, trust in _bounds(prior, evidence, slope, u):
                    beyond_high = _beyond((high - mean) / sd)
                    mass = _beyond((low - mean) / sd) - beyond_high
                    if low < high and mass > 0.0:
                        budget = Normal(budget_mean, budget_sd * doubt)
                        yield _Hypothesis(
                            weight * trust, slope, u, mean, sd, low, high, beyond_high, mass, overhead, budget
                        )


def _bounds(prior: Prior, evidence: Evidence, slope: float, u: float) -> Iterator[tuple[float, float, float]]:
    """(least, most, trust): the headroom that what held and what failed allow, with and without what is remembered."""

    def load(growth: float | None, otherwise: float) -> float:
        return otherwise if growth is None else slope * growth

    def prefill(growth: float | None, otherwise: float) -> float:
        return otherwise if growth is None else slope * growth + prior.transient_bytes(growth, slope, u)

    low = max(load(evidence.held_load, -math.inf), prefill(evidence.held_prefill, -math.inf))
    high = min(load(evidence.failed_load, math.inf), prefill(evidence.failed_prefill, math.inf))
    if evidence.remembered is None:
        yield low, high, 1.0
    else:
        yield max(low, prefill(evidence.remembered, low)), high, _MEMORY_TRUST
        yield low, high, 1 - _MEMORY_TRUST


def _weighed(hypotheses: Iterable[_Hypothesis]) -> list[_Hypothesis]:
    """The hypotheses that count, weights scaled so that weight * mass sums to 1. None when no mass is left.

    The lightest are dropped as long as they hold less than `_DROPPED_MASS` together: most of them do.
    """
    found = sorted(hypotheses, key=lambda item: item.weight * item.mass)
    total = sum(item.weight * item.mass for item in found)
    if total < 1e-12:
        return []
    dropped, light = 0, 0.0
    for item in found:
        light += item.weight * item.mass
        if light > _DROPPED_MASS * total:
            break
        dropped += 1
    kept = found[dropped:]
    total = sum(item.weight * item.mass for item in kept)
    return [item._replace(weight=item.weight / total) for item in kept]
