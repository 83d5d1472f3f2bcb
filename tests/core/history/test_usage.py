"""How models were used: percentiles of what succeeded, failures counted, the span before beside it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lmstrix.core.history import History
from lmstrix.core.history.calls import CallRecord
from lmstrix.core.history.trends import Trend
from lmstrix.core.history.usage import CallFigures, usage_of

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 31, tzinfo=UTC)
SINCE = NOW - timedelta(days=30)


def call(days_ago: float, *, speed: float | None = 10.0, ttft_s: float = 1.0, outcome: str = "ok") -> CallFigures:
    return CallFigures(
        model_path="a/x",
        model_key="x",
        called_at=NOW - timedelta(days=days_ago),
        outcome=outcome,
        ttft_s=ttft_s,
        total_s=2 * ttft_s,
        decode_tokens_per_second=speed,
    )


def test_percentiles_are_of_the_calls_that_succeeded() -> None:
    calls = [call(1, ttft_s=float(n), speed=100.0 - n) for n in range(101)]
    (usage,) = usage_of([*calls, call(2, ttft_s=1e6, speed=1e6, outcome="OutOfMemoryError")], SINCE)
    assert (usage.calls, usage.failures) == (102, 1)
    assert (usage.ttft_p50_s, usage.ttft_p95_s, usage.total_p95_s) == (50.0, 95.0, 190.0)
    assert (usage.decode_p50_tokens_per_second, usage.decode_p05_tokens_per_second) == (50.0, 5.0)


def test_the_span_before_shows_the_trend() -> None:
    (usage,) = usage_of([call(1, speed=20.0), call(40, speed=30.0), call(41, speed=None, outcome="failed")], SINCE)
    assert (usage.calls, usage.calls_before, usage.failures_before) == (1, 2, 1)
    assert (usage.decode_p50_tokens_per_second, usage.decode_p50_before_tokens_per_second) == (20.0, 30.0)


def test_a_trend_needs_calls_on_both_sides() -> None:
    def speeds(now: list[float], before: list[float]) -> Trend:
        calls = [*(call(1, speed=each) for each in now), *(call(40, speed=each) for each in before)]
        return usage_of(calls, SINCE)[0].decode_trend

    assert speeds([10.0] * 4, [20.0] * 9) == Trend(direction="too few", calls=4, calls_before=9)
    slower = speeds([10.0] * 5, [20.0] * 5)
    assert (slower.direction, slower.change_ratio) == ("down", -0.5)
    assert speeds([30.0] * 5, [20.0] * 5).direction == "up"
    assert speeds([21.0, 20.0, 500.0, 21.0, 1.0], [20.0] * 6).direction == "steady"  # single calls move no median


def test_waiting_has_a_trend_of_its_own() -> None:
    calls = [*(call(1, ttft_s=3.0) for _ in range(5)), *(call(40, ttft_s=1.0) for _ in range(5))]
    (usage,) = usage_of(calls, SINCE)
    assert (usage.ttft_trend.direction, usage.ttft_p50_before_s, usage.decode_trend.direction) == ("up", 1.0, "steady")


def test_statistics_of_all_calls_have_percentiles(tmp_path: Path) -> None:
    with History(tmp_path / "lmstrix.db") as history:
        for number in range(101):
            record = CallRecord(model_path="a/x", model_key="x", outcome="ok", prompt="hi", ttft_s=float(number))
            history.calls.add(replace(record, decode_tokens_per_second=float(number)), called_at=NOW)
        history.calls.add(
            CallRecord(model_path="a/x", model_key="x", outcome="failed", prompt="hi", ttft_s=1e6), called_at=NOW
        )
        (found,) = history.calls.statistics()
    assert (found.calls, found.failures, found.ttft_p50_s, found.ttft_p95_s) == (102, 1, 50.0, 95.0)
    assert (found.decode_p50_tokens_per_second, found.decode_p05_tokens_per_second) == (50.0, 5.0)


def test_what_was_not_measured_is_unknown() -> None:
    (usage,) = usage_of([call(40)], SINCE)
    assert (usage.calls, usage.ttft_p50_s, usage.decode_p50_tokens_per_second) == (0, None, None)


def test_the_log_gives_the_calls_since_a_moment(tmp_path: Path) -> None:
    record = CallRecord(model_path="a/x", model_key="x", outcome="ok", prompt="hi", ttft_s=1.0)
    with History(tmp_path / "lmstrix.db") as history:
        for days in (1, 40, 90):
            history.calls.add(record, called_at=NOW - timedelta(days=days))
        found = history.calls.figures(NOW - timedelta(days=60))
    assert [(NOW - figures.called_at).days for figures in found] == [40, 1]
    assert found[0].ttft_s == 1.0
