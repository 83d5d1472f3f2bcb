"""Goodput: the latencies a request is to keep to for its answer to be of use. Pure."""

from __future__ import annotations

from dataclasses import dataclass


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

    def met_by(self, *, ttft_s: float | None, itl_s: float | None, e2e_s: float | None) -> bool:
        """Whether a finished request met all of them. What it does not have (one token has no gap) breaks none."""
        pairs = ((self.ttft_s, ttft_s), (self.itl_s, itl_s), (self.e2e_s, e2e_s))
        return all(limit is None or measured is None or measured <= limit for limit, measured in pairs)
