"""The search for the longest context that loads and prefills: ask, observe, ask again. Pure: no clock, no I/O.

Every question goes to the belief (belief.py). A candidate length n is worth

    holds(n) * (n - best) / likely - price * (1 - holds(n) + 4 * severe(n))

where `likely` is the length that holds with even odds, `severe` the chance of going more than 10 % over the budget
(what freezes machines) and `price` what a failure costs in units of `likely`. The candidate worth most, of those that
risk no more than `max_risk` and are expected to take no more than 1.1 times the budget, is asked while it is worth more
than the `effort` of a load; when not even the floor has a fair chance, nothing is asked at all.

Traded away: one step is planned at a time. Instead, the first load is asked at a higher price than the others: the
memory reading it brings is worth more than the few percent it leaves for the next.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.core.context.belief import Belief, Evidence, Prior, Reading
from lmstrix.core.context.machine_belief import MachineBelief
from lmstrix.ground.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lmstrix.ground.choices import Precision

__all__ = ["ContextSearch"]

STEP = 256
"""llama.cpp allocates cells in steps of this; so we ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Appetite:
    """What a precision is willing to pay.

    `price` of a failure and `effort` of a load are shares of the likely limit; `first_price` holds while nothing has
    loaded yet. `max_risk` of failing is taken once something has; the floor is tried unless it fails with more than
    `give_up_risk`. One that `climbs_back` goes on between a prefill that passed and one that failed before.
    """

    price: float
    first_price: float
    effort: float
    max_risk: float
    give_up_risk: float
    max_loads: int
    max_failures: int
    climbs_back: bool = False


_APPETITES: Mapping[Precision, _Appetite] = {
    "safe": _Appetite(
        price=2.0, first_price=6.0, effort=0.02, max_risk=0.03, give_up_risk=0.5, max_loads=5, max_failures=2
    ),
    "balanced": _Appetite(
        price=0.25, first_price=4.0, effort=0.012, max_risk=0.09, give_up_risk=0.93, max_loads=6, max_failures=3
    ),
    "tight": _Appetite(
        price=0.1, first_price=2.0, effort=0.01, max_risk=0.3, give_up_risk=0.93, max_loads=8, max_failures=4
    ),
    "exhaustive": _Appetite(
        price=0.002,
        first_price=1.0,
        effort=0.0,
        max_risk=1.0,
        give_up_risk=0.93,
        max_loads=24,
        max_failures=8,
        climbs_back=True,
    ),
}


def _without_budget(appetite: _Appetite) -> _Appetite:
    """Bolder: with no budget to go by, only loads that fail show where the edge is."""
    return replace(appetite, first_price=1.0, max_risk=0.4, max_loads=max(10, appetite.max_loads))


_SEVERE_FACTOR = 4.0
_SEVERE_LIMIT = 0.02
"""A length this likely to be severe is never asked, whatever it promises."""
_MOST_SHARE = 1.1
"""Nothing expected to take more than this share of the budget is asked, even after loads that held against all odds."""
_CANDIDATES = 20
_UNSEEN_SHARE = 0.3
"""A reading with less of the context's memory than this did not see it: the backend takes it later, or elsewhere."""
_JUDGED_SHARE = 0.05
"""How much of the budget a context must be predicted to take before a reading is judged so."""


class ContextSearch:
    """Finds the longest context length that loads and prefills within a memory budget.

    `cost` predicts the bytes a load takes and may be wrong; `approximate` says that it is a guess. `budget_bytes` is
    what models may take, None when nobody knows. `learned` is what `learned()` of the previous search on this machine
    returned. `known_good` and `known_bad` are lengths remembered from earlier tests; the bad one is never reached.
    `lazy` is for backends that take the cache only as the prompt grows: one load, then growing prefills.
    `seed` changes nothing: the belief is computed, not sampled, and equal evidence gives equal questions.

    Loads come first, then prefills: `next_load` and `next_prefill` say what to try until they say None, and the
    `observe_` methods take what happened. Only evidence about memory belongs in them.
    """

    def __init__(
        self,
        *,
        cost: Callable[[int], int],
        declared: int,
        budget_bytes: int | None,
        architecture: str = "",
        floor: int = 1024,
        ceiling: int | None = None,
        precision: Precision = "balanced",
        seed: int = 0,
        learned: MachineBelief | None = None,
        known_good: int | None = None,
        known_bad: int | None = None,
        approximate: bool = False,
        lazy: bool = False,
    ) -> None:
        self.seed = seed
        self.best = 0
        self.refused: str | None = None
        self._appetite = _APPETITES[precision]
        if budget_bytes is None:
            self._appetite = _without_budget(self._appetite)
        self._architecture = architecture
        self._machine = learned or MachineBelief()
        self._lazy = lazy
        self._top = declared if ceiling is None else min(declared, ceiling)
        if known_bad is not None and known_bad <= self._top:
            self._top = _aligned_below(known_bad)
        self._floor = min(-(-max(1, floor) // STEP) * STEP, self._top)
        self._curve = _Curve(cost, self._floor, self._top)
        self._remembered = None if known_good is None else min(known_good, self._top)
        self._prior = Prior.of(
            fixed_bytes=self._curve.fixed_bytes,
            budget_bytes=float(budget_bytes) if budget_bytes is not None else self._curve.total(self._top),
            budget_known=budget_bytes is not None,
            architecture=architecture,
            machine=self._machine,
            approximate=approximate,
        )
        self._readings: list[Reading] = []
        self._loaded: set[int] = set()
        self._prefilled: set[int] = set()
        self._failed_loads: set[int] = set()
        self._failed_prefills: set[int] = set()
        self._loads = self._failures = 0
        self._loading = True
        self._belief: Belief | None = None

    @property
    def lazy(self) -> bool:
        """Whether prefills grow on one load: the backend takes the cache with the prompt, as said or as noticed."""
        return self._lazy

    def risk(self, n: int) -> float:
        """How likely a load of `n` tokens is to fail, 0..1, by what is believed now."""
        return 1.0 - self._believe().holds(self._curve.growth(n))

    # What to try

    def next_load(self) -> int | None:
        """The next length to load, or None when no load is worth its risk any more."""
        if not self._loading:
            return None
        chosen = self._next_load()
        self._loading = chosen is not None
        if chosen is None and not self._loads:
            self.refused = self._shortfall()
        return chosen

    def _next_load(self) -> int | None:
        appetite = self._appetite
        if self._lazy:  # the length costs nothing yet, but the model itself must fit
            return self._top if not self._loads and self._choose(above=0) is not None else None
        if self._loads >= appetite.max_loads or self._failures >= appetite.max_failures:
            return None
        return self._choose(above=max(self._loaded, default=0))

    def next_prefill(self) -> int | None:
        """The next length to prefill: the longest that loaded, after a failure what the belief says. None: done.

        On a lazy backend lengths grow from one the belief calls safe, until no more is worth its risk.
        """
        self._loading = False
        if self.refused or not self._loads or len(self._failed_prefills) >= self._appetite.max_loads:
            return None
        if self._lazy:
            return self._choose(above=self.best) if self._loaded else None
        if not self._failed_prefills:
            return None if self.best else max(self._loaded, default=None)
        return self._choose(above=self.best) if self._appetite.climbs_back or not self.best else None

    def _choose(self, *, above: int) -> int | None:
        """The length over `above` and under every failure that is worth most, or None when none is worth its effort."""
        top = self._top
        if failed := self._failed_loads | self._failed_prefills:
            top = min(top, _aligned_below(min(failed)))
        low = max(self._floor, _aligned_above(above)) if above else self._floor
        if self._top > above >= top - STEP and not failed:
            low = top  # the last step up to a top that is not aligned
        if not 0 < low <= top:
            return None
        belief, appetite = self._believe(), self._appetite
        held = self._prefilled if self._lazy else self._loaded
        most_bytes = _MOST_SHARE * self._prior.budget_bytes
        chosen, worth = _most_worth(
            belief,
            self._curve,
            low=low,
            top=top,
            above=above,
            price=appetite.price if held or failed else appetite.first_price,
            max_risk=appetite.max_risk if above else 1.0,
            most_bytes=most_bytes,
        )
        if worth > appetite.effort:
            return chosen
        if above:
            return None
        growth = self._curve.growth(low)
        sane = belief.expected_bytes(growth) <= most_bytes and belief.severe(growth) <= _SEVERE_LIMIT
        return low if sane and belief.holds(growth) >= 1 - appetite.give_up_risk else None

    def _shortfall(self) -> str:
        """Why nothing was tried, with the numbers."""
        if self._top < 1:
            return "no context length is left to try: even the shortest is known to fail"
        needed, available = self._believe().expected_bytes(0.0), self._prior.budget_bytes
        short = f"about {format_bytes(needed - available)} short" if needed > available else "too close to try"
        return (
            f"{self._floor} tokens need about {format_bytes(needed)} of memory and {format_bytes(available)} are "
            f"available: {short}"
        )

    # What happened

    def observe_loaded(self, n: int, *, context_length: int | None = None, memory_bytes: int | None = None) -> None:
        """`n` was asked and loaded, with `context_length` tokens (`n` unless said); the model takes `memory_bytes`."""
        actual = n if context_length is None else context_length
        self._loads += 1
        self._belief = None
        self._failed_loads = {bad for bad in self._failed_loads if bad > actual}
        if actual < n:  # the server gives no more than this, whatever is asked
            self._top = max(1, min(self._top, actual))
            self._floor = min(self._floor, self._top)
        self._loaded.add(min(actual, self._top))
        if memory_bytes is None or self._lazy:
            return
        growth = self._curve.growth(actual)
        if not self._unseen(growth, memory_bytes):
            self._readings.append(Reading(growth, float(memory_bytes)))
        elif growth > _JUDGED_SHARE * self._prior.budget_bytes:  # loads prove nothing here: stay with this one
            self._lazy, self._loading, self._top = True, False, max(self._loaded)

    def observe_failed(self, n: int) -> None:
        """Loading `n` failed for lack of memory."""
        self._loads += 1
        self._failures += 1
        self._belief = None
        self._failed_loads.add(n)
        self._loaded = {good for good in self._loaded if good < n}

    def observe_prefilled(self, n: int, *, ok: bool, memory_bytes: int | None = None) -> None:
        """A prompt that fills `n` passed, the model then taking `memory_bytes`; or it failed for lack of memory."""
        self._belief = None
        if not ok:
            self._failures += 1
            self._failed_prefills.add(n)
            self._loaded = {good for good in self._loaded if good < n or self._lazy}
            return
        self.best = max(self.best, n)
        self._prefilled.add(n)
        self._failed_loads = {bad for bad in self._failed_loads if bad > n}
        self._failed_prefills = {bad for bad in self._failed_prefills if bad > n}
        growth = self._curve.growth(n)
        if memory_bytes is not None and not self._unseen(growth, memory_bytes):
            self._readings.append(Reading(growth, float(memory_bytes), filled=True))

    def learned(self) -> MachineBelief:
        """What this model and those before it taught about the machine: for the next search, and to be kept."""
        return self._believe().taught(self._machine, self._architecture) if self._readings else self._machine

    # Inside

    def _unseen(self, growth: float, memory_bytes: float) -> bool:
        """Whether the reading lacks the model, or most of a context too large to overlook."""
        beyond = memory_bytes - self._prior.fixed_bytes
        return beyond < -0.2 * self._prior.fixed_bytes or (
            growth > _JUDGED_SHARE * self._prior.budget_bytes and beyond < _UNSEEN_SHARE * growth - 0.01 * memory_bytes
        )

    def _believe(self) -> Belief:
        if self._belief is None:
            growth = self._curve.growth
            failed = min(map(growth, self._failed_loads | self._failed_prefills), default=math.inf)
            # A length that held and one that failed may cost the same by the formula: then only the failure counts.
            held = [] if self._lazy else [growth(n) for n in self._loaded if growth(n) < failed]
            filled = [growth(n) for n in self._prefilled if growth(n) < failed]
            evidence = Evidence(
                readings=self._readings,
                held_load=max(held, default=None),
                held_prefill=max(filled, default=None),
                failed_load=min(map(growth, self._failed_loads), default=None),
                failed_prefill=min(map(growth, self._failed_prefills), default=None),
                remembered=None if self._remembered is None else growth(self._remembered),
            )
            self._belief = Belief(self._prior, evidence)
        return self._belief


class _Curve:
    """The predicted cost as growth over the cost at the shortest length: never falling, whatever `cost` says.

    Between its knots the curve is `cost` itself, held up by the knot before it.
    """

    _KNOTS = 160

    def __init__(self, cost: Callable[[int], int], floor: int, top: int) -> None:
        self._cost = cost
        low = max(1, floor)
        high = max(low, top)
        ratio = (high / low) ** (1 / self._KNOTS)
        self._lengths = sorted({low, high} | {max(low, int(low * ratio**index)) for index in range(self._KNOTS)})
        self._heights: list[float] = []
        for length in self._lengths:
            self._heights.append(max(float(cost(length)), self._heights[-1] if self._heights else 0.0))
        self.fixed_bytes = max(1.0, self._heights[0])

    def total(self, n: int) -> float:
        """Predicted bytes of a load of `n` tokens."""
        index = bisect_right(self._lengths, n) - 1
        return max(float(self._cost(max(1, n))), self._heights[index] if index >= 0 else 0.0)

    def growth(self, n: int) -> float:
        """Predicted bytes beyond the shortest length."""
        return max(0.0, self.total(n) - self.fixed_bytes)


def _most_worth(
    belief: Belief, curve: _Curve, *, low: int, top: int, above: int, price: float, max_risk: float, most_bytes: float
) -> tuple[int, float]:
    """The candidate in [low, top] that is worth most, and its worth; `low` and minus infinity if all risk too much.

    Candidates are aligned, unless they are `low` or `top` itself, and spread where the odds turn from safe to hopeless.
    """

    def holds(n: int) -> float:
        return belief.holds(curve.growth(n))

    safe = _last(low, top, lambda n: holds(n) > 0.995)
    hopeless = _last(safe, top, lambda n: holds(n) > 0.02)
    between = (safe + (hopeless - safe) * part // _CANDIDATES // STEP * STEP for part in range(1, _CANDIDATES))
    odds = {n: holds(n) for n in sorted({low, safe, hopeless, *between})}
    likely = max((n for n, chance in odds.items() if chance >= 0.5), default=low)
    best, best_worth = low, -math.inf
    for n, chance in odds.items():
        worth = chance * (n - above) / likely - price * (1 - chance)
        if 1 - chance > max_risk or worth <= best_worth:
            continue
        if belief.expected_bytes(curve.growth(n)) > most_bytes:
            break
        severe = belief.severe(curve.growth(n))
        worth -= price * _SEVERE_FACTOR * severe
        if severe <= _SEVERE_LIMIT and worth > best_worth:
            best, best_worth = n, worth
    return best, best_worth


def _last(low: int, top: int, true_of: Callable[[int], bool]) -> int:
    """About the last length in [low, top] that `true_of` holds for, given that it turns false once on the way up."""
    if true_of(top):
        return top
    good, bad = low, top
    while bad > good + good // 50 + STEP:
        middle = max(_aligned_above(good), math.isqrt(good * bad) // STEP * STEP)
        good, bad = (middle, bad) if true_of(middle) else (good, middle)
    return good


def _aligned_below(n: int) -> int:
    """The longest aligned length under `n`; within the first step, `n` - 1 itself."""
    return (n - 1) // STEP * STEP or max(0, n - 1)


def _aligned_above(n: int) -> int:
    """The shortest aligned length over `n`."""
    return (n // STEP + 1) * STEP
