"""How far an answer is, told often enough for a display and no oftener."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.ground.types import TextDelta

TOLD_EVERY_S = 0.1  # a terminal's line is drawn ten times a second; a fast model sends hundreds of pieces


class AnsweringProgress:
    """Counts the tokens of one answer. `tell` hears how many there are so far, and at most how many there will be."""

    def __init__(
        self, tell: Callable[[int, int], None], max_tokens: int, *, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._max_tokens = max_tokens
        self._now_s = now_s
        self._answered_tokens = 0
        self._told_at_s = -math.inf

    def note(self, piece: TextDelta) -> None:
        """A piece of the answer came."""
        # Some servers do not say how many tokens a piece has; it has one at least.
        self._answered_tokens = min(self._max_tokens, self._answered_tokens + max(1, piece.tokens))
        now_s = self._now_s()
        if now_s - self._told_at_s >= TOLD_EVERY_S:
            self._told_at_s = now_s
            self._tell(self._answered_tokens, self._max_tokens)
