"""Benchmark runs as rows: one per request, with every figure and nothing summarized.

Spreadsheets run cells that begin with =, +, - or @ as formulas, so text that does gets an apostrophe in front; control
characters become "?", since few readers agree on what ends a line.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.records import ENERGY_FIGURES, REQUEST_FIGURES, SERVER_FIGURES
from lmstrix.reports.table import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.core.benchmark.records import BenchReport, CellResult, RunRecord

Value = str | float | int | None
_FORMULA = ("=", "+", "-", "@")
SAMPLE_COLUMNS = (
    "model_key",
    "tier_tokens",
    "concurrency",
    "side",
    "outcome",
    "run",
    "warmup",
    "request",
    "measured_at",
    "failure",
    *REQUEST_FIGURES,
    *SERVER_FIGURES,
    "latency_s",
    "output_tokens_per_second",
    *ENERGY_FIGURES,
    "engine_cpu_cores",
    "others_cpu_cores",
)


def sample_rows(report: BenchReport) -> list[dict[str, Value]]:
    """Every request of every run, warm-ups included and marked; a cell without runs is one row with its outcome."""
    return [row for result in report.cells for row in _rows(result)]


def to_csv(report: BenchReport) -> str:
    """All rows as CSV with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=SAMPLE_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for row in sample_rows(report):
        writer.writerow({name: _safe(value) for name, value in row.items()})
    return out.getvalue()


def _rows(result: CellResult) -> Iterator[dict[str, Value]]:
    cell = result.cell
    shared: dict[str, Value] = {
        "model_key": cell.target.model_key,
        "tier_tokens": cell.tier_tokens,
        "concurrency": cell.concurrency,
        "side": cell.target.side,
        "outcome": result.outcome,
    }
    runs = (*result.warmups, *result.runs)
    # A cell without runs stays in the table: what is missing silently is read as never asked for.
    if not runs:
        yield {**shared, "failure": result.reason}
    for run in runs:
        yield from ({**shared, **figures} for figures in _run_rows(run))


def _run_rows(run: RunRecord) -> Iterator[dict[str, Value]]:
    for number, request in enumerate(run.requests):
        yield {
            "run": run.number,
            "warmup": int(run.warmup),
            "request": number,
            "measured_at": run.measured_at.isoformat(),
            "failure": request.failure,
            **{name: getattr(request, name) for name in (*REQUEST_FIGURES, *SERVER_FIGURES)},
            "latency_s": run.latency_s,
            "output_tokens_per_second": run.output_tokens_per_second,
            **{name: getattr(run.energy, name) if run.energy is not None else None for name in ENERGY_FIGURES},
            "engine_cpu_cores": run.cpu.engine_cores if run.cpu is not None else None,
            "others_cpu_cores": run.cpu.others_cores if run.cpu is not None else None,
        }


def _safe(value: Value) -> Value:
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
