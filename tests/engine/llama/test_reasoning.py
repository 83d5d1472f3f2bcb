"""Reasoning is told from the answer wherever the text happens to be cut."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from lmstrix.engine.llama.reasoning import Piece, ReasoningSplitter

TEXTS = st.text(alphabet="<think>/ \nab", max_size=30)


def split(text: str, cuts: list[int], *, inside: bool = False) -> list[Piece]:
    splitter = ReasoningSplitter("<think>", "</think>", inside=inside)
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [piece for a, b in itertools.pairwise(places) for piece in splitter.feed(text[a:b])]
    return pieces + splitter.flush()


def joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one kind as one."""
    out: list[Piece] = []
    for piece in pieces:
        if out and out[-1].type == piece.type:
            out[-1] = Piece(out[-1].text + piece.text, piece.type)
        else:
            out.append(piece)
    return out


@given(text=TEXTS, cuts=st.lists(st.integers(0, 40), max_size=12), inside=st.booleans())
def test_cuts_change_nothing_and_lose_nothing(text: str, cuts: list[int], inside: bool) -> None:
    pieces = split(text, cuts, inside=inside)
    assert "".join(piece.text for piece in pieces) == text
    assert joined(pieces) == joined(split(text, [], inside=inside))
    assert all(piece.text for piece in pieces)


@given(space=st.text("\n ", max_size=3), thought=TEXTS, answer=TEXTS, cuts=st.lists(st.integers(0, 99), max_size=12))
def test_a_block_at_the_beginning_is_reasoning(space: str, thought: str, answer: str, cuts: list[int]) -> None:
    thought = thought.replace("</think>", "").rstrip("</think>")
    expected = [
        Piece(space, "none"),
        Piece("<think>", "reasoningStartTag"),
        Piece(thought, "reasoning"),
        Piece("</think>", "reasoningEndTag"),
        Piece(answer, "none"),
    ]
    text = "".join(piece.text for piece in expected)
    assert joined(split(text, cuts)) == [piece for piece in expected if piece.text]


def test_tags_inside_the_answer_are_text() -> None:
    assert joined(split("Use <think>x</think>.", [6, 9])) == [Piece("Use <think>x</think>.", "none")]


def test_an_unfinished_block_stays_reasoning() -> None:
    assert joined(split("<think>a</thin", [3])) == [
        Piece("<think>", "reasoningStartTag"),
        Piece("a</thin", "reasoning"),
    ]


def test_text_flows_as_soon_as_it_is_decided() -> None:
    splitter = ReasoningSplitter("<think>", "</think>")
    assert splitter.feed("<") == []
    assert splitter.feed("b>") == [Piece("<b>", "none")]
    assert splitter.settled
    assert ReasoningSplitter(None, None).settled
