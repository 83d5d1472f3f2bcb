"""Reports of traffic in true words: what was saturated, what did not finish, what is not known; harmless."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from lmstrix.core.benchmark.goodput import LatencyTargets
from lmstrix.core.benchmark.records import BenchRequest, Cell
from lmstrix.core.benchmark.traffic_records import (
    ServedRequest,
    TrafficReport,
    TrafficRequest,
    TrafficResult,
    TrafficStage,
)
from lmstrix.reports.traffic.markdown import traffic_markdown
from lmstrix.reports.traffic.page import traffic_page
from lmstrix.reports.traffic.view import TrafficView
from tests.core.benchmark.fakes import target

STARTED = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def served(sent_s: float, e2e_s: float, **changes: object) -> ServedRequest:
    request = ServedRequest(
        due_s=sent_s, sent_s=sent_s, ended_s=sent_s + e2e_s, ttft_s=e2e_s / 2, itl_s=0.01, e2e_s=e2e_s,
        completion_tokens=10, tokens_in_span=10,
    )  # fmt: skip
    return replace(request, **changes)  # type: ignore[arg-type]


def stage(rate_per_s: float | None, *requests: ServedRequest) -> TrafficStage:
    return TrafficStage(rate_per_s=rate_per_s, started_at=STARTED, span_s=10.0, requests=requests)


def traffic(*stages: TrafficStage, key: str = "m", targets: LatencyTargets | None = None) -> TrafficReport:
    cell = Cell(target=target(key), tier_tokens=0, concurrency=4, max_tokens=16)
    return TrafficReport(
        session="s",
        started_at=STARTED,
        request=TrafficRequest(
            rates_per_s=(1.0, 2.0), targets=targets or LatencyTargets(), bench=BenchRequest(concurrency=(4,))
        ),
        results=(TrafficResult(cell=cell, outcome="ok", load_s=1.0, stages=stages),),
        server="embedded at 127.0.0.1:1",
    )


ALONE = stage(None, *(served(float(i), 0.4) for i in range(5)))
KEPT = stage(1.0, *(served(float(i), 0.5) for i in range(9)))
CUT = [ServedRequest(due_s=at, sent_s=at, ended_s=20.0, outcome="unfinished") for at in (5.0, 5.1, 5.2, 5.3, 5.4)]
SATURATED = stage(2.0, *(served(i / 4, 1.0) for i in range(20)), *CUT)


def test_what_did_not_finish_is_told_and_a_percentile_among_it_is_not_reached() -> None:
    view = TrafficView(traffic(ALONE, KEPT, SATURATED, targets=LatencyTargets(ttft_s=0.3)))
    alone, kept, saturated = view.stages
    assert (alone.state, kept.state) == ("-", "kept up")
    assert saturated.state == "saturated: 5 of 25 requests did not finish"
    assert saturated.row[5] == "500 ms, not reached, not reached"
    assert kept.row[10] == "100%, 0.900 per s"
    assert saturated.row[10] == "0%, 0 per s"
    assert view.findings == [
        "m: keeps up with a rate of 1 per second, not with 2, finished 2.00 per second at most, most goodput 0.900 per "
        "second, at 1 per s (100% of requests good)"
    ]
    assert any("5 of 25 requests had not finished when sending ended; 5 of them never did" in r for r in view.remarks)


def test_failures_and_a_late_client_are_told() -> None:
    failed = served(1.0, 0.1, outcome="prefill failed", failure="no room")
    late = served(2.0, 0.4, due_s=1.5)
    remarks = TrafficView(traffic(ALONE, stage(1.0, *KEPT.requests, failed, late))).remarks
    assert "m, 1 per s: 1 of 11 requests failed: no room" in remarks
    assert any("up to 500 ms late" in remark for remark in remarks)


def test_without_targets_nothing_is_called_good() -> None:
    view = TrafficView(traffic(ALONE, KEPT))
    assert [one.row[10] for one in view.stages] == ["-", "-"]
    assert "goodput" not in view.findings[0]
    assert "was not saturated by any rate" in view.findings[0]
    assert 'id="goodput"' not in traffic_page(view.report)


def test_hostile_names_reach_no_reader_as_markup() -> None:
    evil = "\x1b]0;owned\x07</style><script>x</script>|`[a](b)"
    report = replace(traffic(ALONE, KEPT, key=evil), host=evil)
    page = traffic_page(report)
    assert "<script" not in page
    assert "\x1b" not in page
    text = traffic_markdown(report)
    assert "\x1b" not in text
    assert "[a](b)" not in text
    row = next(line for line in text.splitlines() if "1 per s" in line)
    assert row.replace("\\|", "").count("|") == 13
