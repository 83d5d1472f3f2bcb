"""What a test of traffic shows, whatever its format: rows in words, and what they come to. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmstrix.core.benchmark.records import to_json
from lmstrix.core.benchmark.saturation import saturation
from lmstrix.core.benchmark.traffic_figures import StageFigures, alone_ttft_s, stage_figures
from lmstrix.core.benchmark.traffic_records import TRAFFIC_SCHEMA, TrafficReport, TrafficResult, TrafficStage
from lmstrix.ground.units import counted
from lmstrix.reports.bench.view import duration, three_figures
from lmstrix.reports.table import clean

if TYPE_CHECKING:
    from lmstrix.core.benchmark.goodput import LatencyTargets
    from lmstrix.core.benchmark.traffic_figures import Percentiles

TITLES = (
    "Model", "Rate", "Sent/s", "Finished/s", "Output t/s", "First token", "Between tokens", "Whole answer", "Waiting",
    "In flight", "Good", "Server",
)  # fmt: skip
"""Times are three percentiles: p50, p90 and p99."""
LATE_S = 0.05  # a client that is later than this has sent other traffic than was asked for
MOST_WITHOUT_P99 = 100  # requests; the p99 of fewer is the slowest of them


@dataclass(frozen=True, slots=True, kw_only=True)
class StageView:
    """One stage. `saturated` says why the server did not keep up; None where it did, or where nothing can be told."""

    model_key: str
    slot: int
    stage: TrafficStage
    figures: StageFigures
    saturated: str | None

    @property
    def rate(self) -> str:
        return "one at a time" if self.stage.rate_per_s is None else f"{self.stage.rate_per_s:.3g} per s"

    @property
    def state(self) -> str:
        """How the server did, in a few words."""
        if self.stage.interrupted:
            return "interrupted"
        if self.stage.rate_per_s is None:
            return "-"
        return f"saturated: {self.saturated}" if self.saturated is not None else "kept up"

    @property
    def row(self) -> tuple[str, ...]:
        """The row under TITLES."""
        f = self.figures
        good = "-"
        if f.goodput_ratio is not None and f.goodput_per_s is not None:
            good = f"{f.goodput_ratio:.0%}, {three_figures(f.goodput_per_s)} per s"
        return (
            self.model_key,
            self.rate,
            "-" if f.offered_per_s is None else three_figures(f.offered_per_s),
            three_figures(f.achieved_per_s),
            "-" if f.output_tokens_per_second is None else three_figures(f.output_tokens_per_second),
            *(_times(each) for each in (f.ttft_s, f.itl_s, f.e2e_s, f.waiting_s)),
            f"{three_figures(f.in_flight_mean)}, most {f.in_flight_most}",
            good,
            self.state,
        )

    @property
    def remarks(self) -> list[str]:
        """What a row of figures cannot tell."""
        f, found = self.figures, []
        if f.open_at_end and not self.stage.interrupted and self.stage.rate_per_s is not None:
            cut = f"; {f.unfinished} of them never did while they were waited for" if f.unfinished else ""
            found.append(f"{f.open_at_end} of {counted(f.sent, 'request')} had not finished when sending ended{cut}")
        if self.stage.not_sent:
            found.append(
                f"{counted(self.stage.not_sent, 'request')} of the rate were not sent, as {f.in_flight_most} were open"
            )
        if f.failed:
            why = next(one.failure for one in self.stage.requests if one.failure is not None)
            found.append(f"{f.failed} of {counted(f.sent, 'request')} failed: {clean(why or '')}")
        if f.sent_late_most_s > LATE_S:
            found.append(
                f"requests were sent up to {duration(f.sent_late_most_s)} late: this machine was busy, and the traffic "
                "not quite what was asked for"
            )
        return [f"{self.model_key}, {self.rate}: {text}" for text in found]


class TrafficView:
    """One report, arranged."""

    def __init__(self, report: TrafficReport) -> None:
        self.report = report
        self.models = [
            (result, _stages(result, slot, report.request.targets)) for slot, result in enumerate(report.results)
        ]

    @property
    def stages(self) -> list[StageView]:
        return [stage for _, stages in self.models for stage in stages]

    @property
    def findings(self) -> list[str]:
        """A line per model: how much it keeps up with."""
        return [line for result, stages in self.models for line in _findings(result, stages)]

    @property
    def remarks(self) -> list[str]:
        """What keeps figures from being what they seem, and what is missing."""
        found = [remark for stage in self.stages for remark in stage.remarks]
        found += [f"{_key(result)}: {note}" for result, _ in self.models for note in result.notes]
        if any(0 < stage.figures.sent < MOST_WITHOUT_P99 for stage in self.stages):
            found.append(f"p99 of fewer than {MOST_WITHOUT_P99} requests is the slowest of them")
        return found

    @property
    def asked(self) -> str:
        """What was sent, in one line."""
        request = self.report.request
        rates = ", ".join(f"{rate:.3g}" for rate in request.rates_per_s)
        what = "a sweep up to saturation" if request.sweep else f"{rates} requests per second"
        span = f"{duration(request.span_s)} each" if request.span_s is not None else "about 30 requests each"
        return f"{what}, {span}; up to {request.bench.max_tokens:,} tokens an answer"

    @property
    def slots(self) -> str:
        """How many requests the models were loaded to answer at the same time."""
        (slots,) = {result.cell.concurrency for result in self.report.results} or {1}
        loads = any(result.load_s is not None for result in self.report.results)
        return f"{slots} at a time" if loads else "as many as the server chooses"

    @property
    def targets(self) -> str:
        """What was good, in words; empty without targets."""
        targets = self.report.request.targets
        named = (("first token", targets.ttft_s), ("between tokens", targets.itl_s), ("whole answer", targets.e2e_s))
        return ", ".join(f"{name} within {duration(limit)}" for name, limit in named if limit is not None)


def traffic_json(report: TrafficReport) -> dict[str, Any]:
    """The whole report as a JSON object: what was sent and came, and the figures of each stage beside it."""
    value = to_json(report)
    for result, (_, stages) in zip(value["results"], TrafficView(report).models, strict=True):
        for raw, stage in zip(result["stages"], stages, strict=True):
            raw["figures"], raw["saturated"] = to_json(stage.figures), stage.saturated
    return {"schema": TRAFFIC_SCHEMA, **value}


def _stages(result: TrafficResult, slot: int, targets: LatencyTargets) -> list[StageView]:
    alone = alone_ttft_s(result.stages)
    return [
        StageView(
            model_key=_key(result),
            slot=slot,
            stage=stage,
            figures=stage_figures(stage, targets, alone_ttft_s=alone),
            saturated=saturation(stage),
        )
        for stage in result.stages
    ]


def _findings(result: TrafficResult, stages: list[StageView]) -> list[str]:
    key = _key(result)
    if result.outcome != "ok":
        return [f"{key}: {result.outcome}" + (f": {clean(result.reason)}" if result.reason else "")]
    made = [one for one in stages if one.stage.rate_per_s is not None]
    # A rate that was kept up with above one that was not is chance: only what lies below every saturated one counts.
    first = min((one.stage.rate_per_s or 0.0 for one in made if one.saturated is not None), default=math.inf)
    kept = max((rate for one in made if (rate := one.stage.rate_per_s or 0.0) < first), default=None)
    most = max(one.figures.achieved_per_s for one in made)
    saturated = math.isfinite(first)
    parts = [
        f"keeps up with a rate of {kept:.3g} per second" if kept is not None else f"does not keep up with {first:.3g}",
        "was not saturated by any rate" if not saturated else f"not with {first:.3g}" if kept is not None else "",
        f"finished {three_figures(most)} per second at most",
    ]
    good = [one for one in made if one.figures.goodput_per_s is not None]
    if good:
        best = max(good, key=lambda one: one.figures.goodput_per_s or 0.0)
        share, per_s = best.figures.goodput_ratio or 0.0, best.figures.goodput_per_s or 0.0
        parts.append(f"most goodput {three_figures(per_s)} per second, at {best.rate} ({share:.0%} of requests good)")
    return [f"{key}: " + ", ".join(part for part in parts if part)]


def _key(result: TrafficResult) -> str:
    return clean(result.cell.target.model_key)


def _times(found: Percentiles | None) -> str:
    """ "310 ms, 520 ms, 1.20 s"; what lies beyond the time waited for is said so."""
    if found is None:
        return "-"
    return ", ".join("not reached" if each is None else duration(each) for each in (found.p50, found.p90, found.p99))
