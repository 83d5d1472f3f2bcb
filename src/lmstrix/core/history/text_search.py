"""What is looked for in texts: words, found by their beginnings, or in scripts without spaces anywhere.

The full-text index knows words as what stands between spaces and signs. Japanese, Chinese, Thai, Lao, Khmer and Burmese
write none, so the index holds whole sentences as one word; there a search reads the texts themselves. Pure.
"""

from __future__ import annotations

import re

# Thai and Lao, Burmese, Khmer, kana, Han with its extensions; also halfwidth kana.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff]"
)


def words_of(text: str) -> list[str]:
    """The words of a search. What can stand in no term of the index is a space."""
    return text.replace('"', " ").replace("\x00", " ").split()


def is_unspaced(words: list[str]) -> bool:
    """Whether a word is of a script without spaces, so that the index cannot find it."""
    return any(_UNSPACED.search(word) for word in words)


def index_query(words: list[str]) -> str:
    """The query of the full-text index: each word as the beginning of one, and nothing read as an operator."""
    return " ".join(f'"{word}" *' for word in words)


def holds_all(text: str, words: list[str]) -> bool:
    """Whether a text has all words anywhere, in upper or lower case."""
    folded = text.casefold()
    return all(word.casefold() in folded for word in words)
