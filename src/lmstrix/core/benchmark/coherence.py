"""Whether what a model wrote looks like language at all: a broken model can be very fast. Pure.

Three signs of a broken file, template or kernel: an answer without any visible text, one token over and over, and
answers to the same task that share almost no letters although nothing was drawn by chance.

Traded away: nonsense in well-formed words passes. This is a check of the measurement, not of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.records import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.records import RequestFigures, RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CoherenceLimits:
    """From where on an answer is doubted."""

    least_tokens: int = 16  # shorter answers may repeat a token by right, such as a row of dashes
    token_lengths: float = 1.5  # a unit that repeats is one token if it is at most so many of the mean length
    tail_ratio: float = 0.75  # of an answer: models that break often begin well
    least_answers: int = 3  # of two that differ, nobody knows which is the odd one
    least_letters: int = 12  # different ones; of fewer, chance decides how many are shared
    shared_ratio: float = 0.1  # two answers of 50 characters share 0.8 of their letters in English, 0.2 in Chinese


LIMITS = CoherenceLimits()
_DIFFERENT = Mark(
    kind="answers differ",
    text="answers to the same task at temperature 0 have almost nothing in common: the model may be broken",
)


def coherence_mark(figures: RequestFigures) -> Mark | None:
    """Why one answer is to be doubted; None for one that failed, or says something."""
    tokens = figures.completion_tokens or 0
    text = figures.reasoning + figures.answer
    if figures.failure is not None or tokens < LIMITS.least_tokens:
        return None
    if not text.strip():
        return Mark(kind="empty answer", text=f"{tokens:,} tokens were generated, and no visible text came of them")
    unit = _repeated(text[-max(1, round(len(text) * LIMITS.tail_ratio)) :])
    if unit is None or len(unit) > LIMITS.token_lengths * len(text) / tokens:
        return None
    return Mark(
        kind="one token repeated", text=f"the answer repeats {unit!r} and nothing else: the model may be broken"
    )


def with_difference_marks(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs of a cell, all asked alike at temperature 0; those unlike all others carry a mark for it."""
    letters = [_letters(run) for run in runs]
    judged = [
        place for place, found in enumerate(letters) if len(found) >= LIMITS.least_letters and not runs[place].failed
    ]
    doubted = set()
    for place in judged if len(judged) >= LIMITS.least_answers else ():
        shared = [_shared_ratio(letters[place], letters[other]) for other in judged if other != place]
        if median(shared) < LIMITS.shared_ratio:
            doubted.add(place)
    return [_marked(run, doubted=place in doubted) for place, run in enumerate(runs)]


def _marked(run: RunRecord, *, doubted: bool) -> RunRecord:
    """The run with the mark or without it, whatever it had when there were fewer runs."""
    first, *others = run.requests
    marks = tuple(mark for mark in first.marks if mark.kind != _DIFFERENT.kind)
    if doubted:
        marks = (*marks, _DIFFERENT)
    return run if marks == first.marks else replace(run, requests=(replace(first, marks=marks), *others))


def _letters(run: RunRecord) -> set[str]:
    text = run.requests[0].reasoning + run.requests[0].answer
    return {letter for letter in text.lower() if letter.isalnum()}


def _shared_ratio(one: set[str], other: set[str]) -> float:
    return len(one & other) / min(len(one), len(other))


def _repeated(text: str) -> str | None:
    """The shortest unit that the text consists of, over and over; None where it is no repetition.

    By the prefix function of Knuth, Morris and Pratt: a text with the period p is itself, moved by p.
    """
    borders = [0] * len(text)
    length = 0
    for place in range(1, len(text)):
        while length and text[place] != text[length]:
            length = borders[length - 1]
        length += text[place] == text[length]
        borders[place] = length
    period = len(text) - borders[-1] if text else 0
    return text[:period] if 0 < period <= len(text) // 2 else None
