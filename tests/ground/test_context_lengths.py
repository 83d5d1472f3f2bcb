"""Aligned lengths and the bisection over them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmstrix.ground.context_lengths import aligned_down, aligned_up, longest_aligned_below

lengths = st.integers(1, 300_000)


@given(lengths)
def test_cells_are_the_next_multiple_of_256(length: int) -> None:
    assert aligned_up(length) % 256 == 0
    assert length <= aligned_up(length) < length + 256


@given(lengths)
def test_a_length_lies_between_its_aligned_neighbours(length: int) -> None:
    assert aligned_down(length) <= length <= aligned_up(length)
    assert (aligned_down(length) == length) == (aligned_up(length) == length)


@given(ceiling=st.integers(0, 300_000), limit=st.integers(0, 300_000))
def test_bisection_finds_the_longest_length_that_fits(ceiling: int, limit: int) -> None:
    tried: list[int] = []

    def fits(length: int) -> bool:
        tried.append(length)
        return length <= limit

    found = longest_aligned_below(ceiling, fits)
    assert found == (min(aligned_down(limit), aligned_down(ceiling - 1)) if ceiling else 0)
    assert all(0 < length < ceiling for length in tried)
    assert len(tried) <= 11
