"""The folder of a benchmark report: everything as JSON, one file per model, all runs as CSV, Markdown, and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.ground.files import write_whole
from lmstrix.reports.bench.csv import to_csv
from lmstrix.reports.bench.html import write_pages
from lmstrix.reports.bench.markdown import to_markdown
from lmstrix.reports.bench.view import BenchView

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.benchmark.records import BenchReport

REPORT_FILE = "report.json"


def write_report(report: BenchReport, folder: Path) -> Path:
    """Write all files of a report, over those of the same names. Returns the page, index.html."""
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    # ASCII escapes: an answer may hold lone surrogates, which UTF-8 cannot, and nothing of it may be lost.
    write_whole(folder / REPORT_FILE, json.dumps(report.to_json()), durable=False)  # `bench compare` may read it now
    for model in BenchView(report).models:
        alone = replace(report, cells=tuple(cell.result for cell in model.cells))
        (models / f"{model.stem}.json").write_text(json.dumps(alone.to_json(), indent=1), encoding="ascii")
    (folder / "samples.csv").write_text(to_csv(report), encoding="utf-8", errors="replace")
    (folder / "report.md").write_text(to_markdown(report), encoding="utf-8", errors="replace")
    return write_pages(report, folder)
