"""What tests taught about a machine: one JSON object for each machine and engine, replaced as a whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.core.history.database import Database


class Beliefs:
    """Learned machine beliefs. `machine` and `engine` are names of the caller's choosing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, machine: str, engine: str, belief: Mapping[str, Any]) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO beliefs (machine, engine, belief, learned_at) VALUES (?, ?, ?, ?)",
            (machine, engine, json.dumps(dict(belief)), datetime.now(UTC).isoformat()),
        )

    def load(self, machine: str, engine: str) -> dict[str, Any] | None:
        """The belief last saved; None when there is none."""
        rows = self._database.rows("SELECT belief FROM beliefs WHERE machine = ? AND engine = ?", (machine, engine))
        belief: dict[str, Any] | None = json.loads(rows[0]["belief"]) if rows else None
        return belief

    def forget(self, machine: str) -> None:
        """Drop what is believed of a machine, for all engines."""
        self._database.execute("DELETE FROM beliefs WHERE machine = ?", (machine,))
