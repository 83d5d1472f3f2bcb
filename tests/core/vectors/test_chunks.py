"""Texts are cut into pieces that fit, at ends that a reader would choose, and nothing is lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.vectors.chunks import chunks_of

if TYPE_CHECKING:
    from collections.abc import Callable


def words(text: str) -> int:
    return len(text.split())


def cut(text: str, most: int, count: Callable[[str], int] = words) -> tuple[list[str], int]:
    """The pieces, and how many counts they took."""
    steps, counts = chunks_of(text, most), 0
    try:
        asked = next(steps)
        while True:
            counts += 1
            asked = steps.send(count(asked))
    except StopIteration as end:
        pieces: list[str] = end.value
        return pieces, counts


def test_a_short_text_is_one_piece_and_no_text_is_none() -> None:
    assert cut("the tide was early", 10) == (["the tide was early"], 1)
    assert cut(" \n ", 10)[0] == []


def test_paragraphs_stay_whole_where_they_can() -> None:
    paragraphs = [" ".join([f"w{number}"] * 60) for number in range(6)]
    pieces, counts = cut("\n\n".join(paragraphs), 70)
    assert pieces == paragraphs
    assert counts <= 4 * len(pieces)


def test_sentences_stay_whole_where_paragraphs_cannot() -> None:
    pieces, _ = cut(" ".join(f"Sentence {number} has five words." for number in range(100)), 30)
    assert all(piece.endswith("words.") for piece in pieces)


def test_what_is_a_word_without_end_is_cut_all_the_same() -> None:
    pieces, _ = cut("x" * 1000, 7, len)
    assert {len(piece) for piece in pieces[:-1]} <= {5, 6, 7}
    assert "".join(pieces) == "x" * 1000


@given(text=st.text(max_size=400), most=st.integers(1, 40), heavy=st.integers(1, 4))
def test_every_piece_fits_and_no_character_is_lost(text: str, most: int, heavy: int) -> None:
    def count(piece: str) -> int:
        return sum(heavy if ord(letter) > 0x7F else 1 for letter in piece)

    pieces, _ = cut(text, most, count)
    # A letter of more tokens than a piece may have stands alone: it cannot be cut.
    assert all(count(piece) <= most or len(piece) == 1 for piece in pieces)
    assert re.sub(r"\s", "", "".join(pieces)) == re.sub(r"\s", "", text)
