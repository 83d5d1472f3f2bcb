"""Telling a model's reasoning from its answer while both arrive in pieces. Pure.

A reasoning block is one at the very beginning, between two tags; a tag later in the answer is text about tags. Pieces
may end anywhere, so what could be the beginning of a tag is held back until it is decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from lmstrix.engine.records import ReasoningType


class Piece(NamedTuple):
    """Text of one kind."""

    text: str
    type: ReasoningType


class ReasoningSplitter:
    """Feed it text; it returns pieces. `inside`: the prompt already opened the block. No tags: everything is answer."""

    def __init__(self, start: str | None, end: str | None, *, inside: bool = False) -> None:
        self._start, self._end = start or "", end or ""
        self._held = ""
        self._state: Literal["before", "inside", "answer"] = "answer"
        if self._end and inside:
            self._state = "inside"
        elif self._start and self._end:
            self._state = "before"

    @property
    def settled(self) -> bool:
        """Whether all that comes is answer."""
        return self._state == "answer"

    @property
    def inside(self) -> bool:
        """Whether what comes next is reasoning."""
        return self._state == "inside"

    def feed(self, text: str) -> list[Piece]:
        """The pieces that `text` decides."""
        if self._state == "answer":
            return [Piece(text, "none")] if text else []
        text, self._held = self._held + text, ""
        pieces = self._before(text) if self._state == "before" else self._inside(text)
        return [piece for piece in pieces if piece.text]

    def flush(self) -> list[Piece]:
        """What was held back, once no more comes."""
        held, self._held = self._held, ""
        return [Piece(held, "reasoning" if self.inside else "none")] if held else []

    def _before(self, text: str) -> list[Piece]:
        # White space before the tag is passed on, but does not yet decide that this is the answer.
        space = len(text) - len(text.lstrip())
        rest = text[space:]
        if rest.startswith(self._start):
            self._state = "inside"
            return [
                Piece(text[:space], "none"),
                Piece(self._start, "reasoningStartTag"),
                *self._inside(rest[len(self._start) :]),
            ]
        # Still undecided: this may become the tag.
        if self._start.startswith(rest):
            self._held = text
            return []
        self._state = "answer"
        return [Piece(text, "none")]

    def _inside(self, text: str) -> list[Piece]:
        before, tag, after = text.partition(self._end)
        if tag:
            self._state = "answer"
            return [Piece(before, "reasoning"), Piece(tag, "reasoningEndTag"), Piece(after, "none")]
        keep = _partial_tag(text, self._end)
        self._held = text[len(text) - keep :]
        return [Piece(text[: len(text) - keep], "reasoning")]


def _partial_tag(text: str, tag: str) -> int:
    """How many characters at the end of `text` may be the beginning of `tag`."""
    # The longest first: of a tag that repeats itself, a shorter match would hold back too little.
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0
