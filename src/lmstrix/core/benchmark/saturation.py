"""Whether a server keeps up with the traffic of a stage, and which rate a sweep tries next. Pure.

A server that keeps up reaches a steady state: answers take as long at the end of the span as in its middle. One that
does not has a queue that only grows. So a stage is saturated where too many requests are not answered when the span is
over *and* the last third took longer than the middle third (one-sided Mann-Whitney U; the first third, while the
queue fills up to its steady length, is left out). Also where too many were open to send more, or requests failed too
often, or did not finish in as long again.

Traded away: near saturation queues are long and slow to settle, and a span of a minute cannot tell such a rate from one
a little above. The bound on how many may be open keeps what is merely busy from being called saturated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.stats import mann_whitney_u
from lmstrix.core.benchmark.traffic_records import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.traffic_records import ServedRequest, TrafficStage

NEVER_S = 1e12  # of an answer that was cut off: beyond every real one, and still a number


@dataclass(frozen=True, slots=True, kw_only=True)
class SaturationLimits:
    """From where on a stage is saturated, and how a sweep goes up."""

    open_ratio: float = 0.10  # of the requests sent; fewer are in flight at any moment of a steady state worth having
    failed_ratio: float = 0.10  # servers refuse what they cannot queue
    p_value: float = 0.05  # one-sided
    first_ratio: float = 0.5  # of the rate that one at a time comes to: surely below saturation, even with one slot
    step: float = 1.5  # about six rates per tenfold: the knee is found to within half
    most_rates: int = 12  # up to 43 times one at a time; servers that serve more need a rate by hand


LIMITS = SaturationLimits()


def saturation(stage: TrafficStage) -> str | None:
    """Why the server did not keep up with the stage, in words; None where it did."""
    requests = stage.requests
    if not requests or stage.rate_per_s is None or stage.interrupted:
        return None
    if stage.cut is not None:
        return stage.cut
    if stage.not_sent:
        return f"{stage.not_sent} more requests were due than could be open at once"
    failed = sum(one.outcome not in ("ok", UNFINISHED) for one in requests)
    if failed > LIMITS.failed_ratio * len(requests):
        return f"{failed} of {len(requests)} requests failed"
    unfinished = sum(one.outcome == UNFINISHED for one in requests)
    if unfinished:
        return f"{unfinished} of {len(requests)} requests did not finish"
    open_at_end = sum(one.ended_s > stage.span_s for one in requests)
    if open_at_end > LIMITS.open_ratio * len(requests) and _grows(requests):
        return f"answers took longer and longer; {open_at_end} of {len(requests)} were open when the span ended"
    return None


def _grows(requests: Sequence[ServedRequest]) -> bool:
    ordered = [one.e2e_s if one.e2e_s is not None else NEVER_S for one in sorted(requests, key=lambda r: r.sent_s)]
    third = len(ordered) // 3
    earlier, later = ordered[third : 2 * third], ordered[len(ordered) - third :]
    test = mann_whitney_u(later, earlier)
    # Half of the two-sided value, where the later ones are the longer ones.
    return test is not None and test.u > third * third / 2 and test.p_value / 2 < LIMITS.p_value


def next_rate(alone_per_s: float, stages: Sequence[TrafficStage]) -> float | None:
    """The rate a sweep tries after these stages; None when it is done."""
    made = [stage for stage in stages if stage.rate_per_s is not None]
    if not made:
        return LIMITS.first_ratio * alone_per_s
    last = made[-1]
    if last.rate_per_s is None or saturation(last) is not None or len(made) >= LIMITS.most_rates:
        return None
    return last.rate_per_s * LIMITS.step
