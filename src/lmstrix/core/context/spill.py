"""A cliff in the speed of answers, which says that memory has spilled: into main memory behind a card, or onto a disk.

Where a driver or the system makes room for more than there is, a load holds and its prompts are read, and then every
token takes many times as long: no use to anybody, and no failure that a server reports. What shows it is the speed at a
length beside that at a shorter one of the same load. It falls with the length by itself, by as much as a token is more
work there (`core.memory.decode_work`); only what falls several times as far counts.

Speeds of reading prompts are not judged: between two lengths they fall by anything up to the ratio of the lengths,
depending on the backend's kernels and on how much of a prompt it kept. Nor is the first length of a load, with nothing
to compare it with: a load that is slow from its first token on is not noticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["SPILL", "SpeedReading", "Spill", "find_spill"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpillConstants:
    """The tuned numbers."""

    unexplained_fall: float = 3.0
    """How many times as far as the work explains a speed must have fallen. Chosen: between what kernels of attention
    lose against those that read weights (a half) and what a card's memory is faster than the bus to main memory behind
    it (10 to 40 times: 500 to 1800 against 12 to 50 GB/s), or memory than a disk (10 times and more)."""
    least_answer_tokens: int = 8
    """Of fewer tokens the time between the first and the last is mostly the time of the network and the clock."""


SPILL = SpillConstants()


class SpeedReading(NamedTuple):
    """How fast an answer came behind a prompt of so many tokens."""

    prompt_tokens: int
    tokens_per_second: float


class Spill(NamedTuple):
    """A speed, and the one at a shorter length beside which it cannot be explained."""

    slow: SpeedReading
    fast: SpeedReading

    def __str__(self) -> str:
        slow, fast = self.slow, self.fast
        return (
            f"memory spilled: {slow.tokens_per_second:.3g} tokens/s at {slow.prompt_tokens:,}"
            f" instead of {fast.tokens_per_second:.3g} at {fast.prompt_tokens:,}"
        )


def find_spill(reading: SpeedReading, shorter: Iterable[SpeedReading], work: Callable[[int], float]) -> Spill | None:
    """The spill that `reading` shows beside one of the `shorter` lengths; None where the work explains its speed."""
    falls = {_unexplained(reading, fast, work): fast for fast in shorter if fast.prompt_tokens < reading.prompt_tokens}
    furthest = max(falls, default=0.0)
    return Spill(reading, falls[furthest]) if furthest > SPILL.unexplained_fall else None


def _unexplained(slow: SpeedReading, fast: SpeedReading, work: Callable[[int], float]) -> float:
    """How many times as far the speed fell as the work grew."""
    grown = work(slow.prompt_tokens) / work(fast.prompt_tokens)
    return fast.tokens_per_second / slow.tokens_per_second / max(1.0, grown)
