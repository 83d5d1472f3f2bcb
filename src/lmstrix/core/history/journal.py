"""The write-ahead journal of context tests: what is about to be tried is on the disk before it is tried.

An intent without an outcome, whose process is gone, means that the process or the machine ended during the attempt. A
size that took the machine down is bad until the conditions change; that the process alone ended (somebody killed it)
only casts doubt on it. Which process wrote an intent is told by host, pid and start time, so that a tester still at
work is never taken for dead.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from lmstrix.core.history.conditions import UNKNOWN, Conditions, have_changed, still_stands
from lmstrix.core.history.processes import own_identity, process_identity
from lmstrix.core.history.rows import now, record_of, row_of
from lmstrix.core.registry.known_failure import KnownFailure
from lmstrix.ground.addresses import host_name
from lmstrix.ground.errors import HistoryError
from lmstrix.ground.machine import boot_id

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping

    from lmstrix.core.history.database import Database
    from lmstrix.ground.types import AttemptKind

Proves = Literal["good", "bad", "doubt", "nothing"]
"""What an attempt says of its size. One doubt is a chance event, such as a stray kill; a second one confirms it."""

MACHINE_DOWN = "machine_down"
PROCESS_DIED = "process_died"
_NOTHING: Mapping[str, Any] = {}
_WEIGHTS: Mapping[Proves | None, int] = {"bad": 2, "doubt": 1}
_BAD_WEIGHT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One command that tests. `alive` says whether its process still runs."""

    run_id: str
    kind: str
    host: str
    pid: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    alive: bool
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One attempt, and the conditions it was made in. `outcome` is None while it is under way; it stays None when its
    process or (`machine_went_down`) the machine ended before it did.
    """

    intent_id: int
    run_id: str
    model_path: str
    configuration: str
    kind: AttemptKind
    context_length: int
    predicted_bytes: int | None
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    proves: Proves | None
    conditions: Conditions = UNKNOWN
    machine_went_down: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        """How much it speaks against its size."""
        return _BAD_WEIGHT if self.machine_went_down else _WEIGHTS.get(self.proves, 0)

    def is_disproved_by(self, good: Intent) -> bool:
        """A context that was filled was loaded too; that it loads says nothing of filling it."""
        return self.context_length <= good.context_length and (good.kind == "prefill" or self.kind == "load")

    def stands(self, present: Conditions) -> bool:
        """Whether it would come again. Another boot is no reason to take the machine down again."""
        if self.machine_went_down:
            return not have_changed(self.conditions, present, self.predicted_bytes)
        return still_stands(self.conditions, present, self.predicted_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One recall probe. `score_ratio` (0..1) is None when the probe was not valid."""

    model_path: str
    configuration: str
    context_length: int
    passed: bool
    prompt_tokens: int | None = None
    score_ratio: float | None = None
    measured_at: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """The journal's tables. Every write is on the disk when the call returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Runs

    def begin_run(self, kind: str, *, details: Mapping[str, Any] = _NOTHING) -> str:
        """Open a run of this process; `details` may hold its plan, for a later run to continue it. Returns its id."""
        run_id = uuid4().hex
        self._database.insert(
            "runs",
            {
                "id": run_id,
                "kind": kind,
                "host": host_name(),
                "pid": os.getpid(),
                "process": own_identity(),
                "boot": boot_id(),
                "started_at": now(),
                "details": json.dumps(dict(details)),
            },
        )
        return run_id

    def end_run(self, run_id: str, outcome: str) -> None:
        self._database.execute("UPDATE runs SET finished_at = ?, outcome = ? WHERE id = ?", (now(), outcome, run_id))

    def finish_model(self, run_id: str, model_path: str, outcome: str) -> None:
        """Note that a run is done with a model, so that resuming it passes the model over."""
        self._database.insert(
            "finished_models",
            {"run_id": run_id, "model_path": model_path, "outcome": outcome, "finished_at": now()},
            replace=True,
        )

    def finished_models(self, run_id: str) -> dict[str, str]:
        """Path -> outcome of the models a run was done with."""
        rows = self._database.rows("SELECT model_path, outcome FROM finished_models WHERE run_id = ?", (run_id,))
        return {row["model_path"]: row["outcome"] for row in rows}

    def last_run(self, kind: str) -> Run | None:
        """The latest run of a kind on this host, finished or not."""
        rows = self._database.rows(
            "SELECT * FROM runs WHERE kind = ? AND host = ? ORDER BY started_at DESC, rowid DESC LIMIT 1",
            (kind, host_name()),
        )
        return _run(rows[0]) if rows else None

    # Intents

    def intend(
        self,
        run_id: str,
        model_path: str,
        configuration: str,
        *,
        kind: AttemptKind,
        context_length: int,
        predicted_bytes: int | None = None,
        conditions: Conditions = UNKNOWN,
        details: Mapping[str, Any] = _NOTHING,
    ) -> int:
        """Write down an attempt before it is made. Returns its id, for `settle`."""
        return self._database.insert(
            "intents",
            {
                "run_id": run_id,
                "model_path": model_path,
                "configuration": configuration,
                "kind": kind,
                "context_length": context_length,
                "predicted_bytes": predicted_bytes,
                **row_of(conditions),
                "started_at": now(),
                "details": json.dumps(dict(details)),
            },
        )

    def settle(self, intent_id: int, outcome: str, *, proves: Proves, details: Mapping[str, Any] = _NOTHING) -> None:
        """Write down how an attempt ended, and what that says of its size."""
        # Details are merged: what was known before the attempt stays beside how it ended.
        self._database.execute(
            "UPDATE intents SET finished_at = ?, outcome = ?, proves = ?, details = json_patch(details, ?)"
            " WHERE id = ?",
            (now(), outcome, proves, json.dumps(dict(details)), intent_id),
        )

    def unfinished(self) -> list[Intent]:
        """Attempts of this host that never ended because their process is gone, oldest first."""
        # Of this host only: whether a process of another one still runs cannot be told from here.
        rows = self._database.rows(
            "SELECT intents.*, runs.host, runs.pid, runs.process, runs.boot FROM intents JOIN runs ON runs.id = run_id"
            " WHERE intents.outcome IS NULL AND runs.host = ? ORDER BY intents.id",
            (host_name(),),
        )
        boot = boot_id()
        return [_intent(row, machine_went_down=_ended_with_machine(row, boot)) for row in rows if not _is_alive(row)]

    def settle_unfinished(self) -> list[Intent]:
        """Settle what `unfinished` finds, and return it: bad where the machine went down, else in doubt."""
        unfinished = self.unfinished()
        # Now, while it can be told from a process at work: in time its id goes to another program.
        for intent in unfinished:
            if intent.machine_went_down:
                self.settle(intent.intent_id, MACHINE_DOWN, proves="bad")
            else:
                self.settle(intent.intent_id, PROCESS_DIED, proves="doubt")
        return unfinished

    def intents(
        self, *, run_id: str | None = None, model_path: str | None = None, configuration: str | None = None
    ) -> list[Intent]:
        """The attempts of a run, a model, or a configuration, oldest first."""
        rows = self._database.rows(
            "SELECT * FROM intents WHERE (:run IS NULL OR run_id = :run) AND (:model IS NULL OR model_path = :model)"
            " AND (:configuration IS NULL OR configuration = :configuration) ORDER BY id",
            {"run": run_id, "model": model_path, "configuration": configuration},
        )
        return [_intent(row) for row in rows]

    def known_bad(self, model_path: str, configuration: str, present: Conditions) -> KnownFailure | None:
        """The shortest length whose failure is certain and would come again in the present conditions, or None."""
        never_ended = {intent.intent_id: intent for intent in self.unfinished()}
        failures: list[Intent] = []
        for row in self.intents(model_path=model_path, configuration=configuration):
            intent = never_ended.get(row.intent_id, row)
            if intent.proves == "good" and any(failure.is_disproved_by(intent) for failure in failures):
                # Drivers get fixed and memory gets added: longer lengths failed under what has changed since as well.
                failures = [failure for failure in failures if intent.kind == "load" and failure.kind == "prefill"]
            elif intent.weight or intent.intent_id in never_ended:
                failures.append(intent)
        return _shortest_certain([failure for failure in failures if failure.stands(present)])

    def forget_tests(self, model_path: str) -> None:
        """Drop the attempts and probes of a model, except those under way."""
        with self._database.transaction():
            # An attempt under way may yet take the machine down; without its row nobody would know which it was.
            under_way = [
                row["id"]
                for row in self._database.rows(
                    "SELECT intents.id, runs.host, runs.pid, runs.process FROM intents JOIN runs ON runs.id = run_id"
                    " WHERE intents.outcome IS NULL AND model_path = ?",
                    (model_path,),
                )
                if _is_alive(row)
            ]
            self._database.execute(
                "DELETE FROM intents WHERE model_path = ? AND id NOT IN (SELECT value FROM json_each(?))",
                (model_path, json.dumps(under_way)),
            )
            self._database.execute("DELETE FROM probes WHERE model_path = ?", (model_path,))

    # Recall probes

    def add_probe(self, probe: Probe, *, run_id: str | None = None) -> None:
        """Keep a probe's result; `measured_at` is now unless given."""
        measured = replace(probe, measured_at=probe.measured_at or datetime.now(UTC))
        self._database.insert("probes", row_of(measured) | {"run_id": run_id})

    def probes(self, model_path: str, *, configuration: str | None = None) -> list[Probe]:
        """A model's probes, oldest first."""
        rows = self._database.rows(
            "SELECT * FROM probes WHERE model_path = :model"
            " AND (:configuration IS NULL OR configuration = :configuration) ORDER BY id",
            {"model": model_path, "configuration": configuration},
        )
        return [record_of(Probe, row) for row in rows]

    # One tester at a time

    @contextmanager
    def tester_lock(self, purpose: str) -> Iterator[None]:
        """Hold the right to test on this host. Raises HistoryError naming who holds it, and since when.

        It is advisory, and a holder that died holds nothing.
        """
        host = host_name()
        # In one transaction, or two that start at once would both find the place free.
        with self._database.transaction():
            rows = self._database.rows("SELECT * FROM testers WHERE host = ?", (host,))
            if rows and _is_alive(rows[0]):
                holder = rows[0]
                raise HistoryError(
                    f"Another test is running here: {holder['purpose']!r}, process {holder['pid']}, since "
                    f"{holder['since']}; wait for it to end, or stop it"
                )
            since = datetime.now(UTC).isoformat(timespec="seconds")  # shown to whoever has to wait
            self._database.insert(
                "testers",
                {"host": host, "pid": os.getpid(), "process": own_identity(), "purpose": purpose, "since": since},
                replace=True,
            )
        try:
            yield
        finally:
            with suppress(HistoryError):  # a holder whose process has ended holds nothing anyway
                self._database.execute("DELETE FROM testers WHERE host = ? AND pid = ?", (host, os.getpid()))


def _is_alive(row: sqlite3.Row) -> bool:
    """Whether the process that wrote the row still runs; `process` outlives neither the process nor the machine."""
    process: str = row["process"]
    return process_identity(row["pid"]) == process


def _run(row: sqlite3.Row) -> Run:
    return record_of(Run, row, run_id=row["id"], alive=_is_alive(row))


def _intent(row: sqlite3.Row, *, machine_went_down: bool | None = None) -> Intent:
    if machine_went_down is None:
        machine_went_down = row["outcome"] == MACHINE_DOWN
    conditions = record_of(Conditions, row)
    return record_of(Intent, row, intent_id=row["id"], conditions=conditions, machine_went_down=machine_went_down)


def _ended_with_machine(row: sqlite3.Row, boot: str) -> bool:
    """Whether the tester's machine has started anew since, and the model ran on it too."""
    return bool(row["boot"] != boot and row["boot_id"] == row["boot"])


def _shortest_certain(failures: Iterable[Intent]) -> KnownFailure | None:
    """The shortest length that failed for certain: what fails at a length fails at any longer one, so doubts add up."""
    weight = 0
    for failure in sorted(failures, key=lambda failure: failure.context_length):
        weight += failure.weight or _WEIGHTS["doubt"]
        if weight >= _BAD_WEIGHT:
            return KnownFailure(
                context_length=failure.context_length,
                failed_at=failure.finished_at or failure.started_at,
                outcome=failure.outcome or PROCESS_DIED,
                free_bytes=failure.conditions.free_bytes,
                took_machine_down=failure.machine_went_down,
            )
    return None
