"""Goodput: which requests met every latency target they were to meet. Pure.

A request that failed, or had not finished when the test stopped waiting for it, meets none.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.core.benchmark.traffic_records import ServedRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTargets:
    """The longest that is good: to the first token, between tokens (the mean of a request), to the end of the answer.

    None sets no target.
    """

    ttft_s: float | None = None
    itl_s: float | None = None
    e2e_s: float | None = None

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.ttft_s, self.itl_s, self.e2e_s))


def is_good(request: ServedRequest, targets: LatencyTargets) -> bool:
    """Whether it finished and met all targets. What could not be measured of it (one token has no gap) breaks none."""
    if request.outcome != "ok":
        return False
    limits = [(getattr(targets, one.name), getattr(request, one.name)) for one in fields(LatencyTargets)]
    return all(limit is None or measured is None or measured <= limit for limit, measured in limits)
