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
Nothing is sampled, so tails are smooth, nothing degenerates, and equal evidence gives equal answers. `hypotheses`
makes and weighs them; here they are asked.

Traded away: the scatter of readings is taken as independent and normal, and the transient as one number.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.context.constants import BELIEF
from lmstrix.core.context.hypotheses import weigh
from lmstrix.core.context.machine_belief import BudgetHistory, MachineBelief
from lmstrix.core.context.normal import Normal, beyond, cut_off, mixture
from lmstrix.core.context.unknown_edge import UnknownEdge

if TYPE_CHECKING:
    from lmstrix.core.context.prior import Evidence, Prior

__all__ = ["Belief"]


class _Posterior(NamedTuple):
    """What a model's test left of the three quantities it shares with others."""

    overhead: Normal
    slope: Normal
    budget_ratio: Normal


class Belief:
    """A prior and the evidence so far, as weighted hypotheses."""

    def __init__(self, prior: Prior, evidence: Evidence) -> None:
        self._prior = prior
        self._hypotheses, mass = weigh(prior, evidence)
        self._unknown = UnknownEdge(prior, evidence)
        known_mass = (1 - self._unknown.weight) * mass
        self.misread_chance = self._unknown.mass / (self._unknown.mass + known_mass)
        """How likely the budget read says nothing about the one there is."""
        posterior = self._posterior()
        self._expected_start = prior.curve.fixed_bytes + posterior.overhead.mean
        self._expected_slope = posterior.slope.mean
        self.expected_budget_bytes = posterior.budget_ratio.mean * prior.budget_bytes

    @property
    def is_misread(self) -> bool:
        """Whether the budget read most likely says nothing about the one there is."""
        return self.misread_chance > 0.5

    def holds(self, n: int) -> float:
        """The chance that a load of `n` tokens and its prefill both hold."""
        growth = self._prior.curve.growth(n)
        # The search asks this hundreds of times per decision: names are local, and `beyond` is written out.
        transient_constant, transient_share = self._prior.transient_terms
        total = 0.0
        erfc, root = math.erfc, math.sqrt(0.5)
        for weight, slope, u, mean, sd, low, high, beyond_high, mass, _, _ in self._hypotheses:
            needed = slope * growth * (1 + u * transient_share) + u * transient_constant
            if needed <= low:
                total += weight * mass
            elif needed < high:
                total += weight * (0.5 * erfc((needed - mean) / sd * root) - beyond_high)
        unknown = self.misread_chance
        return (1 - unknown) * min(1.0, max(0.0, total)) + unknown * self._unknown.holds(n)

    def severe(self, n: int) -> float:
        """The chance that a load of `n` tokens would take far more than the budget (`BELIEF.severe_share`)."""
        if self.is_misread:
            return self._unknown.severe(n)
        growth = self._prior.curve.growth(n)
        slack = BELIEF.severe_share * self._prior.believed_budget_bytes
        total = 0.0
        for weight, slope, _, mean, sd, low, high, beyond_high, mass, _, _ in self._hypotheses:
            needed = slope * growth - slack
            if needed >= high:
                total += weight * mass
            elif needed > low:
                total += weight * max(0.0, mass - beyond((needed - mean) / sd) + beyond_high)
        # While the budget is believed, that it may be misread makes no length more dangerous than another.
        return total

    def expected_bytes(self, n: int) -> float:
        """Memory that a load of `n` tokens is expected to take."""
        return self._expected_start + self._expected_slope * self._prior.curve.growth(n)

    def taught(self) -> MachineBelief:
        """What was known of the machine before, after this model's overhead, slope and budget."""
        prior, machine, architecture = self._prior, self._prior.machine, self._prior.architecture
        overhead, slope, budget_ratio = self._posterior()
        slopes, counts = dict(machine.slopes), dict(machine.slope_models)
        if slope.sd < BELIEF.settled_slope_sd * slope.mean:
            shared_slope = machine.slopes.get(architecture, BELIEF.slope)
            surprising = abs(slope.mean - prior.slope.mean) > BELIEF.surprise_sds * prior.slope.sd
            slopes[architecture] = slope if surprising else shared_slope.taught(prior.slope, slope)
            counts[architecture] = 1 if surprising else counts.get(architecture, 0) + 1
        learnt = replace(
            machine,
            models=machine.models + 1,
            overhead_bytes=prior.shared_overhead.taught(prior.overhead, overhead),
            slopes=slopes,
            slope_models=counts,
        )
        if not prior.budget_known:  # then the prior's budget is our invention, and there is nothing to compare with
            return learnt
        learnt = replace(learnt, budgets=BudgetHistory.after(machine.budgets, prior.budget_bytes))
        if prior.budget_seen:
            is_misread = abs(budget_ratio.mean - 1.0) > BELIEF.off_budget[0]
            return replace(learnt, budget_ratio=budget_ratio, is_misread=is_misread)
        if self.is_misread:
            return replace(learnt, budget_ratio=self._found_ratio(), is_misread=True)
        shared_ratio = machine.budget_ratio or BELIEF.budget_ratio
        ratio = shared_ratio.taught(prior.budget_prior(), budget_ratio)
        is_misread = machine.is_misread and abs(ratio.mean - 1.0) > BELIEF.off_budget[0]
        return replace(learnt, budget_ratio=ratio, is_misread=is_misread)

    def _found_ratio(self) -> Normal:
        """What fits over the budget read, where that was misread: for the next model, whose reading errs alike."""
        budget = self._unknown.budget(self._expected_start, self._expected_slope)
        return budget.scaled(1 / self._prior.budget_bytes)

    def _posterior(self) -> _Posterior:
        """Mean and spread of overhead, slope and budget ratio."""
        overheads: list[tuple[float, float, float]] = []
        slopes: list[tuple[float, float, float]] = []
        budgets: list[tuple[float, float, float]] = []
        for hypothesis in self._hypotheses:
            mean, sd = hypothesis.mean, hypothesis.sd
            weight, variance = hypothesis.weight * hypothesis.mass, sd**2
            cut = cut_off((hypothesis.low - mean) / sd, (hypothesis.high - mean) / sd, hypothesis.mass)
            # Overhead and budget share out what the cut says of their difference, the headroom, by their variances.
            for part, sign, found in ((hypothesis.overhead, -1, overheads), (hypothesis.budget, 1, budgets)):
                gain = sign * part.sd**2 / variance
                spread = part.sd**2 - gain * gain * variance * (1 - cut.shrink)
                found.append((weight, part.mean + gain * (cut.shift * sd), max(spread, 0.0)))
            slopes.append((weight, hypothesis.slope, 0.0))
        budget_ratio = mixture(budgets).scaled(1 / self._prior.budget_bytes)
        return _Posterior(mixture(overheads), mixture(slopes), budget_ratio)
