"""How well a model recalls at each length measured so far, and where it ends. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.registry.results import RecallPoint

if TYPE_CHECKING:
    from lmstrix.core.context.probe import Measured
    from lmstrix.core.context.spill import SpeedReading

EDGE_PRECISION = 1.08  # the effective length is bracketed to within this factor
RECALLED_STEP_TOKENS = 64  # recalled lengths are told in whole steps: one text differs from the next by more


class RecallEdge(NamedTuple):
    """The longest length up to which all lengths recall, and the next one that does not; None where there is none."""

    good: int | None
    bad: int | None


class RecallCurve:
    """What was measured, by the prompt's intended tokens; `figures` is the last measurement that filled the context."""

    def __init__(self) -> None:
        self._measured: dict[int, Measured] = {}
        self.figures: Measured | None = None

    def __contains__(self, target_tokens: int) -> bool:
        return target_tokens in self._measured

    def __getitem__(self, target_tokens: int) -> Measured:
        return self._measured[target_tokens]

    def get(self, target_tokens: int) -> Measured | None:
        return self._measured.get(target_tokens)

    def add(self, measured: Measured) -> None:
        self._measured[measured.target_tokens] = measured
        if measured.filled:
            self.figures = measured

    def forget(self, target_tokens: int) -> None:
        """Take back what was measured at a length that does not count after all."""
        gone = self._measured.pop(target_tokens)
        if self.figures is gone:
            self.figures = next((kept for kept in reversed(self._measured.values()) if kept.filled), None)

    def prepare_for(self, longest_tokens: int) -> None:
        """Keep of earlier loads what holds on one with room for this: answers, and none to a prompt longer than it."""
        for target, measured in list(self._measured.items()):
            if measured.failure is not None or target > longest_tokens:
                self.forget(target)

    @property
    def speeds(self) -> list[SpeedReading]:
        """How fast the answers came, where they tell."""
        return [measured.speed for measured in self._measured.values() if measured.speed is not None]

    def target_of(self, speed: SpeedReading) -> int:
        """The length at which this speed was measured."""
        return next(target for target, measured in self._measured.items() if measured.speed == speed)

    @property
    def longest_filled(self) -> int | None:
        """The longest prompt that was read whole and answered, by its intended tokens."""
        return max((target for target, measured in self._measured.items() if measured.filled), default=None)

    @property
    def first(self) -> Measured:
        """What was measured first: the model's best chance to show that it understands the question."""
        return next(iter(self._measured.values()))

    @property
    def is_scored(self) -> bool:
        """Whether any length has a score: without one, nothing is known of recall."""
        return any(measured.ratio is not None for measured in self._measured.values())

    @property
    def is_answered(self) -> bool:
        """Whether every prompt was answered: what the server failed at is no end of recall."""
        return all(measured.failure is None for measured in self._measured.values())

    def edge(self) -> RecallEdge:
        """Where recall ends. A length that fails below the first one that recalls is no end: it is a false start."""
        good: int | None = None
        for target in sorted(self._measured):
            if self._measured[target].passed:
                good = target
            elif good is not None:
                return RecallEdge(good, target)
        return RecallEdge(good, None)

    def inside_edge(self) -> int | None:
        """A length that narrows the edge down; None when it is known well enough."""
        good, bad = self.edge()
        if good is None or bad is None or bad / good <= EDGE_PRECISION:
            return None
        # The middle in ratio, not in tokens: precision is a factor, and shorter prompts cost less.
        return int(math.sqrt(good * bad))

    def tokens_read(self, target_tokens: int) -> int:
        """What the server says it read of the prompt of `target_tokens`, never more than that."""
        return min(target_tokens, self._measured[target_tokens].prompt_tokens or target_tokens)

    @property
    def recalled_tokens(self) -> int | None:
        """Up to where recall was found, in whole steps; None where it was found nowhere."""
        good = self.edge().good
        return None if good is None else self.tokens_read(good) // RECALLED_STEP_TOKENS * RECALLED_STEP_TOKENS

    def points(self) -> tuple[RecallPoint, ...]:
        """The scores, shortest length first, for the registry."""
        return tuple(
            RecallPoint(target, measured.ratio)
            for target, measured in sorted(self._measured.items())
            if measured.ratio is not None
        )
