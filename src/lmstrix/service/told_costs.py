"""What loads take by the word of an engine whose files cannot be read from here, as on another machine."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.memory.runtime import EMBEDDED
from lmstrix.ground.context_lengths import ALIGNMENT_TOKENS, aligned_up
from lmstrix.ground.errors import LMStrixError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.memory.budgets import Budget
    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.loads import LoadConfig

_STEPS_PER_OCTAVE = 4
"""Between the lengths asked for, the cost is taken as a straight line; only windows that fill up in between bend it."""


class LoadCost(NamedTuple):
    """What a load takes at any length, and whether that is a guess."""

    of: Callable[[int], int]
    approximate: bool


async def load_cost(
    backend: ModelBackend, budget: Budget, shape: ModelShape, *, model_key: str, load: LoadConfig, ceiling: int
) -> LoadCost:
    """By our arithmetic where the file's header tells the shape, else by the server's where it is ours."""
    if shape.approximate:
        told = await _told(backend, model_key, load, ceiling)
        if told is not None:
            # An engine estimates what becomes resident; a budget of the address space counts what is reserved.
            more = budget.runtime.base_bytes - EMBEDDED.base_bytes
            return LoadCost(lambda length: told.at(length) + more, told.approximate)
    return LoadCost(lambda length: budget.cost(shape, length, load), shape.approximate)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ToldCost:
    """What the server estimates of loads at some lengths, and so at all others."""

    lengths: tuple[int, ...]
    costs: tuple[int, ...]
    approximate: bool

    def at(self, length: int) -> int:
        place = min(max(bisect_left(self.lengths, length), 1), len(self.lengths) - 1)
        (low, below), (high, above) = ((self.lengths[at], self.costs[at]) for at in (place - 1, place))
        return round(below + (above - below) * (length - low) / (high - low))


async def _told(backend: ModelBackend, model_key: str, load: LoadConfig, ceiling: int) -> _ToldCost | None:
    # LM Studio is not asked: what it estimates of hybrids and sliding windows may be twice what they take.
    if backend.server.engine != "embedded":
        return None
    lengths = _lengths(ceiling)
    try:
        estimates = [await backend.estimate(model_key, replace(load, context_length=length)) for length in lengths]
    except LMStrixError:
        return None
    return _ToldCost(
        lengths=lengths,
        costs=tuple(estimate.total_bytes for estimate in estimates),
        approximate=any(estimate.confidence == "low" for estimate in estimates),
    )


def _lengths(ceiling: int) -> tuple[int, ...]:
    """Aligned lengths from the shortest to the ceiling, in equal ratios; at least two."""
    # No longer than the ceiling, which may be all that the model declares; a shorter second one where that is tiny.
    longest = max(ceiling, 2)
    lengths, length = {min(ALIGNMENT_TOKENS, longest - 1), longest}, float(ALIGNMENT_TOKENS)
    while length < ceiling:
        lengths.add(min(aligned_up(int(length)), ceiling))
        length *= 2 ** (1 / _STEPS_PER_OCTAVE)
    return tuple(sorted(lengths))
