"""What a search has observed, and which question follows: loads first where they prove something, else growing prompts.

Pure. Most backends take a context's memory when they load it: loads look for the limit, and one prefill proves it. A
lazy backend takes it as the prompt grows: one load, then prefills look for the limit. Which lengths are worth asking
about is not decided here but by the `choose` handed in: the length worth most above one, or None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmstrix.core.context.constants import SEARCH
from lmstrix.core.context.prior import BudgetReading, Evidence, LoadReading

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from lmstrix.core.context.constants import Appetite

    Choose = Callable[[int], int | None]

__all__ = ["EagerStrategy", "LazyStrategy", "Observations"]


@dataclass(slots=True, kw_only=True)
class Observations:
    """What happened so far, by context length; `remembered` held in an earlier test. The newest answer wins."""

    remembered: int | None = None
    loads: int = 0
    failures: int = 0
    loaded: set[int] = field(default_factory=set)
    prefilled: set[int] = field(default_factory=set)
    failed_loads: set[int] = field(default_factory=set)
    failed_prefills: set[int] = field(default_factory=set)
    fill_s: float = 0.0
    readings: list[LoadReading] = field(default_factory=list)
    budgets: list[BudgetReading] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The longest length whose prefill passed; 0 when none has."""
        return max(self.prefilled, default=0)

    @property
    def longest_loaded(self) -> int:
        """The longest that loads and may be filled; 0 when nothing is known to."""
        failed = min(self.failed_prefills, default=math.inf)
        return max((n for n in self.loaded if n < failed), default=0)

    @property
    def shortest_failure(self) -> int | None:
        return min(self.failed_loads | self.failed_prefills, default=None)

    def load_held(self, actual: int, usable: int) -> None:
        """A load gave `actual` tokens, of which the search may use `usable`."""
        self.loads += 1
        self.failed_loads = {bad for bad in self.failed_loads if bad > actual}
        self.loaded.add(usable)

    def load_failed(self, n: int) -> None:
        self.loads += 1
        self.failures += 1
        self.failed_loads.add(n)
        self.loaded = {good for good in self.loaded if good < n}

    def prefill_held(self, n: int) -> None:
        self.prefilled.add(n)
        self.failed_loads = {bad for bad in self.failed_loads if bad > n}
        # A longer one has held since: what failed below it failed by chance, or in another state of the machine.
        self.failed_prefills = {bad for bad in self.failed_prefills if bad > n}

    def prefill_failed(self, n: int) -> None:
        self.failures += 1
        self.failed_prefills.add(n)

    def evidence(self, loads: Collection[int]) -> Evidence:
        """The same for the belief, taking `loads` as lengths whose load proved that their memory is there."""
        return Evidence(
            readings=tuple(self.readings),
            budgets=tuple(self.budgets),
            held_load=max(loads, default=None),
            held_prefill=self.best or None,
            failed_load=min(self.failed_loads, default=None),
            failed_prefill=min(self.failed_prefills, default=None),
            remembered=self.remembered,
        )


class EagerStrategy:
    """Loads take the context's memory: they look for the limit, then the longest is filled."""

    lazy = False

    def __init__(self, seen: Observations) -> None:
        self._seen = seen
        self._climbs = 0

    @property
    def held(self) -> Collection[int]:
        """Lengths that were tried and held: once there is one, failures are cheaper."""
        return self._seen.loaded

    @property
    def proving_loads(self) -> Collection[int]:
        return self._seen.loaded

    def next_load(self, choose: Choose, _top: int, appetite: Appetite) -> int | None:
        lost = self._seen.failures > 0
        most_loads = max(appetite.max_loads, SEARCH.lost_loads if lost else 0)
        spent = self._seen.loads >= most_loads or self._seen.failures >= max(
            appetite.max_failures, SEARCH.lost_failures
        )
        # Ending with nothing costs more than one more failure.
        return None if spent and self._seen.longest_loaded else choose(self._seen.longest_loaded)

    def next_prefill(self, choose: Choose, appetite: Appetite) -> int | None:
        seen = self._seen
        if not seen.best:
            longest = seen.longest_loaded
            if longest and not seen.failures:
                return longest
            # After a failure, what can be filled is what the belief says: the longest load may be too near the edge.
            chosen = choose(0)
            if chosen is None:
                return longest or None
            chosen = min(chosen, max(seen.loaded, default=chosen))
            # The longest is in memory now: one a little shorter would have to be loaded.
            return longest if SEARCH.reload_ratio * longest <= chosen <= longest else chosen
        climbs = next(count for most_s, count in SEARCH.climbs if seen.fill_s <= most_s)
        may_climb = self._climbs < climbs and seen.failures <= SEARCH.lost_failures
        if not seen.failures or not (appetite.climbs_back or may_climb):
            return None
        # It passed below what failed: now between the two, while that is worth it.
        self._climbs += 1
        return choose(seen.best)

    def prefill_failed(self, n: int) -> None:
        """What loaded but cannot be filled is of no use: the search steps down below it."""
        self._seen.prefill_failed(n)


class LazyStrategy:
    """Only prefills take the context's memory: one load at the top, then a prompt that grows."""

    lazy = True

    def __init__(self, seen: Observations) -> None:
        self._seen = seen

    @property
    def held(self) -> Collection[int]:
        """Lengths that were tried and held: once there is one, failures are cheaper."""
        return self._seen.prefilled

    @property
    def proving_loads(self) -> Collection[int]:
        return ()

    def next_load(self, choose: Choose, top: int, _appetite: Appetite) -> int | None:
        # The length costs nothing yet, but the model itself must fit.
        return top if not self._seen.loads and choose(0) is not None else None

    def next_prefill(self, choose: Choose, _appetite: Appetite) -> int | None:
        return choose(self._seen.best) if self._seen.loaded else None

    def prefill_failed(self, n: int) -> None:
        """The load still serves shorter prompts, so it stays among what loaded."""
        self._seen.prefill_failed(n)
