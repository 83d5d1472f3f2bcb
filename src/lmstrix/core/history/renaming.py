"""What was kept under a name that this machine no longer has follows it to its new one.

A name changes with the network, above all on a Mac; what was learnt, tried and measured here stays of this machine. A
file on a network's drive is left alone: several machines may write it, and those of one image may have one id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.addresses import host_name
from lmstrix.ground.drives import drive_of
from lmstrix.ground.machine import earlier_name, machine_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.core.history.database import Database

_NAMES = (("runs", "host"), ("testers", "host"), ("beliefs", "machine"), ("bench_runs", "host"))
_CONFIGURED = ("intents", "probes", "bench_runs")


def follow_renaming(database: Database) -> None:
    """Note this machine's name, and take along what stands under its earlier one."""
    if database.is_read_only:
        return
    names = {row["id"]: row["name"] for row in database.rows("SELECT id, name FROM machines")}
    if host_name() in names.values() or drive_of(database.path).kind == "network":
        return
    with database.transaction():
        _note(database, names)


def _note(database: Database, names: Mapping[str, str]) -> None:
    old, new = earlier_name(names), host_name()
    database.insert("machines", {"id": machine_id(), "name": new}, replace=True)
    if old is None:
        return
    for table, column in _NAMES:
        # OR REPLACE: an earlier version may have kept something under the new name.
        database.execute(f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {column} = ?", (new, old))  # noqa: S608 - ours
    for table in _CONFIGURED:
        # "lmstudio@box k=q8_0": the name ends at a blank or with the text.
        database.execute(
            f"UPDATE {table} SET configuration = rtrim(replace(configuration || ' ', :old, :new))"  # noqa: S608 - ours
            " WHERE instr(configuration || ' ', :old)",
            {"old": f"@{old} ", "new": f"@{new} "},
        )
