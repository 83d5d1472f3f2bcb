"""What a search has observed, and which question follows: loads first where they prove something, else growing prompts.

Pure. Most backends take a context's memory when they load it: loads look for the limit, and one prefill proves it. A
lazy backend takes it as the prompt grows: one load, then prefills look for the limit. Which lengths are worth asking
about is not decided here but by the `choose` handed in: the length worth most above one, or None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmstrix.core.context.prior import Evidence, LoadReading

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
    readings: list[LoadReading] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The longest length whose prefill passed; 0 when none has."""
        return max(self.prefilled, default=0)

    @property
    def longest_loaded(self) -> int:
        """0 when nothing is known to load."""
        return max(self.loaded, default=0)

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

    def evidence(self, growth: Callable[[int], float], loads: Collection[int]) -> Evidence:
        """The same in bytes of growth, taking `loads` as lengths whose load proved that their memory is there."""
        failed = min(map(growth, self.failed_loads | self.failed_prefills), default=math.inf)
        # A length that held and one that failed may cost the same by the formula: then only the failure counts.
        held = [grown for grown in map(growth, loads) if grown < failed]
        filled = [grown for grown in map(growth, self.prefilled) if grown < failed]
        return Evidence(
            readings=tuple(self.readings),
            held_load=max(held, default=None),
            held_prefill=max(filled, default=None),
            failed_load=min(map(growth, self.failed_loads), default=None),
            failed_prefill=min(map(growth, self.failed_prefills), default=None),
            remembered=None if self.remembered is None else growth(self.remembered),
        )


class EagerStrategy:
    """Loads take the context's memory: they look for the limit, then the longest is filled."""

    lazy = False

    def __init__(self, seen: Observations, appetite: Appetite) -> None:
        self._seen = seen
        self._appetite = appetite

    @property
    def held(self) -> Collection[int]:
        """Lengths that were tried and held: once there is one, failures are cheaper."""
        return self._seen.loaded

    @property
    def proving_loads(self) -> Collection[int]:
        return self._seen.loaded

    def next_load(self, choose: Choose, _top: int) -> int | None:
        if self._seen.loads >= self._appetite.max_loads or self._seen.failures >= self._appetite.max_failures:
            return None
        return choose(self._seen.longest_loaded)

    def next_prefill(self, choose: Choose) -> int | None:
        seen = self._seen
        if not seen.failed_prefills:
            return None if seen.best else seen.longest_loaded or None
        # Having passed below a failure is the end, unless the gap between the two is worth more prefills.
        return choose(seen.best) if self._appetite.climbs_back or not seen.best else None

    def prefill_failed(self, n: int) -> None:
        """What loaded but cannot be filled is of no use: the search steps down below it."""
        self._seen.prefill_failed(n)
        self._seen.loaded = {good for good in self._seen.loaded if good < n}


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

    def next_load(self, choose: Choose, top: int) -> int | None:
        # The length costs nothing yet, but the model itself must fit.
        return top if not self._seen.loads and choose(0) is not None else None

    def next_prefill(self, choose: Choose) -> int | None:
        return choose(self._seen.best) if self._seen.loaded else None

    def prefill_failed(self, n: int) -> None:
        """The load still serves shorter prompts, so it stays among what loaded."""
        self._seen.prefill_failed(n)
