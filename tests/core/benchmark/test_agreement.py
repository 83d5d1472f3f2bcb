"""Our figures beside the server's own clock: what agrees is quiet, what does not is marked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lmstrix.core.benchmark.agreement import agreements_of
from lmstrix.core.benchmark.machine_load import CpuUse
from lmstrix.core.benchmark.records import RequestFigures, RunRecord
from lmstrix.core.benchmark.suspicion import marks_of_cell, others_cores

QUIET = RequestFigures(
    requested_tokens=100,
    prompt_tokens=1000,
    cached_tokens=0,
    completion_tokens=100,
    ttft_s=0.5005,
    prefill_tokens_per_second=2005.0,
    decode_tokens_per_second=50.0,
    server_ttft_s=0.5,
    server_total_s=2.48,
    server_prefill_tokens_per_second=2000.0,
    server_decode_tokens_per_second=50.5,
)


def runs_of(
    *requests: RequestFigures, latency_s: float | None = None, cpu: CpuUse | None = None
) -> tuple[RunRecord, ...]:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return tuple(
        RunRecord(number=i, measured_at=moment, requests=(one,), span_s=2.5, latency_s=latency_s, cpu=cpu)
        for i, one in enumerate(requests)
    )


def disagreeing(figures: RequestFigures, *, is_remote: bool = False, latency_s: float | None = None) -> list[str]:
    found = agreements_of(runs_of(figures, latency_s=latency_s), is_remote=is_remote)
    return [one.figure for one in found if not one.agrees]


def test_a_quiet_machine_agrees() -> None:
    found = agreements_of(runs_of(QUIET, QUIET), is_remote=False)
    assert [one.figure for one in found] == ["ttft_s", "prefill_tokens_per_second", "decode_tokens_per_second"]
    assert all(one.agrees for one in found)
    assert found[0].off_ratio == pytest.approx(0.001)
    assert marks_of_cell(runs_of(QUIET), found) == ()


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"decode_tokens_per_second": 135.0}, "decode_tokens_per_second"),
        ({"decode_tokens_per_second": 48.0}, "decode_tokens_per_second"),
        ({"ttft_s": 0.52}, "ttft_s"),
        ({"prefill_tokens_per_second": 1900.0}, "prefill_tokens_per_second"),
    ],
)
def test_a_figure_that_departs_is_marked(changes: dict[str, float], figure: str) -> None:
    figures = replace(QUIET, **changes)  # type: ignore[arg-type]
    assert disagreeing(figures) == [figure]
    (mark,) = marks_of_cell((), agreements_of(runs_of(figures), is_remote=False))
    assert mark.kind == "server's clock"
    assert "by the server's own clock" in mark.text


def test_a_millisecond_is_the_way_itself() -> None:
    assert disagreeing(replace(QUIET, ttft_s=0.0029, server_ttft_s=0.002)) == []
    assert disagreeing(replace(QUIET, ttft_s=0.0031, server_ttft_s=0.002)) == ["ttft_s"]


def test_a_server_that_counts_the_first_token_into_its_rate_agrees() -> None:
    short = replace(QUIET, completion_tokens=5, decode_tokens_per_second=40.0, server_decode_tokens_per_second=50.0)
    assert disagreeing(short) == []
    assert disagreeing(replace(short, decode_tokens_per_second=37.0)) == ["decode_tokens_per_second"]


def test_the_way_to_a_remote_server_is_allowed_for() -> None:
    far = replace(QUIET, ttft_s=0.54)
    assert disagreeing(far, is_remote=True, latency_s=0.045) == []
    assert disagreeing(far, is_remote=False, latency_s=0.045) == ["ttft_s"]


@pytest.mark.parametrize("nothing", [None, 0.0, float("inf"), float("nan")])
def test_a_server_without_figures_is_not_judged(nothing: float | None) -> None:
    silent = replace(
        QUIET,
        server_ttft_s=nothing,
        server_prefill_tokens_per_second=nothing,
        server_decode_tokens_per_second=nothing,
    )
    assert agreements_of(runs_of(silent), is_remote=False) == ()


def test_one_starved_request_is_marked_though_the_medians_agree() -> None:
    """A client that was not let run for a moment gets the answer in one heap, which looks fast."""
    starved = replace(QUIET, ttft_s=0.7, decode_tokens_per_second=135.0)
    found = agreements_of(runs_of(QUIET, QUIET, starved), is_remote=False)
    assert found[0].off_ratio == pytest.approx(0.001)
    assert [(one.requests, one.apart) for one in found] == [(3, 1), (3, 0), (3, 1)]
    assert [mark.text for mark in marks_of_cell((), found)] == [
        "the first token came after 700.0 ms, by the server's own clock 500.0 ms (1 of 3 requests are apart)",
        "decode ran at 135.0 tokens/s, by the server's own clock at 50.5 (1 of 3 requests are apart)",
    ]


def test_requests_at_a_time_are_held_against_by_their_decode_rate_alone() -> None:
    (run,) = runs_of(QUIET)
    found = agreements_of((replace(run, requests=(QUIET, QUIET)),), is_remote=False)
    assert [one.figure for one in found] == ["decode_tokens_per_second"]


def test_a_busy_machine_is_marked() -> None:
    busy = runs_of(QUIET, cpu=CpuUse(engine_cores=1.9, others_cores=0.8))
    assert others_cores(busy) == pytest.approx(0.8)
    assert [mark.kind for mark in marks_of_cell(busy, ())] == ["busy machine"]
    assert marks_of_cell(runs_of(QUIET, cpu=CpuUse(engine_cores=1.9, others_cores=0.1)), ()) == ()
    assert others_cores(runs_of(QUIET)) is None


def test_long_runs_weigh_more_than_short_ones() -> None:
    short, long = runs_of(QUIET, QUIET, cpu=CpuUse(engine_cores=1.0, others_cores=0.0))
    short = replace(short, span_s=0.1, cpu=CpuUse(engine_cores=1.0, others_cores=2.0))
    assert others_cores((short, replace(long, span_s=9.9))) == pytest.approx(0.02)
