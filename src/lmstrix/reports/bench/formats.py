"""One benchmark report in any of the formats it is written in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.benchmark.records import BenchReport
    from lmstrix.ground.choices import ReportFormat
    from lmstrix.reports.console import Console


def show_format(console: Console, report: BenchReport, *, format: ReportFormat, out: Path | None) -> None:  # noqa: A002 - as the option
    """The report as one file of some kind, on stdout or in `out`."""
    if console.json and out is None:
        from lmstrix.reports.bench.terminal import show_bench

        show_bench(console, report)
        return
    text = written(report, "json" if console.json else format)
    if out is None:
        console.text(text)
        return
    # A model's answer may hold what UTF-8 cannot (lone surrogates): a "?" in the file beats no file.
    out.write_text(text, encoding="utf-8", errors="replace")
    console.note(f"written: {out}")


def written(report: BenchReport, format: ReportFormat) -> str:  # noqa: A002 - as the option
    """The report as the text of one file."""
    if format == "md":
        from lmstrix.reports.bench.markdown import to_markdown

        return to_markdown(report)
    if format == "csv":
        from lmstrix.reports.bench.csv import to_csv

        return to_csv(report)
    if format == "junit":
        from lmstrix.reports.bench.junit import to_junit

        return to_junit(report)
    return json.dumps(report.to_json(), indent=1) + "\n"
