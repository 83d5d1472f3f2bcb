"""The context lengths, in tokens, that several parts must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ALIGNMENT_TOKENS = 256
"""llama.cpp rounds the cells of a cache up to a multiple of this, so a length between costs as much as the next."""
FLOOR_TOKENS = 1024
"""A context test looks for no shorter limit: less than this serves no real prompt."""
UNKNOWN_DECLARED_TOKENS = 4096
"""Taken for the declared length of a model that declares none."""
UNTESTED_CONTEXT_LENGTH = 4096
"""What an untested model is loaded at, because its declared length may not fit into memory."""
SERVER_DEFAULT_CONTEXT_LENGTH = 4096
"""What the engine loads at when a client names no length, as LM Studio does."""


def aligned_down(tokens: int) -> int:
    """The longest aligned length up to `tokens`."""
    return tokens // ALIGNMENT_TOKENS * ALIGNMENT_TOKENS


def aligned_up(tokens: int) -> int:
    """The shortest aligned length that holds `tokens`."""
    return -(-tokens // ALIGNMENT_TOKENS) * ALIGNMENT_TOKENS


def keeps_asked(asked: int, given: int) -> bool:
    """Whether a load that got `given` tokens has what was asked; up to one step more is how servers round."""
    return 0 <= given - asked < ALIGNMENT_TOKENS


def longest_aligned_below(ceiling: int, fits: Callable[[int], bool]) -> int:
    """The longest aligned length under `ceiling` that `fits`, by bisection; 0 when none does.

    Once `fits` is false for a length, it must be false for all longer ones. `ceiling` itself is not tried.
    """
    good, bad = 0, aligned_up(ceiling)
    while bad - good > ALIGNMENT_TOKENS:
        middle = aligned_down((good + bad) // 2)
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good
