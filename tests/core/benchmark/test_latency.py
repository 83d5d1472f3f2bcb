"""When a prefill speed can be told, and what is said where it cannot."""

from __future__ import annotations

import random

import pytest

from lmstrix.core.benchmark.latency import Latency, latency_of, prefill_mark, prefill_s
from lmstrix.core.benchmark.records import RequestFigures


def test_scatter_needs_three_probes_and_forgives_one_that_met_something() -> None:
    assert latency_of([]) is None
    assert latency_of([0.01, 0.02]) == (0.015, None)
    quiet = latency_of([0.010, 0.0101, 0.0099, 0.010, 0.0102, 0.300])
    assert quiet is not None
    assert quiet.median_s == pytest.approx(0.010, rel=0.02)
    assert quiet.scatter_s is not None
    assert quiet.scatter_s < 0.001


@pytest.mark.parametrize(
    ("ttft_s", "latency", "told"),
    [
        (0.0245, Latency(0.010, 0.002), None),  # a difference of two times that scatter as much
        (0.0245, Latency(0.010, 0.0002), 0.0145),
        (0.0245, Latency(0.010, None), 0.0145),
        (0.0153, Latency(0.010, 0.0), None),  # 2.9 times the truth, were the latency all the model's pass
        (0.500, Latency(0.010, 0.002), 0.490),
        (0.500, None, 0.500),
    ],
)
def test_a_prefill_is_told_where_it_stands_out(ttft_s: float, latency: Latency | None, told: float | None) -> None:
    assert prefill_s(ttft_s, latency) == (None if told is None else pytest.approx(told))


@pytest.mark.parametrize("scatter_s", [0.0001, 0.0005, 0.001, 0.002, 0.005])
@pytest.mark.parametrize("probes", [3, 6])
def test_what_is_told_is_near_the_truth(scatter_s: float, probes: int) -> None:
    """A prefill of 5 ms behind a latency of 4 ms, both seen through noise: told on a quiet machine, else left out."""
    rng = random.Random(1)
    ratios = []
    for _ in range(1000):
        latency = latency_of([0.004 + rng.gauss(0, scatter_s) for _ in range(probes)])
        told = prefill_s(0.009 + rng.gauss(0, scatter_s), latency)
        ratios += [] if told is None else [told / 0.005]
    assert sum(not 1 / 1.5 < ratio < 1.5 for ratio in ratios) <= 20
    assert scatter_s > 0.0001 or len(ratios) >= 990


def test_the_reason_is_said() -> None:
    figures = RequestFigures(requested_tokens=8, prompt_tokens=30, ttft_s=0.0145)
    mark = prefill_mark(figures, Latency(0.010, 0.002))
    assert mark is not None
    assert mark.kind == "prefill unclear"
    assert "4.5 ms longer" in mark.text
    assert "10.0 ± 2.0 ms" in mark.text
    faster = prefill_mark(figures, Latency(0.020, None))
    assert faster is not None
    assert "no longer than" in faster.text
    told = RequestFigures(requested_tokens=8, prompt_tokens=30, ttft_s=0.5, prefill_tokens_per_second=61.0)
    assert prefill_mark(told, Latency(0.010, 0.002)) is None
    cached = RequestFigures(requested_tokens=8, prompt_tokens=30, cached_tokens=30, ttft_s=0.5)
    assert prefill_mark(cached, Latency(0.010, 0.002)) is None
