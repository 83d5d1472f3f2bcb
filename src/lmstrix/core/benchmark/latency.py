"""What a server takes for one token after an almost empty prompt, and whether a prefill stands out from it. Pure.

A prefill rate divides by the difference of two times: to the first token of a prompt, and of an almost empty one. Both
scatter alike. Where the difference is not several times the scatter of the probes, or a small part of the latency, the
rate would be noise: it is left out, and a mark says why.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.benchmark.records import Mark, RequestFigures
from lmstrix.core.benchmark.stats import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBES_FIRST = 3
"""Probes before the first run of a visit: fewer have no scatter. One more comes before each later run."""
_LEAST_PREFILL_SHARE = 1.0  # of the latency, which holds one pass of the model: the rate is twice the truth at most
_LEAST_SCATTERS = 10.0  # of a single time: the rate is then right within a tenth two times in three
_QUARTILES_PER_SIGMA = 1.349  # how far the quartiles of a normal distribution lie apart
_FEW_PROBES = 6.0  # three that agree by chance must not pass for a quiet machine: the scatter of few counts more


class Latency(NamedTuple):
    """The median of the probes, and what one of them is off by as a standard deviation; None for too few."""

    median_s: float
    scatter_s: float | None


def latency_of(probes_s: Sequence[float]) -> Latency | None:
    """What probes come to; quartiles, because one of them may have met something else that ran."""
    if not probes_s:
        return None
    lower, upper = percentile(probes_s, 0.25), percentile(probes_s, 0.75)
    if lower is None or upper is None or len(probes_s) < PROBES_FIRST:
        return Latency(median(probes_s), None)
    doubt = 1 + _FEW_PROBES / len(probes_s)
    return Latency(median(probes_s), doubt * (upper - lower) / _QUARTILES_PER_SIGMA)


def prefill_s(ttft_s: float, latency: Latency | None) -> float | None:
    """What reading the prompt took; None where it cannot be told from the latency."""
    if latency is None:
        return ttft_s if ttft_s > 0 else None
    rest_s = ttft_s - latency.median_s
    least_s = max(_LEAST_PREFILL_SHARE * latency.median_s, _LEAST_SCATTERS * (latency.scatter_s or 0.0))
    return rest_s if rest_s > least_s else None


def prefill_mark(figures: RequestFigures, latency: Latency | None) -> Mark | None:
    """Why a request that read a prompt has no prefill rate; None where it has one, or where nothing was read."""
    fresh = (figures.prompt_tokens or 0) - (figures.cached_tokens or 0)
    if figures.ttft_s is None or latency is None or fresh <= 0 or figures.prefill_tokens_per_second is not None:
        return None
    rest_s = figures.ttft_s - latency.median_s
    took = f"took {rest_s * 1000:.1f} ms longer than" if rest_s > 0 else "took no longer than"
    scatter = f" ± {latency.scatter_s * 1000:.1f}" if latency.scatter_s is not None else ""
    return Mark(
        kind="prefill unclear",
        text=f"the first token {took} after an almost empty prompt ({latency.median_s * 1000:.1f}{scatter} ms): "
        "too little to tell a prefill speed; a longer prompt has one",
    )
