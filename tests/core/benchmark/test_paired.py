"""The statistics of comparisons against scipy's, and against their definitions counted out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy  # its parts are imported when they are used
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.benchmark.correction import holm
from lmstrix.core.benchmark.paired import centre, centre_interval, least_p_value, signed_rank_p
from lmstrix.core.benchmark.session_spread import LIMITS, Spread, spread_of

DIFFERENCES = st.lists(
    st.integers(-10_000, 10_000).filter(bool).map(float), min_size=1, max_size=16, unique_by=lambda value: abs(value)
)
TIED = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES)
def test_signed_ranks_are_scipys_exact_ones(differences: list[float]) -> None:
    theirs = scipy.stats.wilcoxon(differences, method="exact").pvalue
    assert signed_rank_p(differences) == pytest.approx(min(1.0, theirs), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(TIED)
def test_signed_ranks_with_ties_are_those_of_every_assignment_of_signs(differences: list[float]) -> None:
    told = [value for value in differences if value]
    ranks = list(scipy.stats.rankdata([abs(value) for value in told])) if told else []
    seen = abs(sum(rank * math.copysign(1, value) for rank, value in zip(ranks, told, strict=True)))
    sums = [
        abs(sum(r * s for r, s in zip(ranks, signs, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(told))
    ]
    assert signed_rank_p(differences) == pytest.approx(sum(one >= seen - 1e-9 for one in sums) / len(sums))


def test_the_least_p_value_is_that_of_complete_agreement() -> None:
    for pairs in range(1, 16):
        assert signed_rank_p([float(value) for value in range(1, pairs + 1)]) == pytest.approx(least_p_value(pairs))


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES, st.sampled_from([0.5, 0.9, 0.95, 0.98, 0.997]))
def test_the_centres_interval_leaves_zero_out_exactly_when_the_test_rejects(
    differences: list[float], confidence: float
) -> None:
    interval = centre_interval(differences, confidence)
    p_value = signed_rank_p(differences)
    if interval is None:
        assert least_p_value(len(differences)) > 1 - confidence
        return
    assert interval.low <= centre(differences) <= interval.high
    assert interval.coverage_ratio >= confidence - 1e-12
    # Halves of equal sums may be zero themselves, on the very edge.
    if interval.low == 0 or interval.high == 0:
        return
    assert (interval.low > 0 or interval.high < 0) == (p_value <= 1 - confidence + 1e-12)


def test_the_centres_interval_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    held = 0
    for differences in rng.standard_t(2, size=(2000, 12)):
        interval = centre_interval(list(differences), 0.98)
        assert interval is not None
        held += interval.low <= 0 <= interval.high
    assert held / 2000 == pytest.approx(0.979, abs=0.01)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_bonferroni_for_every_subset_at_once(p_values: list[float]) -> None:
    """Its definition as a closed test: a figure is rejected if each group that it is in is."""
    places = range(len(p_values))
    groups = [g for size in range(1, len(p_values) + 1) for g in itertools.combinations(places, size)]
    wanted = [
        max(min(1.0, len(group) * min(p_values[each] for each in group)) for group in groups if place in group)
        for place in places
    ]
    assert holm(p_values) == pytest.approx(wanted)


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == []


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 2.5, 8.0, 40.0])
def test_sessions_are_referred_to_students_t_with_three_degrees(t: float) -> None:
    spread = Spread(ratio=0.05, sessions=9)
    log = t * 0.05 * math.sqrt(2)
    assert spread.p_value(log) == pytest.approx(2 * scipy.stats.t.sf(t, 3), abs=1e-12)
    assert spread.p_value(-log) == spread.p_value(log)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.98, 0.9999])
def test_a_spreads_interval_agrees_with_its_p_value(confidence: float) -> None:
    interval = Spread(ratio=0.05, sessions=9).interval(0.2, confidence)
    reach = scipy.stats.t.ppf((1 + confidence) / 2, 3) * 0.05 * math.sqrt(2)
    assert interval.low == pytest.approx(0.2 - reach)
    assert interval.high == pytest.approx(0.2 + reach)


def test_a_spread_is_estimated_where_sessions_are_enough_and_never_vanishes() -> None:
    values = [100.0, 104.0, 99.0, 101.0, 96.0, 103.0]
    spread = spread_of(values)
    assert spread is not None
    assert spread.ratio == pytest.approx(float(np.std(np.log(values), ddof=1)))
    assert spread.sessions == 6
    assert spread_of([*values[:5], 0.0, math.nan, math.inf]) is None
    assert spread_of([100.0] * 8) == Spread(ratio=LIMITS.least_ratio, sessions=8)
