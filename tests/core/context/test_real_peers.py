"""The simple searches that real limits are compared with: what they report holds, and they find something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.real_peers import bisection, multi_step, shrink_and_bisect
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from bench.real_peers import Asking

DECLARED = 8192
limits = st.integers(1024, DECLARED)


def found(asking: Asking, limit: int) -> int:
    """What a search reports where everything up to `limit` holds."""
    try:
        length = next(asking)
        while True:
            length = asking.send(length <= limit)
    except StopIteration as done:
        result: int = done.value
        return result


@given(limit=limits)
def test_steps_and_bisection_end_below_the_limit_and_near_it(limit: int) -> None:
    assert limit - 1024 <= found(multi_step(DECLARED), limit) <= limit
    assert limit - 256 <= found(bisection(DECLARED), limit) <= limit


@given(limit=limits, start=st.integers(4, 32))
def test_shrinking_finds_a_length_and_comes_close_when_it_began_too_high(limit: int, start: int) -> None:
    length = found(shrink_and_bisect(256 * start), limit)
    assert 0 < length <= limit
    if 256 * start > limit:
        assert length >= limit / 1.15 - 2 * 256  # what failed and what held are both aligned


def test_shrinking_finds_nothing_where_not_even_the_shortest_holds() -> None:
    assert found(shrink_and_bisect(DECLARED), 1023) == 0
