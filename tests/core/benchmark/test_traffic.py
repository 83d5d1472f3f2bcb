"""Traffic in virtual time, against a server whose capacity is known: what is sent, found, said, and kept."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.benchmark import saturation
from lmstrix.core.benchmark.arrivals import poisson_arrivals
from lmstrix.core.benchmark.goodput import LatencyTargets
from lmstrix.core.benchmark.records import BenchRequest, from_json
from lmstrix.core.benchmark.traffic import TrafficTest
from lmstrix.core.benchmark.traffic_figures import alone_ttft_s, in_flight, is_good, percentiles, stage_figures
from lmstrix.core.benchmark.traffic_records import ServedRequest, TrafficReport, TrafficRequest
from lmstrix.core.benchmark.traffic_sending import LIMITS as SENDING
from lmstrix.ground.errors import BackendUnavailableError, GenerationError, UsageError
from lmstrix.reports.traffic.view import traffic_json
from tests.core.benchmark.fakes import target
from tests.core.benchmark.traffic_fakes import QueueingServer
from tests.support.virtual_time import run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.benchmark.traffic_events import TrafficEvent
    from lmstrix.core.benchmark.traffic_records import TrafficStage

ASKED = BenchRequest(max_tokens=4, concurrency=(1,))
TARGETS = LatencyTargets(ttft_s=1.0, itl_s=0.2)


def traffic(
    server: QueueingServer, request: TrafficRequest, *, on_event: Callable[[TrafficEvent], None] | None = None
) -> TrafficReport:
    async def run(clock: Callable[[], float]) -> TrafficReport:
        return await TrafficTest(server.server(), [target("m")], request, on_event=on_event, clock=clock).run()

    return run_virtually(run)


def served(sent_s: float, e2e_s: float, *, outcome: str = "ok") -> ServedRequest:
    done = outcome == "ok"
    return ServedRequest(
        due_s=sent_s,
        sent_s=sent_s,
        ended_s=sent_s + e2e_s,
        ttft_s=e2e_s / 2 if done else None,
        e2e_s=e2e_s if done else None,
        outcome=outcome,
    )


# Arrivals


@given(rate=st.floats(0.01, 50), span_s=st.floats(0.1, 60), seed=st.integers(0, 2**32 - 2))
def test_arrivals_rise_within_the_span_and_come_again_with_the_seed(rate: float, span_s: float, seed: int) -> None:
    arrivals = poisson_arrivals(rate, span_s, seed=seed)
    assert list(arrivals) == sorted(arrivals)
    assert all(0 <= at < span_s for at in arrivals)
    assert arrivals == poisson_arrivals(rate, span_s, seed=seed)
    # Sent longer, the same requests come first.
    assert poisson_arrivals(rate, 2 * span_s, seed=seed)[: len(arrivals)] == arrivals


@given(rate=st.floats(0.5, 20), seed=st.integers(0, 1000))
def test_arrivals_are_poisson(rate: float, seed: int) -> None:
    """As many as the rate says, with gaps whose spread is their mean: evenly spaced ones would have none."""
    arrivals = poisson_arrivals(rate, 2000 / rate, seed=seed)
    assert len(arrivals) == pytest.approx(2000, rel=0.15)
    gaps = [after - before for before, after in pairwise(arrivals)]
    mean = fmean(gaps)
    spread = fmean((gap - mean) ** 2 for gap in gaps) ** 0.5
    assert spread / mean == pytest.approx(1, abs=0.2)


# Figures


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=300), st.integers(0, 50))
def test_percentiles_are_measured_values_and_cut_off_requests_lie_beyond(values: list[float], cut: int) -> None:
    found = percentiles([*values, *[float("inf")] * cut])
    assert found is not None
    assert (found.count, found.beyond) == (len(values) + cut, cut)
    for percent, value in ((50, found.p50), (90, found.p90), (99, found.p99)):
        needed = percent * found.count / 100
        if value is None:
            assert len(values) < needed
        else:
            assert value in values
            assert sum(one <= value for one in values) >= needed > sum(one < value for one in values)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 20)), min_size=1, max_size=40))
def test_in_flight_is_littles_law(spans: list[tuple[float, float]]) -> None:
    requests = [served(sent_s, e2e_s) for sent_s, e2e_s in spans]
    mean, most = in_flight(requests, 10.0)
    inside = sum(max(0.0, min(10.0, sent_s + e2e_s) - sent_s) for sent_s, e2e_s in spans)
    assert mean == pytest.approx(inside / 10.0)
    assert 0 <= mean <= most + 1e-9
    assert most <= len(requests)


@given(ttft_s=st.floats(0, 10), itl_s=st.none() | st.floats(0, 10), e2e_s=st.floats(0, 100))
def test_goodput_asks_for_all_targets(ttft_s: float, itl_s: float | None, e2e_s: float) -> None:
    request = replace(served(0.0, 1.0), ttft_s=ttft_s, itl_s=itl_s, e2e_s=e2e_s)
    targets = LatencyTargets(ttft_s=1.0, itl_s=0.05, e2e_s=20.0)
    met = ttft_s <= 1.0 and (itl_s is None or itl_s <= 0.05) and e2e_s <= 20.0
    assert is_good(request, targets) == met
    assert is_good(request, LatencyTargets())
    for outcome in ("unfinished", "prefill failed"):
        assert not is_good(replace(request, outcome=outcome), LatencyTargets())


# Whole tests


def test_a_rate_below_capacity_is_served_and_told() -> None:
    server = QueueingServer(slots=2)
    request = TrafficRequest(rates_per_s=(1.0,), span_s=60.0, targets=TARGETS, bench=replace(ASKED, concurrency=(2,)))
    report = traffic(server, request)
    (result,) = report.results
    assert result.outcome == "ok"
    alone, stage = result.stages
    assert (alone.rate_per_s, len(alone.requests)) == (None, SENDING.alone_requests)
    assert [one.sent_s for one in stage.requests] == pytest.approx(poisson_arrivals(1.0, 60.0, seed=0))
    figures = stage_figures(stage, TARGETS, alone_ttft_s=alone_ttft_s(result.stages))
    assert figures.offered_per_s == len(stage.requests) / 60
    assert figures.achieved_per_s == pytest.approx(figures.offered_per_s, abs=2 / 60)
    assert figures.output_tokens_per_second == pytest.approx(4 * figures.achieved_per_s, abs=8 / 60)
    assert figures.ttft_s is not None
    assert figures.ttft_s.p50 == pytest.approx(0.3, abs=0.1)
    assert figures.waiting_s is not None
    assert figures.ttft_s.p50 is not None
    assert figures.waiting_s.p50 == pytest.approx(figures.ttft_s.p50 - 0.3)
    assert figures.itl_s is not None
    assert figures.itl_s.p99 == pytest.approx(0.1)
    assert figures.goodput_ratio is not None
    assert figures.goodput_ratio > 0.9
    assert (figures.failed, figures.unfinished) == (0, 0)
    assert saturation.saturation(stage) is None
    ((_, config),) = server.loaded.items()
    assert config.parallel_slots == 2
    assert server.unloaded == list(server.loaded)
    assert from_json(TrafficReport, json.loads(json.dumps(traffic_json(report)))) == report


def test_no_prompt_is_sent_twice() -> None:
    server = QueueingServer(slots=8)
    traffic(server, TrafficRequest(rates_per_s=(2.0,), bench=replace(ASKED, tiers=(512,))))
    prompts = [request.messages[0].text for request in server.asked]
    assert len({prompt[:12] for prompt in prompts}) == len(prompts) > 30


def test_a_rate_above_capacity_is_saturated_and_what_did_not_finish_is_counted() -> None:
    server = QueueingServer(slots=1)
    request = TrafficRequest(rates_per_s=(3 * server.capacity_per_s,), span_s=60.0, targets=TARGETS, bench=ASKED)
    (result,) = traffic(server, request).results
    stage = result.stages[1]
    figures = stage_figures(stage, TARGETS, alone_ttft_s=alone_ttft_s(result.stages))
    assert figures.achieved_per_s == pytest.approx(server.capacity_per_s, rel=0.05)
    assert figures.sent == figures.finished + figures.unfinished
    assert figures.unfinished > 0.2 * figures.sent
    assert figures.e2e_s is not None
    assert (figures.e2e_s.p99, figures.e2e_s.beyond) == (None, figures.unfinished)
    assert figures.goodput_ratio is not None
    assert figures.goodput_ratio < 0.1
    assert "did not finish" in (saturation.saturation(stage) or "")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("load", "saturated"), [(0.5, False), (0.7, False), (1.3, True), (2.0, True)])
def test_saturation_is_found_on_both_sides_of_capacity(load: float, saturated: bool, seed: int) -> None:
    server = QueueingServer(slots=2)
    bench = replace(ASKED, concurrency=(2,), seed=seed)
    request = TrafficRequest(rates_per_s=(load * server.capacity_per_s,), span_s=60.0, bench=bench)
    (result,) = traffic(server, request).results
    assert (saturation.saturation(result.stages[1]) is not None) == saturated


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 4, 16])
def test_a_sweep_goes_from_one_at_a_time_to_saturation(slots: int) -> None:
    server = QueueingServer(slots=slots)
    (result,) = traffic(server, TrafficRequest(sweep=True, bench=ASKED)).results
    rates = [stage.rate_per_s for stage in result.stages[1:]]
    alone_per_s = 1 / (server.prefill_s + 4 * server.token_s)
    assert rates[0] == pytest.approx(saturation.LIMITS.first_ratio * alone_per_s)
    judged = [saturation.saturation(stage) for stage in result.stages[1:]]
    assert [one is not None for one in judged] == [False] * (len(rates) - 1) + [True]
    assert rates[-1] is not None
    assert 0.6 * server.capacity_per_s < rates[-1] < 2.2 * server.capacity_per_s


def test_a_flood_is_held_back_and_still_tells_what_the_server_can() -> None:
    server = QueueingServer(slots=2)
    (result,) = traffic(server, TrafficRequest(rates_per_s=(50.0,), span_s=60.0, bench=ASKED)).results
    stage = result.stages[1]
    figures = stage_figures(stage, TARGETS, alone_ttft_s=None)
    assert figures.in_flight_most == SENDING.most_open
    assert stage.span_s == 60.0
    assert len(stage.requests) + stage.not_sent == len(poisson_arrivals(50.0, 60.0, seed=0))
    assert figures.achieved_per_s == pytest.approx(server.capacity_per_s, rel=0.05)
    assert "more requests were due" in (saturation.saturation(stage) or "")


def test_a_budget_ends_before_a_stage_that_would_not_end_in_it() -> None:
    request = TrafficRequest(rates_per_s=(1.0, 2.0), span_s=30.0, bench=replace(ASKED, budget_s=100.0))
    (result,) = traffic(QueueingServer(slots=4), request).results
    assert [stage.rate_per_s for stage in result.stages] == [None, 1.0, 2.0]
    (result,) = traffic(QueueingServer(slots=4), replace(request, bench=replace(ASKED, budget_s=70.0))).results
    assert [stage.rate_per_s for stage in result.stages] == [None, 1.0]
    assert result.notes == ("not reached: 2 per second: the time budget was spent",)
    (result,) = traffic(QueueingServer(slots=4), replace(request, bench=replace(ASKED, budget_s=40.0))).results
    assert result.outcome == "not reached"
    slow = QueueingServer(prefill_s=20.0)
    (result,) = traffic(slow, replace(request, bench=replace(ASKED, budget_s=30.0))).results
    assert len(slow.asked) == 2  # the warm-up, and the one that was under way


def test_a_server_that_fails_is_said_and_unloaded() -> None:
    server = QueueingServer(slots=4, fails_from=9, failure=BackendUnavailableError("gone"))
    (result,) = traffic(server, TrafficRequest(rates_per_s=(1.0, 2.0), bench=ASKED)).results
    assert "gone" in result.reason
    assert result.outcome not in ("ok", "not reached")
    assert len(result.stages) == 2
    assert "the model is gone" in (result.stages[1].cut or "")
    assert server.unloaded
    early = QueueingServer(fails_from=1, failure=GenerationError("no template"))
    (result,) = traffic(early, TrafficRequest(rates_per_s=(1.0,), bench=ASKED)).results
    assert (result.reason, result.stages) == ("no template", ())


def test_an_interrupt_keeps_what_was_measured_and_unloads() -> None:
    server = QueueingServer(slots=1)

    async def run(clock: Callable[[], float]) -> TrafficReport:
        test = TrafficTest(
            server.server(), [target("m"), target("n")], TrafficRequest(rates_per_s=(5.0,), bench=ASKED), clock=clock
        )
        running = asyncio.create_task(test.run())
        await asyncio.sleep(15.0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return test.report()

    report = run_virtually(run)
    assert report.interrupted
    assert [result.outcome for result in report.results] == ["interrupted", "interrupted"]
    stage: TrafficStage = report.results[0].stages[-1]
    assert stage.interrupted
    assert {one.outcome for one in stage.requests} == {"ok", "unfinished"}
    assert saturation.saturation(stage) is None
    assert len(server.unloaded) == 1


def test_what_makes_no_sense_is_refused() -> None:
    server = QueueingServer().server()
    for request in (
        TrafficRequest(),
        TrafficRequest(rates_per_s=(1.0,), sweep=True),
        TrafficRequest(sweep=True, bench=replace(ASKED, concurrency=(1, 2))),
        TrafficRequest(sweep=True, bench=replace(ASKED, tiers=(0, 512))),
    ):
        with pytest.raises(UsageError):
            TrafficTest(server, [target("m")], request)
