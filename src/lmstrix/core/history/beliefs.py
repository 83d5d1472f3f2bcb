"""What tests taught about a machine: one JSON object per machine and engine, replaced as a whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lmstrix.core.history.rows import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.core.history.database import Database


class Beliefs:
    """Learned machine beliefs. `machine` and `engine` are names of the caller's choosing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, machine: str, engine: str, belief: Mapping[str, Any]) -> None:
        # The old row goes: a belief already holds what every earlier test taught.
        learned = {"machine": machine, "engine": engine, "belief": json.dumps(dict(belief)), "learned_at": now()}
        self._database.insert("beliefs", learned, replace=True)

    def load(self, machine: str, engine: str) -> dict[str, Any] | None:
        """The belief last saved; None when there is none."""
        rows = self._database.rows("SELECT belief FROM beliefs WHERE machine = ? AND engine = ?", (machine, engine))
        belief: dict[str, Any] | None = json.loads(rows[0]["belief"]) if rows else None
        return belief
