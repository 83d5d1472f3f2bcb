"""A test of traffic on the terminal: what is sent now on stderr, what was found on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.reports.progress import ProgressLine
from lmstrix.reports.table import Column
from lmstrix.reports.traffic.view import StageView, TrafficView, traffic_json

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.benchmark.traffic_events import TrafficEvent
    from lmstrix.core.benchmark.traffic_records import TrafficReport
    from lmstrix.reports.console import Console

_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=10),
    Column(title="RATE", right=True),
    Column(title="SENT/S", right=True, drop=2),
    Column(title="DONE/S", right=True),
    Column(title="OUTPUT T/S", right=True, drop=5),
    Column(title="FIRST TOKEN", right=True),
    Column(title="BETWEEN TOKENS", right=True, drop=4),
    Column(title="WHOLE ANSWER", right=True, drop=3),
    Column(title="WAITING", right=True, drop=6),
    Column(title="IN FLIGHT", right=True, drop=7),
    Column(title="GOOD", right=True, drop=1),
    Column(title="SERVER", shrink=True, keep=len("interrupted")),
)


class TrafficProgressLine(ProgressLine):
    """What a test of traffic does now; where no line is drawn a note for each stage."""

    def show(self, event: TrafficEvent) -> None:
        """Something happened."""
        place = f"{event.model_key} ({event.number}/{event.models})" if event.models > 1 else event.model_key
        self.update(f"{place}: {_doing(event)}", event.ratio, tail="" if event.kind == "waiting" else None)
        if event.kind == "stage" and event.stage is not None and (self._console.verbose or not self.live):
            self._console.note(f"{place}: {event.stage.name}: {len(event.stage.requests)} requests sent")


def _doing(event: TrafficEvent) -> str:
    rate = "one at a time" if event.rate_per_s is None else f"{event.rate_per_s:.3g} per second"
    words = {
        "load": "loading",
        "warmup": "warming up",
        "sending": f"{rate}: {event.sent:,} sent, {event.open} open",
        "waiting": f"{rate}: waiting for {event.open} of {event.sent:,} to finish",
    }
    return words.get(event.kind, f"{rate}: done")


def show_traffic(console: Console, report: TrafficReport, index: Path | None = None) -> None:
    """What a test found: a table, or the whole report as JSON."""
    if console.json:
        value = traffic_json(report)
        # The console writes the schema itself, first.
        value.pop("schema")
        console.result("traffic", value | {"report": str(index) if index is not None else None})
        return
    view = TrafficView(report)
    console.table(_COLUMNS, [_short(stage) for stage in view.stages])
    for line in view.findings:
        console.note(line)
    console.note(f"answered {view.slots}; times are p50, p90, p99" if view.stages else "nothing was measured")
    for line in view.remarks:
        console.note(line)
    if index is not None:
        console.note(f"report: {index}")


def _short(stage: StageView) -> tuple[str, ...]:
    """The row, without the reason of a saturation: remarks and findings say it."""
    return (*stage.row[:-1], stage.state.partition(":")[0])
