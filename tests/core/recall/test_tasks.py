"""The questions about a haystack, and the lengths at which they are asked."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.recall.haystack import write_haystack
from lmstrix.core.recall.tasks import (
    ask,
    baseline_lengths,
    curve_lengths,
    first_prompt,
    first_question,
    follow_up_question,
    per_key,
    prompt,
)

HAYSTACK = write_haystack(seed=5, base_chars=5000, chars=9000)


def test_the_question_names_its_keys_and_no_codes() -> None:
    question = first_question(HAYSTACK)
    assert len(question.needles) == 8
    for number, needle in enumerate(question.needles, 1):
        assert f"\n{number}. {needle.key}\n" in question.text
    assert not any(needle.code in question.text for needle in HAYSTACK.needles)
    assert question.first_needle == HAYSTACK.needles[0]


def test_the_order_asked_is_not_the_order_of_the_text() -> None:
    orders = [tuple(needle.start for needle in ask(HAYSTACK.asked(), seed=seed).needles) for seed in range(5)]
    assert len(set(orders)) == 5
    assert {tuple(sorted(order)) for order in orders} == {tuple(needle.start for needle in HAYSTACK.asked())}


def test_both_questions_share_the_prompt_up_to_the_question() -> None:
    first, second = first_question(HAYSTACK), follow_up_question(HAYSTACK)
    assert second is not None
    assert not set(first.needles) & set(second.needles)
    one, two = prompt(HAYSTACK, first), prompt(HAYSTACK, second)
    assert one == first_prompt(HAYSTACK)
    assert one.removesuffix(first.text) == two.removesuffix(second.text)
    assert HAYSTACK.text in one


def test_a_text_too_short_for_more_needles_has_no_second_question() -> None:
    assert follow_up_question(write_haystack(seed=5, base_chars=700, chars=700)) is None


def test_asking_one_key_at_a_time_covers_the_same_needles() -> None:
    question = first_question(HAYSTACK)
    singles = per_key(question)
    assert [single.needles[0] for single in singles] == list(question.needles)
    assert all(len(single.needles) == 1 and single.max_tokens < question.max_tokens for single in singles)


@given(longest=st.integers(300, 2_000_000))
def test_curve_lengths_rise_and_end_at_the_longest(longest: int) -> None:
    lengths = curve_lengths(longest)
    assert lengths[-1] == longest
    assert list(lengths) == sorted(set(lengths))
    assert all(later <= 2 * earlier for earlier, later in pairwise(lengths))


@pytest.mark.parametrize(
    ("longest", "expected"),
    [(131_072, (2048, 1024, 512)), (2048, (2048, 1024, 512)), (1500, (1500, 750)), (512, (512,)), (400, (400,))],
)
def test_baseline_lengths_fall_from_two_thousand(longest: int, expected: tuple[int, ...]) -> None:
    assert baseline_lengths(longest) == expected
