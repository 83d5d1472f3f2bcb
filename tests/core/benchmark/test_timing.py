"""Figures from raw moments, against arithmetic done by hand."""

from __future__ import annotations

import pytest

from lmstrix.core.benchmark.latency import Latency
from lmstrix.core.benchmark.timing import MOST_CHUNKS_KEPT, MOST_TEXT_KEPT, Trace, figures_of
from lmstrix.ground.types import GenerationResult, GenerationStats


def trace(
    *,
    chunk_at: list[float],
    chunk_tokens: list[int],
    completion_tokens: int | None,
    prompt_tokens: int | None = 1000,
    cached_tokens: int | None = 0,
    text: str = "answer",
) -> Trace:
    """Sent at 100 s; the first event after 10 ms, the answer proper with the second piece."""
    stats = GenerationStats(
        stop_reason="eosFound",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=cached_tokens,
    )
    return Trace(
        sent_at=100.0,
        first_event_at=100.01,
        first_answer_at=chunk_at[1] if len(chunk_at) > 1 else None,
        ended_at=chunk_at[-1] + 0.5 if chunk_at else 101.0,
        chunk_at=chunk_at,
        chunk_tokens=chunk_tokens,
        result=GenerationResult(text=text, stats=stats, model_key="m", instance_id="i"),
    )


def test_every_figure_by_its_definition() -> None:
    figures = figures_of(
        trace(chunk_at=[100.5, 100.6, 100.8, 101.1], chunk_tokens=[2, 1, 2, 1], completion_tokens=6),
        requested_tokens=6,
        latency=Latency(0.1, None),
    )
    assert figures.ttfr_s == pytest.approx(0.01)
    assert figures.ttft_s == pytest.approx(0.5)
    assert figures.ttfo_s == pytest.approx(0.6)
    assert figures.e2e_s == pytest.approx(1.6)
    assert figures.itl_s == pytest.approx(0.6 / 4)  # six tokens, two of them in the first piece
    assert figures.decode_tokens_per_second == pytest.approx(4 / 0.6)
    assert figures.prefill_tokens_per_second == pytest.approx(1000 / 0.4)
    assert figures.itl_p50_s == pytest.approx(0.1)  # of 0.1, 0.1, 0.1, 0.3
    assert figures.itl_p99_s == pytest.approx(0.3, rel=0.05)
    assert figures.chunk_at_s == pytest.approx((0.5, 0.6, 0.8, 1.1))


def test_cached_tokens_are_not_prefilled() -> None:
    cached = trace(chunk_at=[100.5, 101.0], chunk_tokens=[1, 1], completion_tokens=2, cached_tokens=600)
    assert figures_of(cached, requested_tokens=2).prefill_tokens_per_second == pytest.approx(400 / 0.5)


def test_one_piece_has_no_rate() -> None:
    figures = figures_of(trace(chunk_at=[100.5], chunk_tokens=[40], completion_tokens=40), requested_tokens=40)
    assert figures.decode_tokens_per_second is None
    assert figures.itl_s is None
    assert figures.ttft_s == pytest.approx(0.5)


def test_counts_of_the_server_win_over_pieces() -> None:
    """Two tokens a piece that say nothing of themselves: the rate counts them, the percentiles stay away."""
    figures = figures_of(
        trace(chunk_at=[100.5, 100.6, 100.7], chunk_tokens=[0, 0, 0], completion_tokens=7), requested_tokens=7
    )
    assert figures.decode_tokens_per_second == pytest.approx(6 / 0.2)
    assert figures.itl_p50_s is None


def test_pieces_without_counts_that_add_up_are_tokens() -> None:
    figures = figures_of(
        trace(chunk_at=[100.5, 100.6, 100.8], chunk_tokens=[0, 0, 0], completion_tokens=3), requested_tokens=3
    )
    assert figures.itl_p50_s == pytest.approx(0.15)


def test_nothing_is_zero_that_was_not_measured() -> None:
    figures = figures_of(Trace(sent_at=5.0), requested_tokens=8, outcome="timed out", failure="no answer")
    assert figures.failure == "no answer"
    measured = (figures.ttfr_s, figures.ttft_s, figures.ttfo_s, figures.e2e_s, figures.itl_s)
    assert measured == (None,) * 5
    assert figures.completion_tokens is None
    uncounted = trace(chunk_at=[100.5, 100.6], chunk_tokens=[1, 1], completion_tokens=None, prompt_tokens=None)
    figures = figures_of(uncounted, requested_tokens=8)
    assert figures.decode_tokens_per_second is None
    assert figures.prefill_tokens_per_second is None


def test_prefill_that_drowns_in_latency_is_left_out() -> None:
    short = trace(chunk_at=[100.11, 100.2], chunk_tokens=[1, 1], completion_tokens=2, prompt_tokens=20)
    assert figures_of(short, requested_tokens=2, latency=Latency(0.1, None)).prefill_tokens_per_second is None
    assert figures_of(
        short, requested_tokens=2, latency=Latency(0.01, None)
    ).prefill_tokens_per_second == pytest.approx(200)


def test_floods_are_cut_and_halves_of_characters_replaced() -> None:
    chunk_at = [100.5 + number / 1e6 for number in range(MOST_CHUNKS_KEPT + 5)]
    flood = trace(
        chunk_at=chunk_at,
        chunk_tokens=[1] * len(chunk_at),
        completion_tokens=len(chunk_at),
        text="\ud83d" + "x" * MOST_TEXT_KEPT * 2,
    )
    figures = figures_of(flood, requested_tokens=len(chunk_at))
    assert len(figures.chunk_at_s) == MOST_CHUNKS_KEPT
    assert figures.chunks == len(chunk_at)
    assert figures.answer_cut
    assert figures.answer.startswith("?x")
    assert figures.answer.encode("utf-8") == b"?" + b"x" * (MOST_TEXT_KEPT - 1)
