"""Where a belief about memory starts, and what may be observed: `Prior`, `LoadReading`, `Evidence`. Pure.

`belief` says what the quantities are and how evidence moves them; `constants` where the numbers come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.context.constants import BELIEF
from lmstrix.core.context.normal import Normal, mixture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lmstrix.core.context.curve import CostCurve
    from lmstrix.core.context.machine_belief import BudgetHistory, MachineBelief
    from lmstrix.ground.types import MemoryShortage

__all__ = ["BudgetReading", "Evidence", "LoadReading", "Prior", "WeightedBudget", "WeightedSlope"]


class LoadReading(NamedTuple):
    """Memory the model was seen to take, at a growth; `filled` when its context had been prefilled, `exact` when the
    engine itself says so.
    """

    growth: float
    memory_bytes: float
    filled: bool = False
    exact: bool = False


class BudgetReading(NamedTuple):
    """The budget seen once more with a load in memory: what the load takes and what is free beside it."""

    memory_bytes: float
    free_bytes: float
    exact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was observed, in context lengths; `remembered` held in an earlier test."""

    readings: tuple[LoadReading, ...] = ()
    budgets: tuple[BudgetReading, ...] = ()
    held_load: int | None = None
    held_prefill: int | None = None
    failed_load: int | None = None
    failed_prefill: int | None = None
    remembered: int | None = None


class WeightedSlope(NamedTuple):
    """A slope the formula's growth may have in truth."""

    slope: float
    weight: float


class WeightedBudget(NamedTuple):
    """A regime of the budget."""

    mean: float
    sd: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Where a belief starts. `curve` is what the formula predicts; `scale` shrinks what a machine adds beside it, 1.0
    for budgets of full size. `budget_seen` says that memory ran out while somebody looked, so that what fits is known.
    """

    architecture: str
    machine: MachineBelief
    curve: CostCurve
    budget_bytes: float
    budget: Normal
    overhead: Normal
    slope: Normal
    slope_tail_weight: float
    budget_ratio: Normal
    shared_overhead: Normal
    scale: float
    told: bool = False
    budget_known: bool = True
    budget_seen: bool = False

    @classmethod
    def of(
        cls,
        *,
        curve: CostCurve,
        budget_bytes: float,
        architecture: str,
        machine: MachineBelief,
        approximate: bool = False,
        told: bool = False,
        budget_known: bool = True,
    ) -> Prior:
        """The prior of a model of `architecture`, after what `machine` has learnt."""
        budget_bytes = max(budget_bytes, BELIEF.least_budget_bytes)
        # A small model has small transients on any machine, and a budget may be read far too large.
        scale = min(1.0, min(budget_bytes, curve.total(curve.top)) / BELIEF.full_size_budget_bytes)
        overhead = machine.overhead_bytes or BELIEF.overhead_bytes.scaled(scale)
        budget_share, usual = BELIEF.budget_reading_share, BELIEF.slope
        if told:
            constant, share = BELIEF.told_overhead
            overhead = machine.overhead_bytes or Normal(0.0, math.hypot(constant, share * curve.fixed_bytes))
            budget_share, usual = BELIEF.told_budget_share, Normal(1.0, BELIEF.told_slope_sd)
        learnt = machine.slopes.get(architecture)
        tail = BELIEF.approximate_tail_weight if approximate else BELIEF.slope_tail_weight
        slope = Normal(usual.mean, BELIEF.approximate_slope_sd) if approximate else usual
        if learnt is not None:
            # What was measured replaces what was assumed, the doubt about a guessed cost included.
            slope = learnt
            tail /= 1 + BELIEF.slope_tail_fading * machine.slope_models.get(architecture, 1)
        budget_read = Normal(budget_bytes, budget_share * budget_bytes)
        return cls(
            architecture=architecture,
            machine=machine,
            curve=curve,
            budget_bytes=budget_bytes,
            budget=_settled(budget_read, machine.budgets),
            overhead=overhead.widened(0.0 if told else BELIEF.overhead_scatter_bytes * scale),
            shared_overhead=overhead,
            slope=slope.widened(BELIEF.slope_scatter),
            slope_tail_weight=tail,
            budget_ratio=machine.budget_ratio or BELIEF.budget_ratio,
            scale=scale,
            told=told,
            budget_known=budget_known,
        )

    def after_shortage(self, shortage: MemoryShortage) -> Prior:
        """The same once a model was seen to run out of memory: what it held then is the budget, not what was read."""
        held, late = float(shortage.held_bytes), shortage.grew_bytes / 2
        seen = BELIEF.shortage.scaled(held)
        budget = Normal(seen.mean + late, math.hypot(seen.sd, late))
        return replace(
            self,
            budget=Normal(self.budget_bytes, 0.0),
            budget_ratio=budget.scaled(1 / self.budget_bytes),
            budget_known=True,
            budget_seen=True,
        )

    def slopes(self, *, fine: bool) -> Iterator[WeightedSlope]:
        """A normal core, and a log-uniform tail for a wrong formula. `fine` to weigh readings."""
        # A reading is sharper than the core is wide: on the coarse grid it would fall between two slopes.
        nodes = [0.4 * index for index in range(-8, 9)] if fine else [0.6 * index for index in range(-5, 6)]
        weights = [math.exp(-z * z / 2) for z in nodes]
        core = (1 - self.slope_tail_weight) / sum(weights)
        for z, weight in zip(nodes, weights, strict=True):
            yield WeightedSlope(max(0.05, self.slope.mean + z * self.slope.sd), weight * core)
        low, high = BELIEF.slope_tail
        count = 60 if fine else 16
        ratio = (high / low) ** (1 / count)
        for index in range(count):
            yield WeightedSlope(low * ratio ** (index + 0.5), self.slope_tail_weight / count)

    def budgets(self, readings: Sequence[BudgetReading] = ()) -> Iterator[WeightedBudget]:
        """The budget in each regime, after it was seen again in `readings`: then the weights need not add up to 1."""
        mean, sd = self.believed_budget_bytes, self.budget.sd * self.budget_ratio.mean
        off_share, off_weight = BELIEF.off_budget
        regimes = [(sd * factor, weight) for factor, weight in BELIEF.budget_regimes]
        for regime_sd, weight in [*regimes, (off_share * mean, off_weight)]:
            budget = Normal(mean, math.hypot(regime_sd, self.budget_ratio.sd * self.budget.mean))
            for reading in readings:
                budget, density = budget.seen(self.budget_noise(reading))
                # Over the density where nothing is known of the budget: any multiple of the one read.
                weight *= density * budget.mean
            yield WeightedBudget(budget.mean, budget.sd, weight)

    def reading_noise(self, memory_bytes: float, *, exact: bool) -> float:
        """The sd of a memory reading."""
        if exact:
            return BELIEF.exact_reading_share * memory_bytes
        return math.hypot(BELIEF.reading_share * memory_bytes, BELIEF.reading_constant_bytes * self.scale)

    def budget_noise(self, reading: BudgetReading) -> Normal:
        """What a budget reading says, and how surely: the more of it the load takes, the less is left to misread."""
        taken = self.reading_noise(reading.memory_bytes, exact=reading.exact)
        constant = 0.0 if reading.exact else BELIEF.reading_constant_bytes * self.scale
        free = math.hypot(BELIEF.budget_reading_share * reading.free_bytes, constant)
        return Normal(reading.memory_bytes + reading.free_bytes, math.hypot(taken, free))

    @property
    def believed_budget_bytes(self) -> float:
        """What is expected to fit: the budget read, after what the machine has taught."""
        return self.budget.mean * self.budget_ratio.mean

    def budget_prior(self) -> Normal:
        """What fits over the budget we read, all regimes together."""
        return mixture((weight, mean, sd * sd) for mean, sd, weight in self.budgets()).scaled(1 / self.budget_bytes)

    @property
    def transient_terms(self) -> tuple[float, float]:
        """What a prefill takes beside the load at u = 1: a constant, and a share of the growth in truth."""
        scale = BELIEF.told_transient_share if self.told else 1.0
        return BELIEF.transient_constant_bytes * self.scale * scale, BELIEF.transient_share * scale

    def transient_bytes(self, growth: float, slope: float, u: float) -> float:
        """What a prefill takes beside the load."""
        constant, share = self.transient_terms
        return u * (constant + share * slope * growth)


def _settled(read: Normal, history: BudgetHistory | None) -> Normal:
    """The budget as read, pulled towards the machine's usual one as far as readings scatter by noise and not by change.

    Usual budget U, change d, noise e: read = U + d + e. The scatter of earlier readings estimates var(d) + var(e), and
    var(e) is what a reading is trusted to; the rest is change. If all scatter were change the pull would add no more
    error than a reading is trusted to have anyway.
    """
    if history is None or history.readings < BELIEF.enough_budgets:
        return read
    noise = read.sd**2
    scatter = history.squares / (history.readings - 1)
    change = max(scatter - noise, BELIEF.least_budget_change**2 * noise)
    usual = change + (change + noise) / history.readings
    if (read.mean - history.mean_bytes) ** 2 > BELIEF.changed_budget_sds**2 * (usual + noise):
        return read  # other programs have come or gone: pulling it to the usual would promise memory that is taken
    gain = usual / (usual + noise)
    return Normal(history.mean_bytes + gain * (read.mean - history.mean_bytes), math.sqrt(gain * noise))
