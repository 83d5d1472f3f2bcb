"""Which length of a range is most worth trying: candidates, their odds, and their worth. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.context.constants import SEARCH
from lmstrix.core.context.curve import aligned_above, aligned_below
from lmstrix.ground.context_lengths import ALIGNMENT_TOKENS, aligned_down

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.context.belief import Belief

__all__ = ["LengthRange", "Limits", "Span", "longest_at_risk", "most_worth"]


class LengthRange(NamedTuple):
    """Lengths from `low` to `top`, both included."""

    low: int
    top: int


class Limits(NamedTuple):
    """What a candidate may cost: `price` of a failure, `max_risk` of failing, `most_bytes` it is expected to take."""

    price: float
    max_risk: float
    most_bytes: float


class WeighedLength(NamedTuple):
    """A length and its worth, minus infinity when it breaks a limit."""

    length: int
    worth: float


@dataclass(slots=True)
class Span:
    """The lengths a search may ask at all."""

    floor: int
    top: int

    def cap(self, longest: int) -> None:
        """The server gives no more than `longest`, whatever is asked."""
        self.top = max(1, min(self.top, longest))
        self.floor = min(self.floor, self.top)

    def left(self, *, above: int, shortest_failure: int | None) -> LengthRange | None:
        """What is left over `above` and under what failed; None when nothing is."""
        top = self.top if shortest_failure is None else min(self.top, aligned_below(shortest_failure))
        low = max(self.floor, aligned_above(above)) if above else self.floor
        if self.top > above >= top - ALIGNMENT_TOKENS and shortest_failure is None:
            low = top  # the last step up to a top that is not aligned
        return LengthRange(low, top) if 0 < low <= top else None


def most_worth(belief: Belief, lengths: LengthRange, *, above: int, limits: Limits) -> WeighedLength:
    """The candidate above `above` that is worth most; the lowest one, with no worth, if all break a limit.

    Candidates are aligned, unless they are an end of the range, and spread where the odds turn from safe to hopeless.
    """
    low, top = lengths

    safe = _last(low, top, lambda n: belief.holds(n) > SEARCH.safe_chance)
    hopeless = _last(safe, top, lambda n: belief.holds(n) > SEARCH.hopeless_chance)
    count = SEARCH.candidates
    between = (safe + aligned_down((hopeless - safe) * part // count) for part in range(1, count))
    odds = {n: belief.holds(n) for n in sorted({low, safe, hopeless, *between})}
    # Gains are measured against the likely limit, so that prices mean the same for a model of 8k and one of 1M.
    likely = max((n for n, chance in odds.items() if chance >= 0.5), default=low)
    best = WeighedLength(low, -math.inf)
    for n, chance in odds.items():
        worth = chance * (n - above) / likely - limits.price * (1 - chance)
        if 1 - chance > limits.max_risk or worth <= best.worth:
            continue
        if belief.expected_bytes(n) > limits.most_bytes:
            break  # the curve never falls: what follows takes more still
        severe = belief.severe(n)
        worth -= limits.price * SEARCH.severe_factor * severe
        if severe <= SEARCH.severe_limit and worth > best.worth:
            best = WeighedLength(n, worth)
    return best


def longest_at_risk(belief: Belief, lengths: LengthRange, risk: float) -> int:
    """The longest aligned length that fails, loaded and filled, with no more than `risk`; else the lowest."""

    def safe(n: int) -> bool:
        return belief.holds(n) >= 1 - risk

    low, top = lengths
    good, bad = low, top + 1
    while aligned_above(good) < bad:
        middle = max(aligned_above(good), aligned_down((good + bad) // 2))
        good, bad = (middle, bad) if safe(middle) else (good, middle)
    return top if safe(top) else good


def _last(low: int, top: int, true_of: Callable[[int], bool]) -> int:
    """About the last length in [low, top] that `true_of` holds for, given that it turns false once on the way up."""
    if true_of(top):
        return top
    good, bad = low, top
    # Two percent is near enough: it only says where candidates are spread, and each step costs a sum over the belief.
    while bad > good + good // 50 + ALIGNMENT_TOKENS:
        middle = max(aligned_above(good), aligned_down(math.isqrt(good * bad)))
        good, bad = (middle, bad) if true_of(middle) else (good, middle)
    return good
