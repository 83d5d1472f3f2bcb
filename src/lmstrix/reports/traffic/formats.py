"""One test of traffic in any of the formats it is written in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError
from lmstrix.reports.traffic.files import write_traffic
from lmstrix.reports.traffic.markdown import traffic_markdown
from lmstrix.reports.traffic.terminal import show_traffic
from lmstrix.reports.traffic.view import traffic_json

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.benchmark.traffic_records import TrafficReport
    from lmstrix.ground.choices import ReportFormat
    from lmstrix.reports.console import Console


def show_traffic_format(
    console: Console,
    report: TrafficReport,
    *,
    format: ReportFormat,  # noqa: A002 - the option is --format
    out: Path | None,
    folder: Path,
) -> None:
    """The report on stdout or in `out`; as a page in the folder `out`, else in the one it was read from."""
    if console.json and out is None:
        show_traffic(console, report)
        return
    if format == "html" and not console.json:
        index = write_traffic(report, out or (folder if folder.is_dir() else folder.parent))
        console.note(f"report: {index}")
        return
    if format in ("csv", "junit") and not console.json:
        raise UsageError(f"a test of traffic is not written as {format}; choose html, md or json")
    text = traffic_markdown(report) if format == "md" else json.dumps(traffic_json(report), indent=1) + "\n"
    if out is None:
        console.text(text)
        return
    out.write_text(text, encoding="utf-8", errors="replace")
    console.note(f"written: {out}")
