"""How far an answer is, told at most ten times a second."""

from __future__ import annotations

from lmstrix.core.context.answering import AnsweringProgress
from lmstrix.ground.types import TextDelta


def test_it_tells_the_first_token_at_once_and_then_no_oftener_than_it_is_read() -> None:
    told: list[tuple[int, int]] = []
    now_s = 5.0
    progress = AnsweringProgress(lambda answered, most: told.append((answered, most)), 160, now_s=lambda: now_s)
    progress.note(TextDelta(text="a", tokens=1))
    progress.note(TextDelta(text="b", tokens=1))
    now_s += 0.2
    progress.note(TextDelta(text="c", tokens=3))
    progress.note(TextDelta(text="d", tokens=1))
    assert told == [(1, 160), (5, 160)]


def test_a_piece_of_unknown_size_counts_as_one_and_no_answer_exceeds_its_bound() -> None:
    told: list[tuple[int, int]] = []
    now_s = 0.0
    progress = AnsweringProgress(lambda answered, most: told.append((answered, most)), 2, now_s=lambda: now_s)
    for _ in range(3):
        progress.note(TextDelta(text="a"))
        now_s += 1.0
    assert told == [(1, 2), (2, 2), (2, 2)]
