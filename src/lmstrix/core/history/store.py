"""lmstrix.db as one object, which holds each part of the history by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.history.beliefs import Beliefs
from lmstrix.core.history.benches import BenchHistory
from lmstrix.core.history.calls import CallLog
from lmstrix.core.history.database import Database
from lmstrix.core.history.journal import Journal
from lmstrix.core.history.renaming import follow_renaming

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_TABLES_BY_MODEL = ("intents", "finished_models", "probes", "bench_runs", "calls")


class History:
    """Opens lmstrix.db at `path`, making it when absent; use as a context manager.

    `set_aside` names where a damaged file was moved on opening, None otherwise: the caller should say so. The call log
    alone needs no `durable` file, and an answer should not wait for a disk.
    """

    def __init__(self, path: Path, *, durable: bool = True, for_reading: bool = False) -> None:
        # One connection for all parts, so that a step that touches several of them can be one transaction.
        self._database = Database(path, durable=durable, for_reading=for_reading)
        self.set_aside = self._database.set_aside
        follow_renaming(self._database)
        self.journal = Journal(self._database)
        self.beliefs = Beliefs(self._database)
        self.benches = BenchHistory(self._database)
        self.calls = CallLog(self._database)

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def move_model(self, old_path: str, new_path: str) -> None:
        """Let everything known of a model follow it to another path."""
        with self._database.transaction():
            for table in _TABLES_BY_MODEL:
                # OR REPLACE: one run may have finished a model under both paths.
                self._database.execute(
                    f"UPDATE OR REPLACE {table} SET model_path = ? WHERE model_path = ?",  # noqa: S608 - our own names
                    (new_path, old_path),
                )
