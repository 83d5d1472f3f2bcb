"""A test of traffic as Markdown: what was sent, a table of the stages, what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.reports.bench.markdown import escape
from lmstrix.reports.traffic.method import METHOD
from lmstrix.reports.traffic.view import TITLES, TrafficView

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmstrix.core.benchmark.traffic_records import TrafficReport


def traffic_markdown(report: TrafficReport) -> str:
    """The whole report."""
    view = TrafficView(report)
    facts = (
        ("started", f"{report.started_at:%Y-%m-%d %H:%M UTC}" + (", interrupted" if report.interrupted else "")),
        ("server", " ".join(part for part in (report.server, report.server_version) if part)),
        ("machine", report.host or "not known"),
        ("traffic", view.asked),
        ("answered", view.slots),
        ("good", view.targets or "no targets were set"),
    )
    lines = [
        f"# Traffic {escape(report.session)}",
        "",
        *(f"- {name}: {escape(text)}" for name, text in facts),
        "",
        _row(TITLES),
        "|" + "|".join([" --- ", *[" ---: "] * (len(TITLES) - 2), " --- "]) + "|",
        *(_row(stage.row) for stage in view.stages),
        "",
        *_listed(view.findings),
        *_listed(view.remarks),
        "Times are p50, p90, p99.",
        "",
        *(f"- {escape(name)}: {escape(text)}" for name, text in METHOD),
        "",
    ]
    return "\n".join(lines)


def _listed(lines: Iterable[str]) -> list[str]:
    found = [f"- {escape(line)}" for line in lines]
    return [*found, ""] if found else []


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"
