"""Benchmarks on the terminal: what is measured now on stderr, what was found and how two reports differ on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.reports.bench.clocks import COLUMNS, ClockRow, clock_rows, clocks_in_short
from lmstrix.reports.bench.comparison import (
    both_words,
    comparison_columns,
    comparison_json,
    comparison_row,
    is_shown,
)
from lmstrix.reports.bench.facts import place_facts
from lmstrix.reports.bench.view import (
    DECODE,
    ENERGY,
    LOAD,
    METRICS,
    PREFILL,
    TTFT,
    BenchView,
    CellView,
    duration,
    three_figures,
)
from lmstrix.reports.json_form import json_form
from lmstrix.reports.progress import ProgressLine
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lmstrix.core.benchmark.compare import BenchComparison
    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.benchmark.records import BenchReport, RunRecord
    from lmstrix.core.history import BenchRun
    from lmstrix.reports.console import Console

_RESULT_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="CONTEXT", right=True),
    Column(title="X", right=True, drop=6),
    Column(title="DECODE T/S", right=True),
    Column(title="PREFILL T/S", right=True, drop=1),
    Column(title="FIRST TOKEN", right=True, drop=2),
    Column(title="J/TOKEN", right=True, drop=4),
    Column(title="MEMORY", right=True, drop=3),
    Column(title="LOAD", right=True, drop=5),
    Column(title="RUNS", right=True, drop=7),
    Column(title="OUTCOME", shrink=True, keep=16),
)
_CLOCK_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="CONTEXT", right=True),
    Column(title="X", right=True, drop=1),
    *(Column(title=f"{title.upper()}, OURS / SERVER", right=True) for title in COLUMNS[3:]),
)
_PLACE_LINES = (
    ("Machine", "Processor", "Cores", "Main memory", "Graphics", "System", "Not known"),
    ("Load before", "Load while measuring"),
    ("Server", "Runtime", "LMStrix"),
)
_HISTORY_COLUMNS = (
    Column(title="SESSION", shrink=True, keep=12),
    Column(title="STARTED"),
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="CONTEXT", right=True, drop=2),
    Column(title="DECODE T/S", right=True),
    Column(title="RUNS", right=True, drop=3),
    Column(title="OUTCOME", shrink=True, keep=10, drop=1),
)


class BenchProgressLine(ProgressLine):
    """What a benchmark does now; where no line is drawn a note for each cell, and with --verbose for each run too."""

    def show(self, event: BenchEvent) -> None:
        """Something happened."""
        if event.kind == "note":
            self._console.note(event.text)
        # Only events of a cell move the line.
        if event.kind == "note" or event.cell is None:
            return
        name = event.cell.name
        place = f"{name} ({event.cell_number}/{event.cells})" if event.cells > 1 else name
        self.update(f"{place}: {_doing(event)}", event.ratio)
        if event.kind == "run" and event.run is not None and self._console.verbose:
            self._console.note(f"{place}: run {event.run.number}: {_run_text(event.run)}")
        if event.kind == "cell" and event.result is not None and (self._console.verbose or not self.live):
            self._console.note(f"{place}: {_cell_text(event)}")


def _doing(event: BenchEvent) -> str:
    if event.kind == "answer":
        speed = f", {three_figures(event.tokens_per_second)} t/s" if event.tokens_per_second else ""
        return f"answer, {event.tokens or 0:,} tokens{speed}"
    words = {
        "load": "loading",
        "warmup": "warming up",
        "idle": clean(event.text) or "measuring idle power",
        "prompt": "reading the prompt",
        "run": f"run {event.run.number} done" if event.run is not None else "running",
        "cell": "done",
    }
    return words.get(event.kind, event.kind)


def _run_text(run: RunRecord) -> str:
    failures = [request.failure for request in run.requests if request.failure is not None]
    if failures:
        return clean(failures[0])
    # Requests at a time share the machine, so what it does in all is their sum.
    rates = [r.decode_tokens_per_second for r in run.requests if r.decode_tokens_per_second is not None]
    return f"{three_figures(sum(rates))} t/s in {duration(run.span_s)}" if rates else duration(run.span_s)


def _cell_text(event: BenchEvent) -> str:
    assert event.result is not None
    # Place and colour do not matter to one line of text.
    view = CellView(event.result, 0, 0.0)
    figure = view.figure(DECODE)
    if view.state == "measured" and figure is not None:
        return f"{figure.text} t/s, {figure.spread}"
    return view.state_text or "measured"


def show_bench(
    console: Console, report: BenchReport, index: Path | None = None, comparison: BenchComparison | None = None
) -> None:
    """What a benchmark found: a table, or the whole report as JSON; with the comparison of its sides, if it has two."""
    if console.json:
        value = report.to_json()
        # The console writes the schema itself, first.
        value.pop("schema")
        value["report"] = str(index) if index is not None else None
        if comparison is not None:
            value["comparison"] = comparison_json(comparison)
        console.result("bench", value)
        return
    view = BenchView(report)
    console.table(_RESULT_COLUMNS, [_result_row(cell) for cell in view.cells])
    for cell in view.cells:
        for mark in cell.marks:
            console.note(f"doubtful: {cell.result.cell.name}: {mark}")
    _show_place(console, view)
    if not view.measures_energy:
        console.note(f"energy was not measured: {report.power or 'no power source'}")
    if comparison is not None:
        show_comparison(console, comparison)
    if index is not None:
        console.note(f"report: {index}")


def _show_place(console: Console, view: BenchView) -> None:
    """Where it was measured, and how far the server's own clock is apart; with --verbose for each cell."""
    facts = dict(place_facts(view.report))
    for names in _PLACE_LINES:
        parts = [f"{name.lower()}: {facts[name]}" for name in names if name in facts]
        if parts:
            console.note(clean("; ".join(parts)))
    rows = clock_rows(view)
    if console.verbose and rows:
        console.table(_CLOCK_COLUMNS, [_clock_row(row) for row in rows])
    else:
        console.note(clocks_in_short(view))


def _clock_row(row: ClockRow) -> tuple[str, ...]:
    at_a_time = str(row.cell.result.cell.concurrency)
    return (row.cell.model_key, row.cell.tier, at_a_time, *(figure.whole for figure in row.figures))


def _result_row(cell: CellView) -> tuple[str, ...]:
    figures = {metric: cell.figure(metric) for metric in METRICS}
    return (
        cell.model_key,
        cell.tier,
        str(cell.result.cell.concurrency),
        *(
            figure.text if (figure := figures[metric]) is not None else "-"
            for metric in (DECODE, PREFILL, TTFT, ENERGY)
        ),
        cell.memory.text if cell.memory is not None else "-",
        load.text if (load := figures[LOAD]) is not None else "-",
        str(len(cell.result.runs)),
        cell.state_text or "ok",
    )


def show_history(console: Console, runs: Sequence[BenchRun]) -> None:
    """The benchmarks in the database, newest first, one line per cell."""
    if console.json:
        console.result("bench-history", {"runs": [_history_json(run) for run in runs]})
        return
    if not runs:
        console.note("no benchmark is in the history yet: lmstrix bench MODEL makes one")
        return
    console.table(_HISTORY_COLUMNS, [_history_row(run) for run in runs])


def _history_row(run: BenchRun) -> tuple[str, ...]:
    decode = run.summary.get("summaries", {}).get(DECODE.name, {})
    speed, count = decode.get("median"), decode.get("count")
    return (
        run.session,
        f"{run.started_at.astimezone():%Y-%m-%d %H:%M}",
        run.model_key,
        f"{run.context_length:,}" if run.context_length else "-",
        "-" if speed is None else three_figures(speed),
        "-" if count is None else str(count),
        # A row without outcome was begun and never ended: the process was killed.
        run.outcome or "cut off",
    )


def _history_json(run: BenchRun) -> dict[str, Any]:
    return {
        "bench_id": run.bench_id,
        "session": run.session,
        "model_key": run.model_key,
        "path": run.model_path,
        **json_form(run, without=("bench_id", "session", "model_key", "model_path", "summary", "details")),
        "medians": {name: value["median"] for name, value in run.summary.get("summaries", {}).items()},
    }


def show_comparison(console: Console, comparison: BenchComparison) -> None:
    """The main figures of both sides and all that really differ; with --verbose every one."""
    if console.json:
        console.result("bench-compare", comparison_json(comparison))
        return
    shown = [one for one in comparison.comparisons if console.verbose or is_shown(one)]
    if shown:
        console.table(_comparison_columns(comparison), [comparison_row(one) for one in shown])
    else:
        console.note(f"the two {both_words(comparison)} have no measured cell in common")
    for note in comparison.notes:
        console.note(note)
    for names, which in ((comparison.only_first, "first"), (comparison.only_second, "second")):
        if names:
            console.note(f"only in the {which}: {', '.join(names)}")


def _comparison_columns(comparison: BenchComparison) -> tuple[Column, ...]:
    titles = [title.upper() for title in comparison_columns(comparison)]
    cell, figure, first, second, change, interval, chance, verdict = titles
    return (
        Column(title=cell, shrink=True, keep=12),
        Column(title=figure, shrink=True, keep=10),
        Column(title=first, right=True, drop=2),
        Column(title=second, right=True, drop=2),
        Column(title=change, right=True),
        Column(title=interval, right=True, drop=1),
        Column(title=chance, right=True, drop=3),
        Column(title=verdict),
    )
