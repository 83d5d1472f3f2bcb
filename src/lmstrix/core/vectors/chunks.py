"""Cutting a text into pieces of at most so many tokens. Pure: whoever drives it counts the tokens.

Only the model knows what a token is, and each count is a round trip. So a piece is guessed by how many characters a
token has had so far, counted, and made smaller or larger in proportion. It ends where the text has its best end in the
piece's second half: of a paragraph, a line, a sentence, a word. Nothing is left out but the space between pieces.
"""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_FIRST_GUESS = 3.0  # characters per token: English has about 4, other languages and code fewer
_FULL_ENOUGH = 0.7  # of the tokens; another count to fill a piece up would save little
_TIGHTER = 0.95
_MOST_GUESSES = 8  # a piece that fits is taken then, however short it is
_TEXT = re.compile(r"\S")
_ENDS = tuple(re.compile(end) for end in (r"\n[ \t]*\n", r"\n", r"[.!?…]+[\"')\]]*\s|[\u3002\uff01\uff1f]", r"\s"))


def chunks_of(text: str, most_tokens: int) -> Generator[str, int, list[str]]:
    """Yields texts to be counted, takes their numbers of tokens, and returns the pieces."""
    pieces: list[str] = []
    start, per_token = 0, _FIRST_GUESS
    while (begins := _TEXT.search(text, start)) is not None:
        start = begins.start()
        fits, too_long = start, len(text) + 1
        end = _better_end(text, start, start + int(most_tokens * per_token), too_long)
        for guess in count(1):
            tokens = yield text[start:end].strip()
            ratio = (end - start) / max(1, tokens)
            if tokens <= most_tokens:
                fits, per_token = end, ratio
                if end == len(text) or tokens >= _FULL_ENOUGH * most_tokens or guess >= _MOST_GUESSES:
                    break
            else:
                too_long = end
            aim = start + int(most_tokens * ratio * _TIGHTER)
            following = _better_end(text, start, aim, too_long)
            # A character alone may be more tokens than asked for; it cannot be cut.
            if following <= fits or too_long - start <= 1:
                fits = max(fits, start + 1)
                break
            end = following
        pieces.append(text[start:fits].strip())
        start = fits
    return pieces


def _better_end(text: str, start: int, aim: int, too_long: int) -> int:
    """Where a piece from `start` to about `aim` best ends, before `too_long`."""
    aim = max(start + 1, min(aim, too_long - 1))
    if aim >= len(text):
        return len(text)
    half = start + (aim - start) // 2
    for end in _ENDS:
        last = None
        for last in end.finditer(text, half, aim):  # noqa: B007 - the last one is wanted
            pass
        if last is not None and last.end() > start:
            return last.end()
    return aim
