"""What other sessions in the history found of the same thing: how far sessions of it differ is read from that.

The same thing is the same cell on the same machine and server, loaded and asked alike. How long and how often it was
measured does not matter. Sessions that measured in turns are left out: theirs is the median of many loads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.records import BenchReport, BenchRequest, Cell, from_json

if TYPE_CHECKING:
    from collections.abc import Collection

    from lmstrix.core.history import BenchHistory, BenchRun


def earlier_medians(
    benches: BenchHistory, report: BenchReport, *, without: Collection[str]
) -> dict[str, dict[str, list[float]]]:
    """By cell and figure the median of each session that measured the same; `without` names sessions not to take."""
    found: dict[str, dict[str, list[float]]] = {}
    for result in report.cells:
        for row in benches.runs(model_path=result.cell.target.path):
            if row.session in without or row.outcome != "ok" or not _is_same(row, result.cell, report):
                continue
            for figure, summary in row.summary.get("summaries", {}).items():
                # Numbers that are none are null in the database.
                if summary["median"] is not None:
                    found.setdefault(result.cell.name, {}).setdefault(figure, []).append(summary["median"])
    return found


def _is_same(row: BenchRun, cell: Cell, report: BenchReport) -> bool:
    theirs = from_json(BenchReport, row.details["report"])
    return (
        theirs.request.against is None
        and _asked(from_json(Cell, row.details["cell"])) == _asked(cell)
        and _circumstances(theirs) == _circumstances(report)
    )


def _asked(cell: Cell) -> tuple[object, ...]:
    """What makes a cell the same: a model may have been tested since, and its file be known by then."""
    return (cell.target.path, cell.tier_tokens, cell.concurrency, cell.max_tokens, cell.context_length)


def _circumstances(report: BenchReport) -> tuple[object, ...]:
    # Without the port: an engine for one command alone takes any that is free.
    server = report.server.rpartition(":")[0] or report.server
    asked = report.request
    same = BenchRequest(
        task=asked.task,
        prompt=asked.prompt,
        temperature=asked.temperature,
        cold=asked.cold,
        load=replace(asked.load, parallel_slots=1),
    )
    return (report.host, server, report.server_version, same)
