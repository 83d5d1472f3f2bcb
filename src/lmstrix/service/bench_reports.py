"""Reports of benchmarks, found by name, written again, and listed.

A report is named by its folder, by its report.json, by the beginning of its session, or by `last`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.against import compare_sides
from lmstrix.core.benchmark.compare import BenchComparison, compare
from lmstrix.core.benchmark.earlier_sessions import earlier_medians
from lmstrix.core.benchmark.records import BenchReport, from_json
from lmstrix.core.benchmark.saved import load_report
from lmstrix.core.benchmark.traffic_records import TRAFFIC_SCHEMA, TrafficReport
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.files import make_private_folder
from lmstrix.ground.wording import call, parameter
from lmstrix.reports.bench.files import REPORT_FILE, write_report

if TYPE_CHECKING:
    from datetime import datetime

    from lmstrix.core.history import BenchRun
    from lmstrix.service.workspace import Workspace

LAST = "last"


def new_folder(workspace: Workspace, started_at: datetime) -> Path:
    """A new folder named after the time the benchmark began."""
    reports = workspace.paths.own / "reports"
    make_private_folder(reports)
    name = f"lmstrix-bench-{started_at.astimezone():%Y%m%d-%H%M%S}"
    # Two benchmarks may begin in the same second, and a report is never overwritten.
    folder, number = reports / name, 2
    while folder.exists():
        folder, number = reports / f"{name}-{number}", number + 1
    return folder


def ready_folder(folder: Path) -> None:
    """Make a folder that was asked for, before hours of measuring end at it. Raises UsageError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(
            f"no report can be written to {folder}: {exc.strerror or exc} ({parameter('out')} names a folder)"
        ) from exc
    if not os.access(folder, os.W_OK):
        raise UsageError(f"no report can be written to {folder}: permission denied ({parameter('out')} names a folder)")


def find_report(workspace: Workspace, name: str) -> BenchReport:
    """A report by its folder, its file, its session or the beginning of it, or `last`."""
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / REPORT_FILE
    if path.is_file():
        return _read(path)
    opened = workspace.history()
    if opened is None:
        raise UsageError(
            f"{name!r} is no report: no such folder, and there is no history yet ({call('bench')} makes one)"
        )
    with opened as history:
        sessions = list(dict.fromkeys(run.session for run in history.benches.runs()))
        found = sessions[:1] if name == LAST else [session for session in sessions if session.startswith(name)]
        if len(found) != 1:
            what = "is no folder or session of a benchmark" if not found else "is the beginning of several sessions"
            raise UsageError(f"{name!r} {what}; {call('benches.history')} lists them")
        return load_report(history.benches, found[0])


def find_traffic(name: str) -> TrafficReport | None:
    """A test of traffic by its folder or its file; None where the name is of anything else."""
    path = Path(name).expanduser()
    path = path / REPORT_FILE if path.is_dir() else path
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_bytes())
        is_traffic = isinstance(raw, dict) and raw.get("schema") == TRAFFIC_SCHEMA
        return from_json(TrafficReport, raw) if is_traffic else None
    except (ValueError, RecursionError):
        return None  # whoever reads it as a benchmark says what is wrong with it


def _read(path: Path) -> BenchReport:
    try:
        report = from_json(BenchReport, json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as exc:  # a report may come from anybody, nested to any depth
        raise LMStrixError(f"{path} is no report of lmstrix bench: {str(exc).splitlines()[0]}") from exc
    if not report.cells:
        raise LMStrixError(f"{path} is a report without any cell; measure again with {call('bench')}")
    return report


def compare_reports(workspace: Workspace, first: str, second: str | None) -> BenchComparison:
    """Two reports against each other, or, without a second, the two sides of the first."""
    one = find_report(workspace, first)
    if second is None:
        return compare_sides(one)
    other = find_report(workspace, second)
    opened = workspace.history()
    if opened is None:
        return compare(one, other)
    with opened as history:
        earlier = earlier_medians(history.benches, one, without=(one.session, other.session))
    return compare(one, other, earlier=earlier)


def rewrite(workspace: Workspace, name: str, folder: Path | None) -> Path:
    """Write a report's files again, into `folder`, or the folder it was named by, or a new one. Returns its page."""
    report = find_report(workspace, name)
    if folder is None:
        path = Path(name).expanduser()
        folder = path if path.is_dir() else path.parent if path.is_file() else new_folder(workspace, report.started_at)
    return write_report(report, folder)


def history_runs(workspace: Workspace, *, model: str | None = None, last: int = 20) -> list[BenchRun]:
    """The benchmarks in the history, newest first, a row per cell."""
    opened = workspace.history()
    if opened is None:
        return []
    with opened as history:
        path = workspace.find(model).path if model is not None else None
        return history.benches.runs(model_path=path, limit=last)
