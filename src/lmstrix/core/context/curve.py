"""The predicted cost of a load as a curve over context lengths, and the steps lengths are asked in. Pure."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from lmstrix.core.context.constants import SEARCH
from lmstrix.ground.context_lengths import ALIGNMENT_TOKENS, aligned_down

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CostCurve", "aligned_above", "aligned_below"]


class CostCurve:
    """The predicted cost as growth over the cost at the shortest length: never falling, whatever `cost` says.

    Between its knots the curve is `cost` itself, held up by the knot before it.
    """

    def __init__(
        self, cost: Callable[[int], int], floor: int, top: int, touched_later: Callable[[int], int] | None = None
    ) -> None:
        self._cost = cost
        self._touched_later = touched_later
        self.floor = low = max(1, floor)
        self.top = high = max(low, top)
        ratio = (high / low) ** (1 / SEARCH.curve_knots)
        knots = range(SEARCH.curve_knots)
        self._lengths = sorted({low, high} | {max(low, int(low * ratio**index)) for index in knots})
        self._heights: list[float] = []
        # A formula may dip where buffers change their layout; a belief about growth needs a curve that never falls.
        for length in self._lengths:
            self._heights.append(max(float(cost(length)), self._heights[-1] if self._heights else 0.0))
        # Never 0: the growth of an unknown budget is a ratio to it.
        self.fixed_bytes = max(1.0, self._heights[0])

    @property
    def growth_per_token(self) -> float:
        """On average over all lengths."""
        low, high = self._lengths[0], self._lengths[-1]
        return (self._heights[-1] - self._heights[0]) / (high - low) if high > low else 0.0

    def total(self, n: int) -> float:
        """Predicted bytes of a load of `n` tokens."""
        index = bisect_right(self._lengths, n) - 1
        return max(float(self._cost(max(1, n))), self._heights[index] if index >= 0 else 0.0)

    def growth(self, n: int) -> float:
        """Predicted bytes beyond the shortest length."""
        return max(0.0, self.total(n) - self.fixed_bytes)

    def touched_later(self, n: int) -> float:
        """Predicted bytes that a load of `n` tokens has not taken before it is filled."""
        return 0.0 if self._touched_later is None else float(self._touched_later(n))


def aligned_below(n: int) -> int:
    """The longest aligned length under `n`; within the first step, `n` - 1 itself."""
    return aligned_down(n - 1) or max(0, n - 1)


def aligned_above(n: int) -> int:
    """The shortest aligned length over `n`."""
    return aligned_down(n) + ALIGNMENT_TOKENS
