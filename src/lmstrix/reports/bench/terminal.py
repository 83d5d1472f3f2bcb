"""Benchmarks on the terminal: what is measured now on stderr, what was found and how two reports differ on stdout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lmstrix.reports.bench.view import (
    DECODE,
    E2E,
    ENERGY,
    LOAD,
    METRICS,
    OUTPUT,
    PREFILL,
    TTFT,
    BenchView,
    CellView,
    duration,
    three_figures,
)
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from lmstrix.core.benchmark.compare import BenchComparison, Comparison
    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.benchmark.power_sources import SourceState
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
_FIGURES = {metric.name: metric for metric in (*METRICS, OUTPUT)}
_FIGURE_NAMES = {
    "load_s": LOAD.title,
    "ttft_s": TTFT.title,
    "e2e_s": E2E.title,
    "prefill_tokens_per_second": PREFILL.title,
    "decode_tokens_per_second": DECODE.title,
    "output_tokens_per_second": OUTPUT.title,
    "net_j_per_output_token": ENERGY.title,
    "ttfr_s": "First response",
    "ttfo_s": "First answer token",
    "itl_s": "Between tokens",
    "itl_p99_s": "Between tokens, p99",
}


class BenchProgress:
    """A live line on a terminal; where nothing can move or with --verbose, one line a finished cell (or run)."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = live
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._done: set[str] = set()

    def __enter__(self) -> BenchProgress:
        if self._live:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                SpinnerColumn("line"),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("starting", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, event: BenchEvent) -> None:
        """Something happened."""
        if event.kind == "note":
            self._console.note(event.text)
            return
        if event.cell is None:
            return
        name = clean(event.cell.name)
        place = f"{name} ({event.cell_number}/{event.cells})" if event.cells > 1 else name
        if self._progress is not None and self._task is not None:
            total = 1.0 if event.ratio is not None else None
            self._progress.update(
                self._task, description=f"{place}: {_doing(event)}", total=total, completed=min(event.ratio or 0, 0.999)
            )
        if event.kind == "run" and event.run is not None and self._console.verbose:
            self._console.note(f"{place}: run {event.run.number}: {_run_text(event.run)}")
        if event.kind == "cell" and event.result is not None and (self._console.verbose or not self._live):
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
    rates = [r.decode_tokens_per_second for r in run.requests if r.decode_tokens_per_second is not None]
    return f"{three_figures(sum(rates))} t/s in {duration(run.span_s)}" if rates else duration(run.span_s)


def _cell_text(event: BenchEvent) -> str:
    assert event.result is not None
    view = CellView(event.result, 0, 0.0)
    figure = view.figure(DECODE)
    if view.state == "measured" and figure is not None:
        return f"{figure.text} t/s, {figure.spread}"
    return view.state_text or "measured"


def show_bench(console: Console, report: BenchReport, index: Path | None = None) -> None:
    """What a benchmark found: a table, or the whole report as JSON."""
    if console.json:
        value = report.to_json()
        value.pop("schema")
        console.result("bench", value | {"report": str(index) if index is not None else None})
        return
    view = BenchView(report)
    console.table(_RESULT_COLUMNS, [_result_row(cell) for cell in view.cells])
    for cell in view.cells:
        for mark in cell.marks:
            console.note(f"doubtful: {cell.result.cell.name}: {mark}")
    if not view.measures_energy:
        console.note(f"energy was not measured: {report.power or 'no power source'}")
    if index is not None:
        console.note(f"report: {index}")


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


_HISTORY_COLUMNS = (
    Column(title="SESSION", shrink=True, keep=12),
    Column(title="STARTED"),
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="CONTEXT", right=True, drop=2),
    Column(title="DECODE T/S", right=True),
    Column(title="RUNS", right=True, drop=3),
    Column(title="OUTCOME", shrink=True, keep=10, drop=1),
)


def show_history(console: Console, runs: Sequence[BenchRun]) -> None:
    """The benchmarks in the database, newest first, a line a cell."""
    if console.json:
        console.result("bench-history", {"runs": [_history_json(run) for run in runs]})
        return
    if not runs:
        console.note("no benchmark is in the history yet: lmstrix bench MODEL makes one")
        return
    console.table(
        _HISTORY_COLUMNS,
        [
            (
                run.session,
                f"{run.started_at.astimezone():%Y-%m-%d %H:%M}",
                run.model_key,
                f"{run.context_length:,}" if run.context_length else "-",
                three_figures(speed) if (speed := _median(run, DECODE.name)) is not None else "-",
                str(count) if (count := _count(run, DECODE.name)) is not None else "-",
                run.outcome or "cut off",
            )
            for run in runs
        ],
    )


def _history_json(run: BenchRun) -> dict[str, Any]:
    return {
        "bench_id": run.bench_id,
        "session": run.session,
        "model_key": run.model_key,
        "path": run.model_path,
        "configuration": run.configuration,
        "context_length": run.context_length,
        "host": run.host,
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at is not None else None,
        "outcome": run.outcome,
        "medians": {name: value["median"] for name, value in run.summary.get("summaries", {}).items()},
    }


def _median(run: BenchRun, name: str) -> float | None:
    value: float | None = run.summary.get("summaries", {}).get(name, {}).get("median")
    return value


def _count(run: BenchRun, name: str) -> int | None:
    value: int | None = run.summary.get("summaries", {}).get(name, {}).get("count")
    return value


_MAIN = tuple(metric.name for metric in (DECODE, PREFILL, TTFT, ENERGY, LOAD))
_REAL = ("better", "worse")
_COMPARISON_COLUMNS = (
    Column(title="CELL", shrink=True, keep=12),
    Column(title="FIGURE", shrink=True, keep=10),
    Column(title="FIRST", right=True, drop=2),
    Column(title="SECOND", right=True, drop=2),
    Column(title="CHANGE", right=True),
    Column(title="95 % INTERVAL", right=True, drop=1),
    Column(title="P", right=True, drop=3),
    Column(title="VERDICT"),
)


def show_comparison(console: Console, comparison: BenchComparison) -> None:
    """The main figures of both reports and all that really differ; with --verbose every one."""
    if console.json:
        console.result("bench-compare", comparison_json(comparison))
        return
    shown = [one for one in comparison.comparisons if console.verbose or one.figure in _MAIN or one.verdict in _REAL]
    if shown:
        console.table(_COMPARISON_COLUMNS, [_comparison_row(one) for one in shown])
    else:
        console.note("the two reports have no measured cell in common")
    for names, which in ((comparison.only_first, "first"), (comparison.only_second, "second")):
        if names:
            console.note(f"only in the {which}: {', '.join(names)}")


def comparison_json(comparison: BenchComparison) -> dict[str, Any]:
    """The comparison as JSON values."""
    return {
        "comparisons": [
            {
                "cell": one.cell,
                "figure": one.figure,
                "first": one.first,
                "second": one.second,
                "first_count": one.first_count,
                "second_count": one.second_count,
                "change_ratio": one.change_ratio,
                "interval_ratio": [one.interval_ratio.low, one.interval_ratio.high] if one.interval_ratio else None,
                "p_value": one.p_value,
                "verdict": one.verdict,
            }
            for one in comparison.comparisons
        ],
        "only_first": list(comparison.only_first),
        "only_second": list(comparison.only_second),
    }


def _comparison_row(one: Comparison) -> tuple[str, ...]:
    metric = _FIGURES.get(one.figure)
    write = metric.write if metric is not None else duration
    interval = one.interval_ratio
    return (
        one.cell,
        _FIGURE_NAMES.get(one.figure, one.figure),
        write(one.first),
        write(one.second),
        f"{one.change_ratio:+.1%}" if one.change_ratio is not None else "-",
        f"{interval.low:+.1%} to {interval.high:+.1%}" if interval is not None else "-",
        f"{one.p_value:.3f}",
        one.verdict,
    )


def show_format(console: Console, report: BenchReport, *, format: str, out: Path | None) -> None:  # noqa: A002 - as the option
    """The report as a file of some kind, on stdout or in `out`."""
    if console.json and out is None:
        show_bench(console, report)
        return
    text = _written(report, "json" if console.json else format)
    if out is None:
        console.text(text)
        return
    out.write_text(text, encoding="utf-8", errors="replace")
    console.note(f"written: {out}")


def _written(report: BenchReport, format: str) -> str:  # noqa: A002 - as the option
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


def show_power(
    console: Console, states: Sequence[SourceState], channels: Sequence[tuple[str, float | None]], span_s: float
) -> None:
    """What the machine tells of its power, and remedies for what it does not."""
    if console.json:
        sources = [
            {"name": s.name, "available": s.available, "measures": list(s.measures), "remedy": s.remedy} for s in states
        ]
        measured = [{"channel": name, "power_w": watts} for name, watts in channels]
        console.result("power", {"span_s": span_s, "channels": measured, "sources": sources})
        return
    if channels:
        columns = (Column(title="CHANNEL", shrink=True, keep=12), Column(title="POWER", right=True))
        rows = [(name, f"{watts:.2f} W" if watts is not None else "-") for name, watts in channels]
        console.table(columns, rows)
    else:
        console.note("this machine tells nothing of its power here; energy will be said not to be measured")
    for state in states:
        if not state.available:
            console.note(f"{state.name}: not available" + (f"; {state.remedy}" if state.remedy else ""))
