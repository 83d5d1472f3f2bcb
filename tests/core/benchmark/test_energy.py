"""Joules from readings, against what was put in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.benchmark.energy import PowerChannel, Series, energy_of_run, idle_power_w, measure_parts

PERIOD_S = 0.1


def gauge(watts: list[float], *, part: str = "gpu", start: float = 0.0) -> Series:
    at = [start + number * PERIOD_S for number in range(len(watts))]
    return Series(PowerChannel(name=part, part=part, unit="W"), at, watts, PERIOD_S)  # type: ignore[arg-type]


def counter(joules: list[float], *, wraps_at_j: float | None = None, part: str = "cpu") -> Series:
    at = [number * PERIOD_S for number in range(len(joules))]
    channel = PowerChannel(name=part, part=part, unit="J", wraps_at_j=wraps_at_j)  # type: ignore[arg-type]
    return Series(channel, at, joules, PERIOD_S)


def test_a_gauge_is_integrated() -> None:
    ramp = gauge([float(number) for number in range(101)])  # 0 W to 100 W in 10 s
    assert ramp.energy_j(0.0, 10.0) == pytest.approx(500.0)
    assert ramp.energy_j(2.05, 4.15) == pytest.approx((20.5 + 41.5) / 2 * 2.1)
    assert ramp.power_w(2.0, 4.0) == pytest.approx(30.0)


@settings(max_examples=60)
@given(st.floats(0.5, 400.0), st.floats(0.0, 3.0), st.floats(0.4, 6.0), st.floats(0.0, 1000.0), st.booleans())
def test_steady_power_is_found_through_wraps(
    watts: float, begin: float, length: float, start_j: float, wraps: bool
) -> None:
    limit = 65.0 if wraps else None
    joules = [start_j + watts * number * PERIOD_S for number in range(101)]
    series = counter([value % limit for value in joules] if limit else joules, wraps_at_j=limit)
    assert series.energy_j(begin, begin + length) == pytest.approx(watts * length, rel=1e-6)


def test_a_counter_that_was_reset_goes_on() -> None:
    series = counter([100.0, 101.0, 102.0, 1.0, 2.0, 3.0])
    assert series.energy_j(0.0, 0.5) == pytest.approx(5.0)


@pytest.mark.parametrize(("begin", "end"), [(-0.5, 1.0), (0.5, 99.0), (1.0, 1.2)])
def test_a_span_without_readings_around_it_has_no_figure(begin: float, end: float) -> None:
    assert gauge([10.0] * 50).energy_j(begin, end) is None


def test_a_hole_in_the_readings_spoils_spans_over_it_only() -> None:
    at = [number * PERIOD_S for number in range(20)] + [5.0 + number * PERIOD_S for number in range(20)]
    series = Series(PowerChannel(name="g", part="gpu", unit="W"), at, [10.0] * 40, PERIOD_S)
    assert series.energy_j(1.0, 6.0) is None
    assert series.energy_j(5.5, 6.5) == pytest.approx(10.0)


def test_what_a_machine_too_busy_to_read_missed_is_no_hole_in_long_spans_nor_in_counters() -> None:
    at = [number * 0.001 for number in range(1000)] + [1.02 + number * 0.001 for number in range(1000)]
    watts = Series(PowerChannel(name="g", part="gpu", unit="W"), at, [10.0] * 2000, 0.001)
    assert watts.energy_j(0.5, 1.5) == pytest.approx(10.0)
    assert watts.energy_j(0.99, 1.03) is None
    counted = Series(PowerChannel(name="c", part="cpu", unit="J"), [0.0, 0.1, 5.0, 5.1], [0.0, 1.0, 50.0, 51.0], 0.1)
    assert counted.energy_j(0.1, 5.0) == pytest.approx(49.0)


def test_an_empty_series_has_no_figure() -> None:
    assert gauge([]).energy_j(0.0, 1.0) is None
    assert measure_parts([], lambda one: one.energy_j(0.0, 1.0)) is None


def test_a_run_is_split_at_its_first_token_and_idle_is_subtracted() -> None:
    """Idle 20 W, then 2 s of prefill at 100 W and 4 s of decode at 60 W, on two parts; a second of idle between."""
    watts = [20.0] * 50 + [100.0] * 20 + [60.0] * 40 + [20.0] * 50
    series = [gauge(watts), gauge([10.0] * len(watts), part="cpu")]
    idle = idle_power_w(series, [(0.5, 4.5), (11.5, 15.5)])
    assert idle == pytest.approx(30.0)
    energy = energy_of_run(
        series,
        sent_at=5.0,
        first_token_at=7.0,
        ended_at=11.0,
        prompt_tokens=1000,
        output_tokens=200,
        idle_power_w=idle,
    )
    assert energy is not None
    assert energy.gross_j == pytest.approx(2 * 110 + 4 * 70, rel=0.02)
    assert energy.net_j == pytest.approx(2 * 80 + 4 * 40, rel=0.02)
    assert energy.prefill_net_j == pytest.approx(160, rel=0.03)
    assert energy.decode_net_j == pytest.approx(160, rel=0.03)
    assert energy.prefill_gross_j is not None
    assert energy.decode_gross_j is not None
    assert energy.prefill_gross_j + energy.decode_gross_j == pytest.approx(energy.gross_j)
    assert energy.net_j_per_prompt_token == pytest.approx(0.16, rel=0.03)
    assert energy.net_j_per_decode_token == pytest.approx(0.8, rel=0.03)
    assert energy.net_j_per_output_token == pytest.approx(1.6, rel=0.03)
    assert energy.average_power_w == pytest.approx(energy.gross_j / 6)
    assert dict(energy.parts_gross_j)["cpu"] == pytest.approx(60.0)


def test_the_whole_machine_is_not_added_to_its_parts() -> None:
    series = [gauge([30.0] * 60), gauge([100.0] * 60, part="system")]
    energy = energy_of_run(
        series, sent_at=1.0, first_token_at=None, ended_at=5.0, prompt_tokens=1, output_tokens=1, idle_power_w=None
    )
    assert energy is not None
    assert energy.gross_j == pytest.approx(120.0)
    assert energy.system_gross_j == pytest.approx(400.0)
    assert energy.net_j is None  # idle was not measured
    assert energy.prefill_net_j is None
    alone = energy_of_run(
        series[1:], sent_at=1.0, first_token_at=None, ended_at=5.0, prompt_tokens=1, output_tokens=1, idle_power_w=10.0
    )
    assert alone is not None
    assert alone.net_j == pytest.approx(360.0)


def test_short_phases_have_no_figure_of_their_own() -> None:
    energy = energy_of_run(
        [gauge([50.0] * 60)],
        sent_at=1.0,
        first_token_at=1.1,
        ended_at=3.0,
        prompt_tokens=10,
        output_tokens=10,
        idle_power_w=5.0,
    )
    assert energy is not None
    assert energy.prefill_net_j is None
    assert energy.net_j_per_prompt_token is None
    assert energy.decode_net_j == pytest.approx(45 * 1.9)
    gone = energy_of_run(
        [], sent_at=1.0, first_token_at=1.1, ended_at=3.0, prompt_tokens=1, output_tokens=1, idle_power_w=None
    )
    assert gone is None
