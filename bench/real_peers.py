"""Context searches that know nothing of memory, to compare with on real loads: they are told only what held.

Each yields a length to load and fill, is sent whether that held, and returns the length it would report, 0 for none.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from lmstrix.ground.context_lengths import FLOOR_TOKENS, aligned_down

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Asking = Generator[int, bool, int]

_SHRINK = 0.4
"""After a failing load nothing is known but that it was too long."""
_CLOSE_RATIO = 1.15


def multi_step(declared: int) -> Asking:
    """LMStrix 1.0.84 as documented: 1,024, then 102,400 or what is declared, then up by 10,240 or bisection down."""
    shortest, n = min(1024, declared), min(102_400, declared)
    if not (yield shortest):
        return 0
    good = shortest
    while (yield n):
        good = n
        if n == declared:
            return declared
        n = min(n + 10_240, declared)
    return (yield from _bisect(good, n, lambda good, bad: bad - good <= 1024))


def bisection(declared: int) -> Asking:
    """Between nothing and the declared length, to 1 % or 256 tokens."""
    return (yield from _bisect(0, declared + 1, lambda good, bad: bad - good <= max(256, good // 100)))


def shrink_and_bisect(start: int) -> Asking:
    """From where the formula puts the limit: 0.4 times that after a failure, then bisection in log space to 15 %.

    It believes a length that held at once, so it finds nothing beyond a budget that is read too low.
    """
    good, bad, n = 0, 0, start
    while not (yield n):
        if n <= FLOOR_TOKENS:
            return 0
        bad, n = n, max(FLOOR_TOKENS, aligned_down(int(_SHRINK * n)))
    good = n
    while bad > _CLOSE_RATIO * good:
        middle = aligned_down(isqrt(good * bad))
        if middle <= good:
            break
        good, bad = (middle, bad) if (yield middle) else (good, middle)
    return good


def _bisect(good: int, bad: int, done: Callable[[int, int], bool]) -> Asking:
    while not done(good, bad) and bad > 512:
        middle = max(512, (good + bad) // 2)
        good, bad = (middle, bad) if (yield middle) else (good, middle)
    return good
