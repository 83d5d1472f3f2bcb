"""A test of traffic as one page that needs nothing else: no network and no script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.reports.bench import charts
from lmstrix.reports.bench.html import TEMPLATES, page_templates
from lmstrix.reports.bench.page_charts import Chart
from lmstrix.reports.bench.sandbox import policy, printable
from lmstrix.reports.bench.view import duration, three_figures
from lmstrix.reports.traffic.method import METHOD
from lmstrix.reports.traffic.view import TITLES, StageView, TrafficView

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.benchmark.traffic_figures import Percentiles
    from lmstrix.core.benchmark.traffic_records import TrafficReport


def traffic_page(report: TrafficReport) -> str:
    """The whole page."""
    view = TrafficView(report)
    facts = (
        ("Server", " ".join(part for part in (report.server, report.server_version) if part)),
        ("Machine", report.host or ""),
        ("Session", report.session),
        ("Traffic", view.asked),
        ("Answered", view.slots),
        ("Good", view.targets or "no targets were set"),
    )
    keys = [(result.cell.target.model_key, charts.swatch(slot)) for slot, (result, _) in enumerate(view.models)]
    page = page_templates().render_template(
        "traffic.html",
        policy=policy(script_src="'none'"),
        style=(TEMPLATES / "bench.css").read_text(encoding="utf-8"),
        report=report,
        title="Traffic to " + (keys[0][0] if len(keys) == 1 else f"{len(keys)} models"),
        started=report.started_at.strftime("%Y-%m-%d %H:%M UTC"),
        facts=[(name, text) for name, text in facts if text],
        findings=view.findings,
        remarks=view.remarks,
        keys=keys,
        titles=TITLES,
        rows=[{"cells": stage.row, "saturated": stage.saturated is not None} for stage in view.stages],
        charts=_charts(view),
        method=METHOD,
    )
    return printable(page)


def _charts(view: TrafficView) -> list[Chart]:
    found = [
        _over_rate(
            view,
            ("served", "Finished requests", "per second of the span; on a server that keeps up as many as are sent"),
            lambda stage: (stage.figures.achieved_per_s, None),
            charts.short_number,
            three_figures,
        ),
        _over_rate(
            view,
            ("ttft", "Time to first token", "p50, and up to p90"),
            lambda stage: _p50_to_p90(stage.figures.ttft_s),
            duration,
            duration,
        ),
        _over_rate(
            view,
            ("e2e", "Whole answer", "p50, and up to p90"),
            lambda stage: _p50_to_p90(stage.figures.e2e_s),
            duration,
            duration,
        ),
        _over_rate(
            view,
            ("goodput", "Goodput", "requests per second that met every target"),
            lambda stage: (stage.figures.goodput_per_s, None),
            charts.short_number,
            three_figures,
        ),
    ]
    return [chart for chart in found if chart.svg]


def _over_rate(
    view: TrafficView,
    words: tuple[str, str, str],
    value_of: Callable[[StageView], tuple[float | None, float | None]],
    y_format: Callable[[float], str],
    write: Callable[[float], str],
) -> Chart:
    """A figure of each stage over its rate: the value, and the upper end of its band where it has one."""
    identifier, title, caption = words
    lines: list[charts.Line] = []
    rows: list[tuple[str, ...]] = []
    for slot, (result, stages) in enumerate(view.models):
        spots: list[charts.Spot] = []
        for stage in stages:
            rate, (value, high) = stage.stage.rate_per_s, value_of(stage)
            if rate is None or value is None:
                continue
            label = f"{stage.rate}: {write(value)}" + (f", p90 {write(high)}" if high is not None else "")
            low = None if high is None else value
            spots.append(charts.Spot(x=rate, median=value, low=low, high=high, label=label))
            rows.append((stage.model_key, stage.rate, write(value), "-" if high is None else write(high)))
        lines.append(charts.Line(name=result.cell.target.model_key, slot=slot, spots=tuple(spots)))
    svg = charts.line_chart(
        lines,
        identifier=identifier,
        title=title,
        description=f"{title} over requests per second",
        y_format=y_format,
        x_format=charts.short_number,
        x_title="requests per second",
    )
    return Chart(identifier, title, caption, svg, ("Model", "Rate", title, "p90"), tuple(rows))


def _p50_to_p90(found: Percentiles | None) -> tuple[float | None, float | None]:
    return (found.p50, found.p90) if found is not None else (None, None)
