"""Benchmark history: one row per run of one model, and every raw measurement behind it.

Raw figures and summaries are JSON objects, because new figures must need no new column and queries only have to find
the runs. Nothing measured is averaged away here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lmstrix.core.history.rows import now, record_of, row_of
from lmstrix.ground.addresses import host_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.core.history.database import Database

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRun:
    """One model measured once. `session` names the command it belongs to; `summary` is empty until it has finished."""

    bench_id: str
    session: str
    model_path: str
    model_key: str
    configuration: str
    context_length: int | None
    host: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    summary: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSample:
    """One measurement of a run; `sample` holds its raw figures."""

    number: int
    warmup: bool
    measured_at: datetime
    sample: Mapping[str, Any]


class BenchHistory:
    """The benchmark tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self,
        session: str,
        *,
        model_path: str,
        model_key: str,
        configuration: str,
        context_length: int | None = None,
        details: Mapping[str, Any] = _NOTHING,
    ) -> str:
        """Open a run. Returns its id."""
        bench_id = uuid4().hex
        self._database.insert(
            "bench_runs",
            {
                "id": bench_id,
                "session": session,
                "model_path": model_path,
                "model_key": model_key,
                "configuration": configuration,
                "context_length": context_length,
                "host": host_name(),
                "started_at": now(),
                # Empty until the run ends; whoever reads it later tells by it a run that was cut off.
                "summary": "{}",
                "details": json.dumps(dict(details)),
            },
        )
        return bench_id

    def add_sample(self, bench_id: str, number: int, sample: Mapping[str, Any], *, warmup: bool = False) -> None:
        """Keep one measurement. A number given again replaces the earlier one."""
        measured = BenchSample(number=number, warmup=warmup, measured_at=datetime.now(UTC), sample=sample)
        self._database.insert("bench_samples", row_of(measured) | {"bench_run_id": bench_id}, replace=True)

    def end(self, bench_id: str, outcome: str, *, summary: Mapping[str, Any] = _NOTHING) -> None:
        self._database.execute(
            "UPDATE bench_runs SET finished_at = ?, outcome = ?, summary = ? WHERE id = ?",
            (now(), outcome, json.dumps(dict(summary)), bench_id),
        )

    def runs(
        self, *, session: str | None = None, model_path: str | None = None, limit: int | None = None
    ) -> list[BenchRun]:
        """Runs, newest first."""
        # By rowid too: the cells of a session begin together, and a report shows them in the order of its plan.
        rows = self._database.rows(
            "SELECT * FROM bench_runs WHERE (:session IS NULL OR session = :session)"
            " AND (:model IS NULL OR model_path = :model) ORDER BY started_at DESC, rowid DESC LIMIT :limit",
            {"session": session, "model": model_path, "limit": -1 if limit is None else limit},
        )
        return [record_of(BenchRun, row, bench_id=row["id"]) for row in rows]

    def samples(self, bench_id: str) -> list[BenchSample]:
        """A run's measurements, in order."""
        rows = self._database.rows("SELECT * FROM bench_samples WHERE bench_run_id = ? ORDER BY number", (bench_id,))
        return [record_of(BenchSample, row) for row in rows]
