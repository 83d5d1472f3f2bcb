"""The tables of a page: the matrix of what every model did at every context length, the results, the remarks. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.ground.units import format_bytes
from lmstrix.reports.bench import charts
from lmstrix.reports.bench.view import DECODE, OUTPUT, three_figures
from lmstrix.reports.table import clean

if TYPE_CHECKING:
    from lmstrix.reports.bench.clocks import ClockRow
    from lmstrix.reports.bench.view import BenchView, CellView


def limit_rows(view: BenchView) -> list[dict[str, Any]]:
    """The matrix: what every model did at every tier, shaded by decode speed."""
    # By identity: cells of the same figures are still different cells.
    speeds = {id(cell): figure.summary.median for cell in view.cells if (figure := cell.figure(DECODE))}
    top = max(speeds.values(), default=1.0)
    lowest = view.concurrencies[0]
    rows = []
    for model in view.models:
        by_tier = {c.result.cell.tier_tokens: c for c in model.cells if c.result.cell.concurrency == lowest}
        cells = []
        for tier in view.tiers:
            cell = by_tier.get(tier)
            speed = speeds.get(id(cell))
            cells.append(
                {
                    "state": "measured" if speed else cell.state if cell else "open",
                    "text": _limit_text(cell, speed),
                    "title": cell.state_text if cell else "not planned",
                    # The square root lifts slow cells: linearly, all but the fastest model would be equally pale.
                    "heat": round(100 * (speed / top) ** 0.5) if speed else 0,
                }
            )
        target = model.target
        rows.append(
            {
                "key": model.model_key,
                "swatch": charts.swatch(model.slot),
                "stem": model.stem,
                "quantization": clean(target.quantization or "-"),
                "size": format_bytes(target.size_bytes) if target.size_bytes else "-",
                "declared": _tokens(target.max_context_length),
                "tested": _tokens(target.tested_context_length),
                "share": _share(target.tested_context_length, target.max_context_length),
                "cells": cells,
            }
        )
    return rows


def _tokens(tokens: int | None) -> str:
    return f"{tokens:,}" if tokens else ""


def _share(tested: int | None, declared: int | None) -> int | None:
    """Percent of the declared context that works."""
    return round(100 * min(1.0, tested / declared)) if tested and declared else None


def _limit_text(cell: CellView | None, speed: float | None) -> str:
    if speed is not None:
        return three_figures(speed)
    if cell is None:
        return "-"
    over = cell.state == "skipped" and "limit" in cell.result.reason
    return "over limit" if over else {"measured": "ok", "open": "open"}.get(cell.state, cell.state)


def result_columns(view: BenchView) -> list[str]:
    several = ["At a time", OUTPUT.title] if len(view.concurrencies) > 1 else []
    titles = [metric.title for metric in view.metrics]
    return ["Model", "Context", *several, *titles, "Memory", "Runs", "Outcome"]


def result_row(view: BenchView, cell: CellView) -> dict[str, Any]:
    """One line of the table of results: texts, tooltips, and values to sort by."""
    result = cell.result
    cells: list[dict[str, Any]] = [{"text": cell.tier, "value": result.cell.tier_tokens, "title": ""}]
    metrics = list(view.metrics)
    if len(view.concurrencies) > 1:
        cells.append({"text": str(result.cell.concurrency), "value": result.cell.concurrency, "title": ""})
        metrics.insert(0, OUTPUT)
    for metric in metrics:
        figure = cell.figure(metric)
        cells.append(
            {"text": figure.text, "value": figure.summary.median, "title": figure.spread}
            if figure is not None
            else {"text": "-", "value": "", "title": "not measured"}
        )
    memory = cell.memory
    cells.append({"text": memory.text if memory else "-", "value": memory.peak_bytes if memory else "", "title": ""})
    # Failed runs are in the report, but no figure stands on them.
    worked = sum(not run.failed for run in result.runs)
    cells.append({"text": str(worked) if worked else "-", "value": worked, "title": ""})
    return {
        "key": cell.model_key,
        "swatch": charts.swatch(cell.slot),
        "cells": cells,
        "state": cell.state,
        "outcome": result.outcome,
        "remark": cell.state_text or "; ".join(cell.marks),
        "doubtful": bool(cell.marks),
    }


def clock_row(view: BenchView, row: ClockRow) -> dict[str, Any]:
    """One line of the table of both clocks."""
    result = row.cell.result
    several = [str(result.cell.concurrency)] if len(view.concurrencies) > 1 else []
    return {
        "key": row.cell.model_key,
        "places": [row.cell.tier, *several],
        "figures": [{"text": figure.text, "apart": figure.apart} for figure in row.figures],
    }


def remark(cell: CellView) -> dict[str, str]:
    """Why a cell has no figures, or doubtful ones."""
    at_a_time = cell.result.cell.concurrency
    several = f", {at_a_time} at a time" if at_a_time > 1 else ""
    text = "; ".join(part for part in (cell.result.reason, *cell.marks) if part)
    return {"key": cell.model_key, "tier": cell.tier + several, "text": text, "state": cell.state}
