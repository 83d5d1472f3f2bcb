"""Every tuned number of the belief and of the search, each with where it comes from. Pure.

"The worlds" are those of `bench/simulated_worlds.py`, whose docstring says how they are drawn. "Chosen" numbers
and those without a source are from seeds 0 and 1 of `bench/context_search.py`; docs/optimizer.md shows another seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmstrix.core.context.normal import Normal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.ground.choices import Precision

GIB = 2**30
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class BeliefConstants:
    """What is believed of a machine and a model before anything is known of them."""

    overhead_bytes: Normal = field(default=Normal(0.45 * GIB, 0.32 * GIB))
    """Driver, runtime and allocator beside what the formula has of them: 0.3 to 0.75 GiB in public logs."""
    told_overhead: tuple[float, float] = (4 * MIB, 0.015)
    """(constant, share of the cost at the shortest length), together the sd where the server itself tells the budget
    and what it takes: predictions of the embedded engine's loads are within 2 % (docs/optimizer.md)."""
    told_slope_sd: float = 0.02
    """The same as `slope.sd` there; the mean is 1."""
    told_budget_share: float = 0.004
    """The same as `budget_reading_share` there."""
    told_transient_share: float = 0.25
    """How much of the usual transient is left there: such a reading counts what a full context will touch."""
    overhead_scatter_bytes: float = 0.08 * GIB
    """How far one model's overhead is from its machine's: the worlds draw 0 to 0.25 GiB, an sd of 0.07."""
    overhead_regimes: tuple[tuple[float, float], ...] = ((1.0, 0.94), (4.0, 0.06))
    """(factor on the sd, weight): as expected, or wild. Without the wild one, an odd reading would bend the slope."""
    full_size_budget_bytes: float = 6 * GIB
    """Below this budget overheads shrink in proportion: half a GiB of driver does not eat 200 MiB."""

    slope: Normal = field(default=Normal(1.015, 0.035))
    """True growth over the formula's, when the formula is right: the worlds' mean is 1.02, their sd 0.031."""
    slope_scatter: float = 0.015
    """How far one model's slope is from its architecture's: the worlds draw 0 to 4 %, an sd of 0.012."""
    slope_tail: tuple[float, float] = (0.4, 5.0)
    """Where the slope lies when the formula is wrong: scenario B draws 0.65 to 4."""
    slope_tail_weight: float = 0.12
    """How likely the formula is wrong for an architecture not tested here. Chosen; scenario B has a quarter wrong."""
    slope_tail_fading: float = 3.0
    """Each model that taught its architecture's slope makes a wrong formula so much less likely. Chosen."""
    approximate_slope_sd: float = 0.20
    """The same as `slope.sd` where the cost is a guess from the file's size. Chosen."""
    approximate_tail_weight: float = 0.5
    """The same as `slope_tail_weight` for a guess: guesses for MLX files were 1.1 to 17 times what LM Studio logs."""
    settled_slope_sd: float = 0.1
    """A slope known better than this, as a share of itself, is worth teaching; others are still the prior."""
    surprise_sds: float = 4.0
    """A slope this far from its prior replaces what the architecture taught before: the two are not of one kind."""

    budget_ratio: Normal = field(default=Normal(1.0, 0.005))
    """What fits over the budget we read, before a machine has shown its own ratio. Chosen."""
    budget_reading_share: float = 0.015
    """The error of one reading of the budget: the worlds' 1.5 %."""
    budget_regimes: tuple[tuple[float, float], ...] = ((1.0, 0.90), (2.7, 0.05))
    """(factor on the sd, weight): as expected, or wild, which is scenario C's 4 %."""
    off_budget: tuple[float, float] = (0.15, 0.05)
    """(sd as a share, weight) of a budget that is read somewhat off, whoever says it. Chosen."""
    misread_weight: float = 0.02
    """How likely the budget read has nothing to do with the one there is. Chosen: one failure then outweighs it."""
    unknown_edge_reach: float = 2.0
    """How far beyond the shortest and the longest length an unknown limit may lie, as a ratio. Chosen."""
    contradicted_share: float = 0.5
    """Of a length that failed to be filled for no transient we know: the share that can be, at least. Chosen."""
    unknown_edge_least: float = 1e-9
    """The least room left between what held and what failed, as a ratio: a chance is divided by it."""
    unknown_transients: tuple[tuple[float, float], ...] = ((0.25, 0.47), (0.75, 0.46), (2.5, 0.06), (10.0, 0.01))
    """The same as `transients` where the limit is unknown: wilder, as nothing else explains a failing prefill there."""
    untouched_weight: float = 0.02
    """How likely, where the limit is unknown, loads take memory only when they are filled, so that they prove nothing:
    hybrids on a processor do (bench/real_limits.py). Chosen."""
    untouched_reach: float = 4.0
    """How many times as much such a load may ask for as can be filled: 3.2 there."""
    least_budget_bytes: float = 1.0 * MIB
    """A budget of nothing would be divided by."""
    enough_budgets: int = 6
    """Readings of the budget after which their scatter is worth an estimate."""
    least_budget_change: float = 0.5
    """The least a budget is taken to change between tests, in sds of a reading: programs come and go. Chosen."""
    changed_budget_sds: float = 3.0
    """A budget this far from the usual one has changed, and is taken as read."""
    same_budget_share: float = 0.1
    """A budget further than this from the usual one begins a new history: another machine, or another mode of it."""
    shortage: Normal = field(default=Normal(1.012, 0.012))
    """The budget over what a model was last seen to hold when memory ran out, beside half of what it grew before: 1.00
    to 1.025 in bench/real_limits.py."""
    remembered_budgets: int = 100
    """How many readings count at most, so that a machine can change its ways. Chosen."""

    transients: tuple[tuple[float, float], ...] = ((0.25, 0.485), (0.75, 0.485), (2.5, 0.03))
    """(u, weight): two points stand for the worlds' even draw of 0 to 1, the third for scenario C's 10 % of cache."""
    transient_constant_bytes: float = 0.2 * GIB
    """What a prefill takes beside the load at u = 1, whatever the length: the worlds' 0 to 0.2 GiB."""
    transient_share: float = 0.03
    """The same as a share of the cache: the worlds' 0 to 3 %."""

    reading_share: float = 0.01
    """The error of a memory reading as a share of it: the worlds' 1 %."""
    exact_reading_share: float = 0.003
    """The same where the engine itself says what it takes: its buffers are exact, its heap is nearly so."""
    reading_constant_bytes: float = 60 * MIB
    """The error of a memory reading whatever it says: the worlds' 60 MiB, the coming and going of other programs."""
    memory_trust: float = 0.9
    """How sure we are that a length that held in an earlier test still does. Chosen."""
    severe_share: float = 0.1
    """More than this over the budget is severe: it sends machines into swapping, where they freeze."""

    negligible_weight: float = 1e-5
    """Slopes this light beside the likeliest are not crossed with budgets and transients. Saves time."""
    dropped_mass: float = 5e-4
    """The lightest hypotheses that hold this much together are dropped: most of them do. Saves time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appetite:
    """What a precision is willing to pay.

    `price` of a failure and `effort` of a load are shares of the likely limit; `first_price` holds while nothing has
    loaded yet, and `max_risk` of failing is taken once something has; the floor is tried unless it fails with more than
    `give_up_risk`. Once the budget read has proved wrong, each step takes `lost_risk`, until what held and what failed
    are within `lost_ratio`. One that `climbs_back` goes on between a prefill that passed and one that failed before.
    """

    price: float
    first_price: float
    effort: float
    lost_risk: float
    lost_ratio: float
    max_risk: float
    give_up_risk: float
    max_loads: int
    max_failures: int
    climbs_back: bool = False


_APPETITES: Mapping[Precision, Appetite] = {
    "safe": Appetite(
        price=2.0,
        lost_risk=0.15,
        lost_ratio=1.3,
        first_price=6.0,
        effort=0.02,
        max_risk=0.03,
        give_up_risk=0.5,
        max_loads=5,
        max_failures=2,
    ),
    "balanced": Appetite(
        price=0.25,
        lost_risk=0.4,
        lost_ratio=1.12,
        first_price=4.0,
        effort=0.012,
        max_risk=0.12,
        give_up_risk=0.93,
        max_loads=6,
        max_failures=3,
    ),
    "tight": Appetite(
        price=0.1,
        lost_risk=0.4,
        lost_ratio=1.06,
        first_price=2.0,
        effort=0.01,
        max_risk=0.3,
        give_up_risk=0.93,
        max_loads=8,
        max_failures=4,
    ),
    "exhaustive": Appetite(
        price=0.002,
        lost_risk=0.5,
        lost_ratio=1.0,
        first_price=1.0,
        effort=0.0,
        max_risk=1.0,
        give_up_risk=0.93,
        max_loads=24,
        max_failures=8,
        climbs_back=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConstants:
    """What a search risks, and how finely it looks."""

    appetites: Mapping[Precision, Appetite] = field(default_factory=lambda: _APPETITES)
    """By precision: chosen for the loads, failures and gaps that docs/optimizer.md shows for each."""
    lost_loads: int = 14
    """How many loads a search may take once a failure has shown that its belief is wrong. Chosen."""
    surprised_ratio: float = 1.25
    """The same as `Appetite.lost_ratio` after a failure that the budget read still explains. Chosen."""
    surprised_risk: float = 0.25
    """The same as `Appetite.lost_risk` after such a failure: the limit is near, and one step shorter holds. Chosen."""
    lost_risk_fall: float = 0.7
    """How much less each failure after the first lets the next load risk. Chosen."""
    last_risk_fall: float = 0.3
    """How much less again where as many have failed as may and nothing is known to hold: from what holds it can climb.
    Chosen."""
    refused_share: float = 0.97
    """The share of a length to try where a guardrail that was asked before refuses it: free memory moves. Chosen."""
    reload_ratio: float = 0.97
    """A load shorter by less than this is not worth loading before the longest is filled. Chosen."""
    climbs: tuple[tuple[float, int], ...] = ((10.0, 6), (120.0, 3), (math.inf, 1))
    """(seconds that a prefill takes at most, how often one that passed after a failure is followed by a longer one).
    Chosen."""
    lost_failures: int = 3
    """How many of them may fail. Chosen."""
    severe_factor: float = 4.0
    """What a severe overshoot costs, in plain failures: a frozen machine takes the user's work with it. Chosen."""
    severe_limit: float = 0.02
    """A length this likely to be severe is never asked, whatever it promises."""
    most_share: float = 1.1
    """Nothing expected to take more than this share of the budget is asked, even after loads held against all odds."""
    cheap_load_s: float = 10.0
    """A load that takes no longer is spent as freely as the constants say; one that takes longer must gain as much
    more. The worlds' loads, by which those were chosen, take 3 to 30 seconds."""
    candidates: int = 20
    """Lengths weighed between safe and hopeless. Chosen for speed."""
    safe_chance: float = 0.995
    """Below the last length this likely to hold, a longer one is worth more: candidates begin here."""
    hopeless_chance: float = 0.02
    """Beyond the last length this likely to hold, nothing is worth asking: candidates end here."""
    unseen_share: float = 0.3
    """A reading with less of the context's memory than this did not see it: it is taken later, or elsewhere. Chosen."""
    judged_share: float = 0.05
    """How much of the budget a context must be predicted to take before a reading is judged so. Chosen."""
    missing_model_share: float = 0.2
    """A reading that lacks more than this of the model's size did not see its weights, as they are mapped. Chosen."""
    curve_knots: int = 160
    """Lengths at which the cost is asked beforehand, so that it never falls: 4 % apart from 1,024 to a million."""


BELIEF = BeliefConstants()
SEARCH = SearchConstants()
