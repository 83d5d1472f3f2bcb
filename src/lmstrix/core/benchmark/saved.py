"""Benchmarks in lmstrix.db: every record the moment it is measured, and whole reports read back from there.

Each cell of a session has a row from the start of the session, so that a cell which was never reached can be told from
one that was never asked for; resuming depends on that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lmstrix.core.benchmark.records import (
    BenchReport,
    BenchRequest,
    Cell,
    CellResult,
    LoadRecord,
    RunRecord,
    from_json,
    summaries_of,
    to_json,
)
from lmstrix.core.registry.results import Configuration
from lmstrix.ground.errors import HistoryError, UsageError
from lmstrix.ground.wording import call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.history import BenchHistory, BenchRun

FINISHED = ("ok", "skipped")


class BenchJournal:
    """Writes one session. A database that cannot be written any more is told once and then left alone."""

    def __init__(self, benches: BenchHistory | None, *, notify: Callable[[str], None]) -> None:
        self._benches = benches
        self._notify = notify
        self._ids: dict[str, str] = {}

    def begin(self, report: BenchReport, *, engine: str) -> dict[str, CellResult]:
        """Open a row per cell. Returns what an earlier start of the same session has measured, by the cell's name."""
        if self._benches is None:
            return {}
        earlier: dict[str, CellResult] = {}
        try:
            rows = {_cell_name(row): row for row in self._benches.runs(session=report.session)}
            for result in report.cells:
                row = rows.get(result.cell.name)
                if row is None:
                    self._ids[result.cell.name] = self._open(result.cell, report, engine)
                else:
                    self._ids[result.cell.name] = row.bench_id
                    earlier[result.cell.name] = _result(self._benches, row)
        except HistoryError as exc:
            self._give_up(exc)
        return earlier

    def _open(self, cell: Cell, report: BenchReport, engine: str) -> str:
        assert self._benches is not None
        load = replace(report.request.load_of(cell.target), parallel_slots=cell.concurrency)
        return self._benches.begin(
            report.session,
            model_path=cell.target.path,
            model_key=cell.target.model_key,
            configuration=Configuration(engine=engine, load=load).key,
            context_length=cell.context_length,
            details={"cell": to_json(cell), "report": to_json(replace(report, cells=()))},
        )

    def add(self, cell: Cell, record: LoadRecord | RunRecord) -> None:
        """Keep one record; a number given again replaces what it held."""
        if self._benches is None:
            return
        measured = isinstance(record, RunRecord) and not record.warmup
        sample = {"kind": "run" if isinstance(record, RunRecord) else "load", **to_json(record)}
        try:
            self._benches.add_sample(self._ids[cell.name], record.number, sample, warmup=not measured)
        except HistoryError as exc:
            self._give_up(exc)

    def end(self, result: CellResult) -> None:
        """Keep how a cell ended, and its summary."""
        if self._benches is None:
            return
        summary = to_json(replace(result, loads=(), warmups=(), runs=()))
        try:
            self._benches.end(self._ids[result.cell.name], result.outcome, summary=summary)
        except HistoryError as exc:
            self._give_up(exc)

    def _give_up(self, problem: HistoryError) -> None:
        # A full disk must not end hours of measuring: the report is made from memory anyway.
        self._benches = None
        self._notify(f"measurements are not saved from here on: {problem}")


def load_report(benches: BenchHistory, session: str) -> BenchReport:
    """A session as it is in the database. Raises UsageError for one that is not there."""
    # Newest first from the database; a report shows its cells in the order of the plan.
    rows = benches.runs(session=session)[::-1]
    if not rows:
        raise UsageError(f"no benchmark {session!r} is in the history; {call('benches.history')} lists them")
    report = from_json(BenchReport, rows[0].details["report"])
    cells = tuple(_result(benches, row) for row in rows)
    return replace(report, cells=cells, interrupted=any(cell.outcome == "interrupted" for cell in cells))


def find_unfinished(benches: BenchHistory, request: BenchRequest, model_paths: Sequence[str]) -> str | None:
    """The newest session that asked for the same of the same models and did not come to its end.

    How long it may take is no part of what was asked.
    """
    sessions: dict[str, list[BenchRun]] = {}
    for row in benches.runs():
        sessions.setdefault(row.session, []).append(row)
    for session, rows in sessions.items():
        same_models = {row.model_path for row in rows} == set(model_paths)
        if not same_models or all(row.outcome in FINISHED and not _was_cut_short(row) for row in rows):
            continue
        asked = from_json(BenchReport, rows[0].details["report"]).request
        if replace(asked, budget_s=request.budget_s) == request:
            return session
    return None


def _was_cut_short(row: BenchRun) -> bool:
    """Whether a time budget left it with fewer runs than were asked for."""
    return bool(row.summary and row.summary.get("out_of_time"))


def _cell_name(row: BenchRun) -> str:
    return from_json(Cell, row.details["cell"]).name


def _result(benches: BenchHistory, row: BenchRun) -> CellResult:
    loads: list[LoadRecord] = []
    runs: list[RunRecord] = []
    for sample in benches.samples(row.bench_id):
        raw: dict[str, Any] = dict(sample.sample)
        if raw.pop("kind", None) == "load":
            loads.append(from_json(LoadRecord, raw))
        else:
            runs.append(from_json(RunRecord, raw))
    measured = tuple(run for run in runs if not run.warmup)
    if row.summary:
        ended = from_json(CellResult, row.summary)
    else:
        ended = CellResult(cell=from_json(Cell, row.details["cell"]), outcome="interrupted", reason="it was cut off")
    return replace(
        ended,
        loads=tuple(loads),
        warmups=tuple(run for run in runs if run.warmup),
        runs=measured,
        summaries=summaries_of(measured, tuple(loads)),
    )
