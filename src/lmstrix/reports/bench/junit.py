"""A benchmark report as JUnit XML, for continuous integration: one suite per model, one case per cell.

A cell that failed is a failure, one that was skipped or not reached is skipped with its reason; medians are properties.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from lmstrix.reports.bench.view import BenchView, CellView, ModelView

if TYPE_CHECKING:
    from lmstrix.core.benchmark.records import BenchReport

# XML 1.0 has no form for these, not even escaped: one in a message makes the whole file unreadable.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: BenchReport) -> str:
    """The whole report."""
    view = BenchView(report)
    stamp = report.started_at.strftime("%Y-%m-%dT%H:%M:%S")
    suites = "".join(_suite(model, stamp) for model in view.models)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites name={_attribute('lmstrix bench')}{_counts(view.cells)}>\n{suites}</testsuites>\n"
    )


def _suite(model: ModelView, stamp: str) -> str:
    cases = "".join(_case(cell) for cell in model.cells)
    name = _attribute(model.model_key)
    return f' <testsuite name={name} timestamp="{stamp}"{_counts(model.cells)}>\n{cases} </testsuite>\n'


def _counts(cells: tuple[CellView, ...]) -> str:
    failed = sum(cell.state == "failed" for cell in cells)
    # Not reached counts as skipped: JUnit knows no third kind, and it is no failure of the model.
    skipped = sum(cell.state in ("skipped", "open") for cell in cells)
    seconds = sum(_seconds(cell) for cell in cells)
    return f' tests="{len(cells)}" failures="{failed}" errors="0" skipped="{skipped}" time="{seconds:.3f}"'


def _case(cell: CellView) -> str:
    head = (
        f"  <testcase classname={_attribute(cell.model_key)} name={_attribute(cell.result.cell.name)}"
        f' time="{_seconds(cell):.3f}">\n'
    )
    properties = "".join(
        f'    <property name={_attribute(name)} value="{summary.median:.6g}"/>\n'
        for name, summary in cell.result.summaries.items()
    )
    body = f"   <properties>\n{properties}   </properties>\n" if properties else ""
    message = _attribute(cell.state_text)
    if cell.state == "failed":
        body += f"   <failure type={_attribute(cell.result.outcome)} message={message}/>\n"
    elif cell.state != "measured":
        body += f"   <skipped message={message}/>\n"
    return f"{head}{body}  </testcase>\n"


def _seconds(cell: CellView) -> float:
    """What the cell's loads and runs took."""
    loads = sum(load.load_s or 0.0 for load in cell.result.loads)
    return loads + sum(run.span_s for run in (*cell.result.warmups, *cell.result.runs))


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("?", text))
