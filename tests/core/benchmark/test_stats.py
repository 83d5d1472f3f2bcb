"""Our statistics against scipy's, on random data."""

from __future__ import annotations

import random

import numpy as np
import pytest
import scipy  # its parts are imported when they are used
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.benchmark.stats import (
    difference,
    is_settled,
    mann_whitney_u,
    median_interval,
    outliers,
    percentile,
    summarize,
)

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))
FEW = st.lists(NUMBERS, min_size=1, max_size=14)
COARSE = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=14, unique=True), st.data())
def test_u_test_without_ties_is_scipys_exact_one(first: list[float], data: st.DataObject) -> None:
    others = NUMBERS.filter(lambda value: value not in first)
    second = data.draw(st.lists(others, min_size=1, max_size=14, unique=True))
    ours = mann_whitney_u(first, second)
    theirs = scipy.stats.mannwhitneyu(first, second, method="exact")
    assert ours is not None
    assert ours.exact
    assert ours.u == theirs.statistic
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(COARSE, COARSE)
def test_u_test_with_ties_is_scipys_approximation(first: list[float], second: list[float]) -> None:
    ours = mann_whitney_u(first, second)
    assert ours is not None
    if ours.exact or len(set(first + second)) == 1:  # scipy divides by zero where all are equal
        return
    theirs = scipy.stats.mannwhitneyu(first, second, method="asymptotic")
    assert ours.u == theirs.statistic
    assert ours.p_value == pytest.approx(min(1.0, theirs.pvalue), rel=1e-9)


def test_u_test_of_equal_values_and_of_nothing() -> None:
    same = mann_whitney_u([2.0, 2.0, 2.0], [2.0, 2.0])
    assert same is not None
    assert same.p_value == 1.0
    assert mann_whitney_u([], [1.0]) is None


@pytest.mark.parametrize("count", range(1, 30))
def test_median_interval_is_the_narrowest_that_is_sure_enough(count: int) -> None:
    values = [float(value) for value in random.Random(count).sample(range(1000), count)]
    interval = median_interval(values)
    if count < 6:
        assert interval is None
        return
    assert interval is not None
    ordered = sorted(values)
    rank = ordered.index(interval.low) + 1
    assert ordered[-rank] == interval.high
    assert interval.coverage_ratio == pytest.approx(1 - 2 * scipy.stats.binom.cdf(rank - 1, count, 0.5))
    assert interval.coverage_ratio >= 0.95
    assert 1 - 2 * scipy.stats.binom.cdf(rank, count, 0.5) < 0.95


def test_median_interval_holds_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(2000):
        interval = median_interval(list(rng.exponential(size=9)))
        assert interval is not None
        held += interval.low <= np.log(2) <= interval.high
    assert held / 2000 == pytest.approx(0.961, abs=0.015)  # nine values: ranks 2 and 8


@settings(max_examples=40, deadline=None)
@given(FEW, st.floats(0, 1))
def test_percentile_is_numpys(values: list[float], ratio: float) -> None:
    assert percentile(values, ratio) == pytest.approx(float(np.quantile(values, ratio)), rel=1e-9, abs=1e-6)


def test_outliers_are_flagged_by_tukeys_fence() -> None:
    assert outliers([10.0, 11.0, 10.5, 10.2, 30.0, 10.8]) == (4,)
    assert outliers([1.0, 2.0, 3.0, 4.0]) == ()
    assert outliers([]) == ()


def test_summary_keeps_outliers_in_the_figures() -> None:
    summary = summarize([10.0, 11.0, 10.5, 10.2, 30.0, 10.8])
    assert summary is not None
    assert summary.maximum == 30.0
    assert summary.median == pytest.approx(10.65)
    assert summary.outliers == (4,)
    assert summarize([]) is None


def test_settled_needs_six_values_close_together() -> None:
    assert not is_settled([10.0] * 5, 0.05)
    assert is_settled([10.0, 10.1, 10.2, 10.1, 10.0, 10.3], 0.05)
    assert not is_settled([10.0, 10.1, 10.2, 10.1, 10.0, 11.3], 0.05)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 10_000).map(float), min_size=3, max_size=10, unique=True),
    st.lists(st.integers(0, 10_000).map(lambda value: value + 0.5), min_size=3, max_size=10, unique=True),
)
def test_difference_interval_agrees_with_the_test(first: list[float], second: list[float]) -> None:
    """It leaves zero out exactly when the test finds the series different."""
    shift, interval = difference(first, second)
    test = mann_whitney_u(first, second)
    assert test is not None
    assert shift == pytest.approx(float(np.median([b - a for a in first for b in second])))
    if interval is None:
        assert test.p_value >= 0.05
        return
    assert interval.low <= shift <= interval.high
    assert interval.coverage_ratio >= 0.95
    differs = interval.low > 0 or interval.high < 0
    assert differs == (test.p_value <= 1 - interval.coverage_ratio + 1e-12)


def test_difference_of_long_series_approaches_the_exact_interval() -> None:
    rng = random.Random(5)
    first, second = ([rng.gauss(mean, 1) for _ in range(60)] for mean in (0, 1))
    shift, interval = difference(first, second)
    assert interval is not None
    assert 0.4 < interval.low < shift < interval.high < 1.6
