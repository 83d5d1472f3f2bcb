"""The folder of a test of traffic: everything as JSON, Markdown, and the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lmstrix.ground.files import write_whole
from lmstrix.reports.bench.files import REPORT_FILE
from lmstrix.reports.traffic.markdown import traffic_markdown
from lmstrix.reports.traffic.page import traffic_page
from lmstrix.reports.traffic.view import traffic_json

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.benchmark.traffic_records import TrafficReport


def write_traffic(report: TrafficReport, folder: Path) -> Path:
    """Write all files of a report, over those of the same names. Returns the page, index.html."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / REPORT_FILE, json.dumps(traffic_json(report)), durable=False)
    (folder / "report.md").write_text(traffic_markdown(report), encoding="utf-8", errors="replace")
    index = folder / "index.html"
    index.write_text(traffic_page(report), encoding="utf-8")
    return index
