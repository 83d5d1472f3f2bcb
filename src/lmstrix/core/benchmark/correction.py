"""Many figures are compared at once, and one of them differs by chance soon enough: Holm's correction. Pure.

S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979. The k-th
smallest of m p-values is multiplied by m - k + 1 and is at least as large as those before it. Then the chance of any
false alarm among all m is at most the level that each is held against, however the figures depend on each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected, in the order they came."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for done, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - done)))
        corrected[place] = highest
    return corrected
