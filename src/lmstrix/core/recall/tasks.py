"""What a model is asked about a haystack, and at which lengths. Pure.

One question lists all its keys, numbered, and one generation answers them all: a single prefill scores eight depths.
The instruction stands before and after the text; the answer asked for repeats the needle's wording, which the smallest
models manage too. A model that loses its way in a list can be asked one key at a time: the haystack stays the cached
prefix, so each costs only the question.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.recall.haystack import SHORTEST_TOKENS, Haystack, Needle

if TYPE_CHECKING:
    from collections.abc import Sequence

BASELINE_TOKENS = 2048
TOKENS_PER_ANSWER = 40  # a generous bound of one answered key, "1. **vermilion ocelot** is 483 920"

_OPENING = "Remember the access codes in these notes."
_ASKING = "What are the access codes of these keys, according to the notes above?"
_CLOSING = "Answer with one numbered line for each key: the key, then its code."


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to ask about a haystack. `needles` are in the order they are asked in; `max_tokens` bounds the answer."""

    needles: tuple[Needle, ...]
    text: str
    max_tokens: int

    @property
    def first_needle(self) -> Needle:
        """The one nearest to the beginning of the text, which is the first to go when a prompt is cut."""
        return min(self.needles, key=lambda needle: needle.start)


def ask(needles: Sequence[Needle], *, seed: int) -> Question:
    """One question for all `needles`, in an order drawn from `seed`: place in the list tells nothing of depth."""
    order = random.Random(f"order {seed}").sample(list(needles), len(needles))
    listed = "\n".join(f"{number}. {needle.key}" for number, needle in enumerate(order, 1))
    return Question(
        needles=tuple(order),
        text=f"{_ASKING}\n{listed}\n{_CLOSING}",
        # One line more than asked for, so that a sentence before the list does not cut off its last code.
        max_tokens=TOKENS_PER_ANSWER * (len(order) + 1),
    )


def first_question(haystack: Haystack) -> Question:
    """The question every probe asks."""
    return ask(haystack.asked(), seed=haystack.seed)


def follow_up_question(haystack: Haystack) -> Question | None:
    """The second question, about keys not asked yet; None when the haystack is too short to hold more."""
    needles = haystack.follow_up()
    return ask(needles, seed=haystack.seed + 1) if needles else None


def per_key(question: Question) -> tuple[Question, ...]:
    """The same keys asked one at a time."""
    return tuple(ask((needle,), seed=0) for needle in question.needles)


def prompt(haystack: Haystack, question: Question) -> str:
    """The whole user message. What comes before the question is the same for every question."""
    return f"{_OPENING}\n\n{haystack.text}\n\n{question.text}"


def first_prompt(haystack: Haystack) -> str:
    """The message of the first question: what a haystack is fitted with."""
    return prompt(haystack, first_question(haystack))


def baseline_lengths(longest_tokens: int, *, shortest_tokens: int = SHORTEST_TOKENS) -> tuple[int, ...]:
    """Prompt lengths to try for the baseline, best first: 2048, and half of it as long as the model fails even there.

    A model whose ability ends below 2048 would otherwise be compared with its own failure. The first length at which it
    scores a clear pass is the baseline; where none is, the model cannot do the task and its recall cannot be judged.
    """
    length = min(BASELINE_TOKENS, longest_tokens)
    lengths = []
    while length >= shortest_tokens:
        lengths.append(length)
        length //= 2
    return tuple(lengths) or (length,)


def curve_lengths(longest_tokens: int, *, shortest_tokens: int = SHORTEST_TOKENS) -> tuple[int, ...]:
    """Prompt lengths of a recall curve: doubling from the shortest, then the longest itself."""
    lengths = []
    length = shortest_tokens
    # Each prompt begins with the one before, so with a prefix cache the whole curve costs little more than its last.
    while length < longest_tokens:
        lengths.append(length)
        length *= 2
    return (*lengths, longest_tokens)
