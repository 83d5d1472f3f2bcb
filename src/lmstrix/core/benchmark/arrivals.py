"""When requests of a given rate arrive: a Poisson process, the same for the same seed. Pure.

Users come independently of each other and of how busy the server is, so the gaps between them are exponential and no
arrival waits for an answer. Evenly spaced requests would hide queueing: at the same rate they never come in clusters.
"""

from __future__ import annotations

import random


def poisson_arrivals(rate_per_s: float, span_s: float, *, seed: int) -> tuple[float, ...]:
    """The moments, in seconds from 0 up to before `span_s`, at which requests arrive; rising."""
    # The rate is part of the seed: else two rates of one test would have the same clusters, only stretched.
    gaps = random.Random(f"{seed} {rate_per_s!r}")
    arrivals: list[float] = []
    at = gaps.expovariate(rate_per_s)
    while at < span_s:
        arrivals.append(at)
        at += gaps.expovariate(rate_per_s)
    return tuple(arrivals)
