"""The requests of a stage -> its figures. Pure.

    offered      requests sent / span
    achieved     requests that finished within the span / span
    waiting      TTFT - median TTFT of requests one at a time: what queueing and sharing the machine add
    in flight    requests sent and not ended, averaged over the span, and the most at once
    goodput      share of all requests sent that met every target; rate of those that also finished within the span

Percentiles are values that were measured (nearest rank), over all requests that did not fail. One that was cut off
counts as slower than every other: leaving it out would make an overloaded server look fast. A percentile that falls
among those is None: it lies beyond what was waited for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.traffic_records import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.goodput import LatencyTargets
    from lmstrix.core.benchmark.traffic_records import ServedRequest, TrafficStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Of `count` requests, `beyond` of which were cut off; a percentile that falls among those is None."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None
    beyond: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFigures:
    """One stage in figures. `open_at_end` counts requests that had not ended when the span was over, `unfinished`
    those of them that were cut off later. `good` None: there are no targets. `offered_per_s` None: one at a time.
    """

    sent: int
    finished: int
    failed: int
    unfinished: int
    open_at_end: int
    offered_per_s: float | None
    achieved_per_s: float
    output_tokens_per_second: float | None
    ttft_s: Percentiles | None
    itl_s: Percentiles | None
    e2e_s: Percentiles | None
    waiting_s: Percentiles | None
    in_flight_mean: float
    in_flight_most: int
    sent_late_most_s: float
    good: int | None = None
    goodput_ratio: float | None = None
    goodput_per_s: float | None = None


def stage_figures(stage: TrafficStage, targets: LatencyTargets, *, alone_ttft_s: float | None) -> StageFigures:
    """The figures of one stage; `alone_ttft_s` is the median TTFT of requests one at a time."""
    requests, span_s = stage.requests, stage.span_s
    in_span = [one for one in requests if one.outcome == "ok" and one.ended_s <= span_s]
    good = [one for one in requests if is_good(one, targets)] if targets else None
    ttft = _times(requests, [one.ttft_s for one in requests])
    waiting = [max(0.0, seconds - alone_ttft_s) for seconds in ttft] if alone_ttft_s is not None else []
    tokens = [one.tokens_in_span for one in requests if one.tokens_in_span is not None]
    mean, most = in_flight(requests, span_s)
    return StageFigures(
        sent=len(requests),
        finished=sum(one.outcome == "ok" for one in requests),
        failed=sum(one.outcome not in ("ok", UNFINISHED) for one in requests),
        unfinished=sum(one.outcome == UNFINISHED for one in requests),
        open_at_end=sum(one.ended_s > span_s for one in requests),
        offered_per_s=None if stage.rate_per_s is None else _per_s(len(requests), span_s),
        achieved_per_s=_per_s(len(in_span), span_s),
        output_tokens_per_second=_per_s(sum(tokens), span_s) if tokens else None,
        ttft_s=percentiles(ttft),
        # Of an answer that was cut off the gaps are not known, and they need not have been long.
        itl_s=percentiles([one.itl_s for one in requests if one.outcome == "ok" and one.itl_s is not None]),
        e2e_s=percentiles(_times(requests, [one.e2e_s for one in requests])),
        waiting_s=percentiles(waiting) if stage.rate_per_s is not None else None,
        in_flight_mean=mean,
        in_flight_most=most,
        sent_late_most_s=max((one.sent_s - one.due_s for one in requests), default=0.0),
        good=None if good is None else len(good),
        goodput_ratio=len(good) / len(requests) if good is not None and requests else None,
        goodput_per_s=None if good is None else _per_s(sum(one.ended_s <= span_s for one in good), span_s),
    )


def is_good(request: ServedRequest, targets: LatencyTargets) -> bool:
    """Whether it met all targets. One that failed, or did not finish, meets none."""
    return request.outcome == "ok" and targets.met_by(ttft_s=request.ttft_s, itl_s=request.itl_s, e2e_s=request.e2e_s)


def alone_ttft_s(stages: Sequence[TrafficStage]) -> float | None:
    """The median time to the first token of the requests that were made one at a time."""
    alone = [one.ttft_s for stage in stages if stage.rate_per_s is None for one in stage.requests]
    known = [seconds for seconds in alone if seconds is not None]
    return median(known) if known else None


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """Nearest ranks; an infinite value is one that was cut off. None for no values."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p90, p99 = (ordered[math.ceil(percent * len(values) / 100) - 1] for percent in (50, 90, 99))
    return Percentiles(
        count=len(values),
        p50=_finite(p50),
        p90=_finite(p90),
        p99=_finite(p99),
        beyond=sum(math.isinf(value) for value in values),
    )


def in_flight(requests: Sequence[ServedRequest], span_s: float) -> tuple[float, int]:
    """How many requests were sent and not ended within the span: on average over time, and most at once."""
    changes = [(one.sent_s, 1) for one in requests if one.sent_s < span_s]
    changes += [(one.ended_s, -1) for one in requests if one.sent_s < span_s]
    now = most = 0
    # An end goes before a beginning at the same moment: the one made place for the other.
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    busy_s = sum(min(one.ended_s, span_s) - one.sent_s for one in requests if one.sent_s < span_s)
    return (busy_s / span_s if span_s > 0 else 0.0), most


def _times(requests: Sequence[ServedRequest], measured: Sequence[float | None]) -> list[float]:
    """The times of requests that did not fail; one that was cut off before it had this time has an infinite one."""
    times: list[float] = []
    for one, seconds in zip(requests, measured, strict=True):
        if seconds is not None and one.outcome in ("ok", UNFINISHED):
            times.append(seconds)
        elif one.outcome == UNFINISHED:
            times.append(math.inf)
    return times


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def _per_s(count: int, span_s: float) -> float:
    return count / span_s if span_s > 0 else 0.0
