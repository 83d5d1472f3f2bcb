"""How models were used in a span of time, and in the equally long one before it. Pure.

A percentile is over the calls that succeeded and measured the figure; of a speed the 5th, which 95 in 100 calls reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.stats import percentile
from lmstrix.core.history.trends import Trend, trend_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFigures:
    """What one call measured."""

    model_path: str
    model_key: str
    called_at: datetime
    outcome: str
    ttft_s: float | None
    total_s: float | None
    decode_tokens_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage:
    """One model's calls in a span; what ends in `_before` is of the span before it."""

    model_path: str
    model_key: str
    calls: int
    failures: int
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    total_p50_s: float | None
    total_p95_s: float | None
    decode_p50_tokens_per_second: float | None
    decode_p05_tokens_per_second: float | None
    last_called_at: datetime
    calls_before: int
    failures_before: int
    ttft_p50_before_s: float | None
    decode_p50_before_tokens_per_second: float | None
    ttft_trend: Trend
    decode_trend: Trend


def usage_of(calls: Iterable[CallFigures], since: datetime) -> list[ModelUsage]:
    """Each model's use since a moment, most used first; older calls are those of the span before."""
    by_model: dict[str, list[CallFigures]] = {}
    for call in calls:
        by_model.setdefault(call.model_path, []).append(call)
    used = [_usage(each, since) for each in by_model.values()]
    return sorted(used, key=lambda usage: (-usage.calls, usage.model_path))


def _usage(calls: Sequence[CallFigures], since: datetime) -> ModelUsage:
    now, before = [c for c in calls if c.called_at >= since], [c for c in calls if c.called_at < since]
    good, good_before = _good(now), _good(before)
    newest = max(calls, key=lambda call: call.called_at)
    ttft = _waits(good)
    total = [c.total_s for c in good if c.total_s is not None]
    return ModelUsage(
        model_path=newest.model_path,
        model_key=newest.model_key,
        calls=len(now),
        failures=len(now) - len(good),
        ttft_p50_s=percentile(ttft, 0.5),
        ttft_p95_s=percentile(ttft, 0.95),
        total_p50_s=percentile(total, 0.5),
        total_p95_s=percentile(total, 0.95),
        decode_p50_tokens_per_second=percentile(_speeds(good), 0.5),
        decode_p05_tokens_per_second=percentile(_speeds(good), 0.05),
        last_called_at=newest.called_at,
        calls_before=len(before),
        failures_before=len(before) - len(good_before),
        ttft_p50_before_s=percentile(_waits(good_before), 0.5),
        decode_p50_before_tokens_per_second=percentile(_speeds(good_before), 0.5),
        ttft_trend=trend_of(ttft, _waits(good_before)),
        decode_trend=trend_of(_speeds(good), _speeds(good_before)),
    )


def _good(calls: Iterable[CallFigures]) -> list[CallFigures]:
    return [call for call in calls if call.outcome == "ok"]


def _waits(calls: Iterable[CallFigures]) -> list[float]:
    return [c.ttft_s for c in calls if c.ttft_s is not None]


def _speeds(calls: Iterable[CallFigures]) -> list[float]:
    return [c.decode_tokens_per_second for c in calls if c.decode_tokens_per_second is not None]
