"""What tests of earlier models taught about a machine: the starting point of the next model's search. Pure.

Three things carry over. The runtime's own memory beside what the formula knows (driver, allocator, process) is mostly
the machine's. How far the formula is off per token of context (the slope, 1.0 when it is right) is mostly the
architecture's. How the budget we read compares with what really fits is the machine's again. Each is kept as a normal
distribution of the shared part; a model adds a scatter of its own, so one model never settles the matter.

Update, for a shared part N(m, P) and a model's own scatter q: the model's value starts as N(m, P + q); once its search
left it at N(m', V'), the shared part moves by the gain K = P / (P + q) to N(m + K (m' - m), P - K^2 (P + q - V')): the
backward step of a Kalman smoother, which counts no evidence twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lmstrix.core.context.constants import BELIEF
from lmstrix.core.context.normal import Normal

__all__ = ["BudgetHistory", "MachineBelief"]


class BudgetHistory(NamedTuple):
    """Budgets read on this machine so far: their number, their mean, and the sum of squared deviations from it."""

    readings: int
    mean_bytes: float
    squares: float

    @classmethod
    def after(cls, earlier: BudgetHistory | None, budget_bytes: float) -> BudgetHistory:
        """`earlier` with one more reading (Welford), old ones fading; a reading far off begins a new history."""
        if earlier is None or abs(budget_bytes - earlier.mean_bytes) > BELIEF.same_budget_share * earlier.mean_bytes:
            return cls(1, budget_bytes, 0.0)
        # With the count capped, each new reading keeps a weight of about one in a hundred, and the squares fade alike.
        count = min(earlier.readings, BELIEF.remembered_budgets)
        shift = budget_bytes - earlier.mean_bytes
        mean = earlier.mean_bytes + shift / (count + 1)
        squares = earlier.squares * count / earlier.readings + shift * (budget_bytes - mean)
        return cls(count + 1, mean, squares)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineBelief:
    """What is known of a machine after `models` tests. None or a missing architecture: nothing learnt, use the prior.

    `overhead_bytes` is memory beside the formula's, `budget_ratio` what fits over the budget we read, `slopes` the true
    growth with the context over the formula's, by architecture, and `slope_models` how many models taught each.
    `is_misread` says that the last model failed far from where the budget read lets it: the ratio is then where it
    failed, and a start for the next model of the same run, no more.
    """

    models: int = 0
    overhead_bytes: Normal | None = None
    budget_ratio: Normal | None = None
    is_misread: bool = False
    budgets: BudgetHistory | None = None
    slopes: Mapping[str, Normal] = field(default_factory=dict)
    slope_models: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain values, for the database."""
        # What fits far from what is read may have passed by tomorrow: kept, it would hold limits down unseen.
        ratio = None if self.is_misread else self.budget_ratio
        return {
            "models": self.models,
            "overhead_bytes": list(self.overhead_bytes) if self.overhead_bytes else None,
            "budget_ratio": list(ratio) if ratio else None,
            "budgets": list(self.budgets) if self.budgets else None,
            "slopes": {name: [*slope, self.slope_models.get(name, 1)] for name, slope in self.slopes.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> MachineBelief:
        """The inverse of `to_json`. What does not make sense counts as not learnt."""
        models = values.get("models")
        found = values.get("slopes")
        slopes: dict[str, Normal] = {}
        counts: dict[str, int] = {}
        for name, entry in found.items() if isinstance(found, Mapping) else ():
            slope = _normal(entry)
            if slope is not None and slope.mean > 0:
                slopes[str(name)] = slope
                # The count stands behind the distribution; databases written before it existed lack it.
                counts[str(name)] = int(entry[2]) if len(entry) > 2 else 1
        return cls(
            models=models if isinstance(models, int) else 0,
            overhead_bytes=_normal(values.get("overhead_bytes")),
            budget_ratio=_normal(values.get("budget_ratio")),
            budgets=_history(values.get("budgets")),
            slopes=slopes,
            slope_models=counts,
        )


def _numbers(value: object, count: int) -> list[float] | None:
    """At least `count` finite numbers, or None when `value` is anything else."""
    if not isinstance(value, list | tuple) or len(value) < count:
        return None
    numbers = [float(item) for item in value if isinstance(item, int | float) and math.isfinite(item)]
    return numbers if len(numbers) == len(value) else None


def _normal(value: object) -> Normal | None:
    """A distribution from [mean, sd, …]."""
    numbers = _numbers(value, 2)
    return Normal(numbers[0], numbers[1]) if numbers and numbers[1] > 0 else None


def _history(value: object) -> BudgetHistory | None:
    """A history from [count, mean, squares]."""
    numbers = _numbers(value, 3)
    return BudgetHistory(int(numbers[0]), numbers[1], numbers[2]) if numbers and numbers[0] >= 1 else None
