"""The search for the longest context that loads and prefills: ask, observe, ask again. Pure: no clock, no I/O.

Every question goes to the belief (belief.py). A candidate length n is worth

    holds(n) * (n - best) / likely - price * (1 - holds(n) + 4 * severe(n)) - effort

where `likely` is the length that holds with even odds, `severe` the chance of going more than 10 % over the budget
(what freezes machines), `price` what a failing load costs in units of that length, and `effort` the least gain worth a load.
The best candidate is asked while it is worth more than nothing; when not even the floor has a fair chance, nothing is.

Traded away: one step is planned at a time. The first load is asked more carefully than the rest instead, because the
memory reading it brings is worth more than the few percent it leaves.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from lmstrix.core.context.belief import Belief, Evidence, Prior, Reading
from lmstrix.core.context.machine_belief import MachineBelief
from lmstrix.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ContextSearch", "Precision"]

Precision = Literal["safe", "balanced", "tight", "exhaustive"]

STEP = 256
"""llama.cpp allocates cells in steps of this; so we ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Appetite:
    """What a precision is willing to pay.

    `price` of a failing load and `effort` of any load, as shares of the likely limit; `first_price` while nothing has
    been read yet; `give_up_risk` of the floor failing at which nothing is tried; caps on loads and failures.
    """

    price: float
    first_price: float
    effort: float
    give_up_risk: float
    max_loads: int
    max_failures: int


_APPETITES: Mapping[Precision, _Appetite] = {
    "safe": _Appetite(price=3.0, first_price=6.0, effort=0.03, give_up_risk=0.5, max_loads=5, max_failures=2),
    "balanced": _Appetite(price=0.5, first_price=2.0, effort=0.03, give_up_risk=0.93, max_loads=6, max_failures=3),
    "tight": _Appetite(price=0.12, first_price=1.0, effort=0.015, give_up_risk=0.93, max_loads=8, max_failures=4),
    "exhaustive": _Appetite(price=0.01, first_price=0.5, effort=0.0, give_up_risk=0.97, max_loads=24, max_failures=8),
}
_SEVERE_FACTOR = 4.0
_SEVERE_LIMIT = 0.02
"""A length this likely to be severe is never asked, whatever it promises."""


class ContextSearch:
    """Finds the longest context length that loads and prefills within a memory budget.

    `cost` predicts the bytes a load takes; it may be wrong (`approximate` says that it is a guess). `budget_bytes` is
    what models may take; None when nobody knows. `learned` is what `learned()` of an earlier search on this machine
    returned. `known_good` and `known_bad` are lengths remembered from earlier tests: the bad one is never reached.

    Loads come first, then prefills: `next_load` and `next_prefill` say what to try until they say None, and the
    `observe_` methods take what happened. Only evidence about memory belongs in `observe_failed`.
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
    ) -> None:
        self.seed = seed
        self.refused: str | None = None
        self.best = 0
        self._appetite = _APPETITES[precision]
        self._architecture = architecture
        self._machine = learned or MachineBelief()
        self._top = declared if ceiling is None else min(declared, ceiling)
        if known_bad is not None and known_bad <= self._top:
            self._top = _aligned_below(known_bad)
        self._floor = min(-(-max(1, floor) // STEP) * STEP, self._top)
        self._curve = _Curve(cost, self._floor, self._top)
        budget_known = budget_bytes is not None
        self._prior = Prior.of(
            fixed_bytes=self._curve.fixed_bytes,
            budget_bytes=max(1.0, float(budget_bytes if budget_bytes is not None else self._curve.total(self._top))),
            architecture=architecture,
            machine=self._machine,
            approximate=approximate,
            budget_known=budget_known,
        )
        self._readings: list[tuple[int, Reading]] = []
        self._loaded: set[int] = set()
        self._prefilled: set[int] = set()
        self._failed_loads: set[int] = set()
        self._failed_prefills: set[int] = set()
        self._loads = self._failures = 0
        self._known_good = known_good
        self._belief: Belief | None = None
        self._loading = True

    # --- what to try -------------------------------------------------------------------------------------------------

    def next_load(self) -> int | None:
        """The next length to load, or None when no load is worth its risk any more."""
        if not self._loading or self.refused:
            return None
        chosen = self._choose(above=max(self._loaded, default=0))
        if chosen is None:
            self._loading = False
            if not self._loads:
                self.refused = self._shortfall()
        return chosen

    def next_prefill(self) -> int | None:
        """The next length to prefill: the longest that loaded; after a failure what the belief says. None: done."""
        self._loading = False
        if self.best or self.refused:
            return None
        below = min(self._failed_prefills, default=self._top + 1)
        if not self._failed_prefills:
            return max(self._loaded, default=None)
        if len(self._failed_prefills) > self._appetite.max_loads:
            return None
        return self._choose(above=0, below=below, price=max(self._appetite.price, 0.5))

    def _choose(self, *, above: int, below: int | None = None, price: float | None = None) -> int | None:
        """The candidate above `above` and under `below` and every failure that is worth most, None if none is."""
        appetite = self._appetite
        if below is None and (self._loads >= appetite.max_loads or self._failures >= appetite.max_failures):
            return None
        bad = min([*self._failed_loads, *self._failed_prefills, self._top + 1 if below is None else below])
        top = self._top if bad > self._top else _aligned_below(bad)
        low = max(self._floor, _aligned_above(above))
        if low > top:
            return None
        belief = self._believe()
        if price is None:
            price = appetite.price if self._loaded else appetite.first_price
        candidates = self._curve.spread(low, top)
        odds = [belief.holds(self._curve.growth(n)) for n in candidates]
        likely = _likely(candidates, odds)
        if not above and 1 - odds[0] > appetite.give_up_risk:
            return None

        def worth(n: int, holds: float) -> float:
            severe = belief.severe(self._curve.growth(n))
            if severe > _SEVERE_LIMIT:
                return -1.0
            return holds * (n - above) / likely - price * (1 - holds + _SEVERE_FACTOR * severe)

        def value(n: int) -> float:
            return worth(n, belief.holds(self._curve.growth(n)))

        values = [worth(n, holds) for n, holds in zip(candidates, odds, strict=True)]
        index = max(range(len(candidates)), key=values.__getitem__)
        best, best_value = candidates[index], values[index]
        around = candidates[max(0, index - 1) : index + 2]
        for left, right in pairwise(around):
            for part in (1, 2, 3):
                n = _aligned_below(left + (right - left) * part // 4 + 1)
                if left < n < right and (found := value(n)) > best_value:
                    best, best_value = n, found
        if best_value > appetite.effort:
            return best
        return candidates[0] if not above else None

    def _shortfall(self) -> str:
        """Why nothing was tried, with the numbers."""
        if self._top < 1:
            return "no context length is left to try: every one is known to fail"
        needed = self._believe().expected_bytes(0.0)
        available = self._prior.budget_bytes
        return (
            f"{self._floor} tokens need about {format_bytes(needed)} and {format_bytes(available)} are available: "
            f"about {format_bytes(max(0.0, needed - available))} short"
        )

    # --- what happened -----------------------------------------------------------------------------------------------

    def observe_loaded(self, n: int, *, context_length: int | None = None, memory_bytes: int | None = None) -> None:
        """`n` was asked and loaded with `context_length` tokens, the model then taking `memory_bytes`."""
        actual = n if context_length is None else context_length
        self._loads += 1
        self._failed_loads = {bad for bad in self._failed_loads if bad > actual}
        if actual < n:  # the server caps what it gives: more cannot be had
            self._top = max(1, actual)
            self._floor = min(self._floor, self._top)
        self._loaded.add(min(actual, self._top))
        self._note_reading(actual, memory_bytes, filled=False)

    def observe_failed(self, n: int) -> None:
        """Loading `n` failed for lack of memory."""
        self._loads += 1
        self._failures += 1
        self._failed_loads.add(n)
        self._loaded = {good for good in self._loaded if good < n}
        self._belief = None

    def observe_prefilled(self, n: int, *, ok: bool, memory_bytes: int | None = None) -> None:
        """A prompt filling all of `n` passed, or failed for lack of memory."""
        if ok:
            self._prefilled.add(n)
            self._loaded.add(n)
            self.best = max(self.best, n)
            self._failed_prefills = {bad for bad in self._failed_prefills if bad > n}
            self._note_reading(n, memory_bytes, filled=True)
        else:
            self._failed_prefills.add(n)
            self._loaded = {good for good in self._loaded if good < n}
            self._belief = None

    def learned(self) -> MachineBelief:
        """What this model and those before it taught about the machine: pass it to the next search."""
        if not self._readings:
            return self._machine
        return self._believe().taught(self._machine, self._architecture)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _note_reading(self, n: int, memory_bytes: int | None, *, filled: bool) -> None:
        self._belief = None
        plausible = 0.8 * self._prior.fixed_bytes
        if memory_bytes is not None and memory_bytes >= plausible:
            self._readings.append((n, Reading(self._curve.growth(n), float(memory_bytes), filled)))

    def _believe(self) -> Belief:
        if self._belief is None:
            growth = self._curve.growth
            evidence = Evidence(
                readings=[reading for _, reading in self._readings],
                held_load=max(map(growth, self._loaded), default=None),
                held_prefill=max(map(growth, self._prefilled), default=None),
                failed_load=min(map(growth, self._failed_loads), default=None),
                failed_prefill=min(map(growth, self._failed_prefills), default=None),
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
        low = max(1, min(floor, top))
        ratio = (max(low, top) / low) ** (1 / self._KNOTS)
        lengths = {low, max(low, top)} | {max(low, _aligned_below(int(low * ratio**i) + 1)) for i in range(self._KNOTS)}
        self._lengths = sorted(lengths)
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

    def spread(self, low: int, top: int, count: int = 32) -> list[int]:
        """Lengths from `low` to `top` to choose from, aligned except `top` itself, in even ratios."""
        ratio = (top / low) ** (1 / count)
        return sorted({low, top} | {max(low, _aligned_below(int(low * ratio**i) + 1)) for i in range(1, count)})


def _likely(candidates: list[int], odds: list[float]) -> int:
    """The longest candidate with even odds."""
    return max((n for n, holds in zip(candidates, odds, strict=True) if holds >= 0.5), default=candidates[0])


def _aligned_below(n: int) -> int:
    """The longest aligned length under `n`; under the first step, `n` - 1 itself."""
    return (n - 1) // STEP * STEP or max(0, n - 1)


def _aligned_above(n: int) -> int:
    """The shortest aligned length over `n`."""
    return (n // STEP + 1) * STEP
