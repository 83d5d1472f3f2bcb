"""Prose and keys: the same seed gives the same text, and no word of the prose or digit can be taken for a code."""

from __future__ import annotations

import random
import re

from lmstrix.core.recall.keys import FIRST_WORDS, SECOND_WORDS, keyed_codes
from lmstrix.core.recall.prose import Prose, all_words


def _sentences(seed: int, count: int) -> list[str]:
    prose = Prose(random.Random(seed))
    return [prose.sentence() for _ in range(count)]


def test_sentences_hardly_ever_come_twice() -> None:
    sentences = _sentences(1, 8000)  # more than 128k tokens
    assert len(set(sentences)) > 0.97 * len(sentences)


def test_sentences_begin_and_end_like_sentences_and_hold_no_digits() -> None:
    for sentence in _sentences(2, 2000):
        assert sentence[0].isupper() or sentence[0] == '"'
        assert sentence.endswith(".")
        assert not re.search(r"\d|[{}|]|  ", sentence)


def test_no_article_clashes_with_the_next_word() -> None:
    text = " ".join(_sentences(3, 4000))
    assert re.findall(r"\b[Aa] [aeiou]\w*|\b[Aa]n [^aeiou\W]\w*", text) == []


def test_the_same_seed_writes_the_same_text() -> None:
    assert _sentences(4, 50) == _sentences(4, 50)
    assert _sentences(4, 50) != _sentences(5, 50)


def test_all_words_covers_what_is_written() -> None:
    written = set(re.findall(r"[a-z]+", " ".join(_sentences(6, 4000)).lower()))
    assert written <= all_words()


def test_key_words_are_distinct_and_absent_from_the_prose() -> None:
    words = FIRST_WORDS + SECOND_WORDS
    assert len(set(words)) == len(words)
    assert not set(words) & all_words()
    assert all(re.fullmatch("[a-z]{3,}", word) for word in words)


def test_keys_and_codes_stay_unique_beyond_the_word_lists() -> None:
    codes = keyed_codes(random.Random(0))
    pairs = [next(codes) for _ in range(1500)]
    assert len({pair.key for pair in pairs}) == len({pair.code for pair in pairs}) == len(pairs)
    assert all(re.fullmatch(r"[1-9]\d{5}", pair.code) for pair in pairs)


def test_words_of_keys_and_heads_of_codes_do_not_repeat_while_there_are_others() -> None:
    codes = keyed_codes(random.Random(1))
    pairs = [next(codes) for _ in range(120)]
    words = [word for pair in pairs for word in pair.key.split()]
    assert len(set(words)) == len(words)
    assert len({pair.code[:3] for pair in pairs}) == len(pairs)
