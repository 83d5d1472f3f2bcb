"""Haystacks: where needles stand, that shorter texts begin longer ones, and how lengths are fitted to token counts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.recall.haystack import (
    ASKED_DEPTHS,
    FOLLOW_UP_DEPTHS,
    Haystack,
    HaystackFitter,
    base_depths,
    write_haystack,
)
from lmstrix.core.recall.tasks import first_prompt
from lmstrix.ground.errors import UsageError
from tests.support.counting import counted

_PIECES = re.compile(r" ?[A-Za-z]{1,7}|\d|[^A-Za-z\d]")


class Counter:
    """Counts tokens of about four characters, like a real vocabulary, plus a chat template of 11."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, haystack: Haystack) -> int:
        self.calls += 1
        return len(_PIECES.findall(first_prompt(haystack))) + 11


def shared_chars(one: str, two: str) -> int:
    """How many characters both texts begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


seeds = st.integers(0, 2**32)


@given(seed=seeds, base=st.integers(600, 9000), chars=st.integers(600, 40_000))
@settings(max_examples=40, deadline=None)
def test_needles_stand_where_the_record_says(seed: int, base: int, chars: int) -> None:
    haystack = write_haystack(seed=seed, base_chars=base, chars=chars)
    assert len(haystack.text) <= chars
    assert haystack.text.endswith(".")
    for needle in haystack.needles:
        assert haystack.text[needle.start : needle.end] == f"The access code of {needle.key} is {needle.code}."
        assert needle.depth_ratio == needle.start / len(haystack.text)
    # Every number in the text was planted, and no needle was cut.
    assert re.findall(r"\d+", haystack.text) == [needle.code for needle in haystack.needles]
    assert haystack.text.count("access code of") == len(haystack.needles)


@given(seed=seeds, base=st.integers(600, 9000), lengths=st.tuples(st.integers(700, 30_000), st.integers(700, 30_000)))
@settings(max_examples=40, deadline=None)
def test_a_shorter_haystack_is_the_beginning_of_a_longer_one(seed: int, base: int, lengths: tuple[int, int]) -> None:
    short, long = (write_haystack(seed=seed, base_chars=base, chars=chars) for chars in sorted(lengths))
    common = shared_chars(short.text, long.text)
    assert common >= len(short.text) - 60  # all but the end that stands in for a needle or closes a cut sentence
    assert [needle.code for needle in short.needles] == [needle.code for needle in long.needles[: len(short.needles)]]


@given(seed=seeds, base=st.integers(2000, 6000), growth=st.floats(1.0, 60.0))
@settings(max_examples=40, deadline=None)
def test_any_length_has_eight_needles_near_the_depths_asked(seed: int, base: int, growth: float) -> None:
    haystack = write_haystack(seed=seed, base_chars=base, chars=round(base * growth))
    asked, follow_up = haystack.asked(), haystack.follow_up()
    tolerance = 0.04 + 200 / len(haystack.text)
    for needle, depth in zip(asked, ASKED_DEPTHS, strict=True):
        assert needle.depth_ratio == pytest.approx(depth, abs=tolerance)
    assert len(follow_up) == len(FOLLOW_UP_DEPTHS)
    assert not set(asked) & set(follow_up)


def test_a_full_base_text_has_eight_distractors_besides_both_questions() -> None:
    haystack = write_haystack(seed=1, base_chars=6000, chars=6000)
    assert len(haystack.needles) == 24
    assert len(set(haystack.needles) - set(haystack.asked()) - set(haystack.follow_up())) == 8


def test_a_short_base_text_keeps_room_for_prose() -> None:
    assert [len(base_depths(chars)) for chars in (500, 1500, 4000)] == [8, 16, 24]
    short = write_haystack(seed=2, base_chars=700, chars=700)
    assert len(short.asked()) == 8
    assert short.follow_up() == ()


def test_first_needle_stands_in_the_first_two_percent() -> None:
    for chars in (2000, 5000, 33_000, 250_000):
        haystack = write_haystack(seed=3, base_chars=2000, chars=chars)
        assert haystack.asked()[0].depth_ratio <= 0.02


def test_other_seeds_give_other_texts_and_codes() -> None:
    one, two = (write_haystack(seed=seed, base_chars=3000, chars=3000) for seed in (1, 2))
    assert {needle.code for needle in one.needles} != {needle.code for needle in two.needles}
    assert shared_chars(one.text, two.text) < 60


@pytest.mark.parametrize("seed", range(6))
def test_fitted_prompts_come_within_one_percent_below_their_target(seed: int) -> None:
    counter = Counter()
    fitter = counted(HaystackFitter.calibrated(seed=seed, shortest_tokens=512), counter)
    assert counter.calls == 2
    previous = ""
    for target in (512, 700, 1024, 2048, 5000, 16_384, 60_000):
        before = counter.calls
        haystack = counted(fitter.fit(target), counter)
        assert counter.calls - before <= 8
        least = 0.99 if target > 1024 else 0.98  # a token or two more or less is much of so few
        assert least * target <= counter(haystack) <= target
        assert shared_chars(previous, haystack.text) >= len(previous) - 60
        previous = haystack.text


def test_the_same_seed_and_lengths_give_the_same_haystacks() -> None:
    one, two = (counted(HaystackFitter.calibrated(seed=9), Counter()) for _ in range(2))
    lengths = (600, 3000)
    assert [counted(one.fit(n), Counter()) for n in lengths] == [counted(two.fit(n), Counter()) for n in lengths]


def test_a_counter_with_long_tokens_is_fitted_too() -> None:
    def count(haystack: Haystack) -> int:
        return len(first_prompt(haystack).encode()) // 7 + 300

    fitter = counted(HaystackFitter.calibrated(seed=4, shortest_tokens=1024), count)
    assert 0.99 * 9000 <= count(counted(fitter.fit(9000), count)) <= 9000


def test_too_few_tokens_are_refused_with_the_number_needed() -> None:
    with pytest.raises(UsageError, match=r"a recall probe of 128 tokens has no room for 8 codes; ask for \d+ tokens"):
        counted(HaystackFitter.calibrated(seed=0, shortest_tokens=128), Counter())


def test_a_haystack_parts_after_a_needle() -> None:
    whole = write_haystack(seed=5, base_chars=3000, chars=3000)
    needle = whole.needles[0]
    start, rest = whole.parted_after(needle)
    assert start.text.endswith(needle.sentence)
    assert f"{start.text} {rest.text}" == whole.text
    assert start.needles == rest.needles == whole.needles
