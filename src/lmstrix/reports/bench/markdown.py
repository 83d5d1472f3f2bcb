"""A benchmark report as Markdown, for an issue or a wiki: where, the figures, both clocks, the prompt, what failed.

Whatever comes from a model or a server is escaped, so it can neither break the table nor become a link or HTML.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lmstrix.reports.bench.clocks import ABOUT, COLUMNS, NO_CLOCK, clock_rows
from lmstrix.reports.bench.facts import place_facts
from lmstrix.reports.bench.view import BenchView, CellView
from lmstrix.reports.table import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.records import BenchReport

# A colon before slashes too: unescaped, many readers turn the address into a link by themselves.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&]|:(?=//))")


def to_markdown(report: BenchReport) -> str:
    """The whole report."""
    view = BenchView(report)
    lines = [
        f"# Benchmark {escape(report.session)}",
        "",
        f"- started: {report.started_at:%Y-%m-%d %H:%M UTC}" + (", interrupted" if report.interrupted else ""),
        *(f"- {name.lower()}: {escape(value)}" for name, value in place_facts(report)),
        f"- power: {escape(report.power or 'no power source')}",
        *(f"- model {escape(model.model_key)}: {escape(model.facts)}" for model in view.models),
        "",
        *_table(
            ["Model", "Context", "At a time", *(metric.title for metric in view.metrics), "Memory", "Runs", "Outcome"]
        ),
    ]
    for cell in view.cells:
        figures = [cell.figure(metric) for metric in view.metrics]
        lines.append(
            _row(
                [
                    cell.model_key,
                    cell.tier,
                    str(cell.result.cell.concurrency),
                    *(f"{figure.text} ({figure.spread})" if figure is not None else "-" for figure in figures),
                    cell.memory.text if cell.memory else "-",
                    str(len(cell.result.runs)),
                    cell.state_text or "ok",
                ]
            )
        )
    lines += [
        "",
        *_doubts(view.cells),
        *_clocks(view),
        "Medians, with intervals of at least 95 % where the runs are enough for one.",
        "",
    ]
    return "\n".join([*lines, "Prompt:", "", *(f"    {clean(line)}" for line in view.prompt.splitlines()), ""])


def escape(text: str) -> str:
    """Text on one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", clean(" ".join(text.split())))


def _table(titles: Sequence[str]) -> list[str]:
    return [_row(titles), "|" + "|".join(" --- " if i < 2 else " ---: " for i in range(len(titles))) + "|"]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def _clocks(view: BenchView) -> list[str]:
    """Our figures beside the server's own, as a second table."""
    rows = clock_rows(view)
    if not rows:
        return [f"Server's own clock: {NO_CLOCK}.", ""]
    lines = [
        _row(
            [
                row.cell.model_key,
                row.cell.tier,
                str(row.cell.result.cell.concurrency),
                *(figure.whole for figure in row.figures),
            ]
        )
        for row in rows
    ]
    return ["Beside the server's own clock:", "", *_table(COLUMNS), *lines, "", ABOUT, ""]


def _doubts(cells: Sequence[CellView]) -> list[str]:
    doubtful = [cell for cell in cells if cell.marks]
    if not doubtful:
        return []
    named = [f"- {escape(cell.result.cell.name)}: {escape('; '.join(cell.marks))}" for cell in doubtful]
    return ["Doubtful:", "", *named, ""]
