"""How lmstrix.db is kept on drives of every kind: the journal that works there, flushed as far as the system can."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.core.history import database as database_module
from lmstrix.core.history.database import Database
from lmstrix.ground.drives import Drive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lmstrix.db"


def setting(database: Database, name: str) -> object:
    return database.rows(f"PRAGMA {name}")[0][0]


def put_on(monkeypatch: pytest.MonkeyPatch, drive: Drive) -> None:
    monkeypatch.setattr(database_module, "drive_of", lambda _path: drive)


def without_shared_memory(code: int | None) -> type[sqlite3.Connection]:
    """A SQLite that cannot do WAL: it says so, or where `code` is None keeps the mode it has."""

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, /, *values: Any) -> sqlite3.Cursor:
            if statement != "PRAGMA journal_mode=WAL":
                return super().execute(statement, *values)
            if code is None:
                return super().execute("PRAGMA journal_mode")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            raise error

    return Connection


def fill(file: Path) -> None:
    database = Database(file)
    database.insert("beliefs", {"machine": "box", "engine": "embedded", "belief": "{}", "learned_at": "now"})
    database.close()


@pytest.mark.parametrize("kind", ["local", "removable", "unknown"])
def test_a_drive_of_this_machine_has_a_write_ahead_log(file: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on(monkeypatch, Drive(kind=kind))
    database = Database(file)
    assert setting(database, "journal_mode") == "wal"
    database.close()


@pytest.mark.parametrize("durable", [True, False])
def test_a_network_drive_has_a_rollback_journal(file: Path, durable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on(monkeypatch, Drive(kind="network", file_system="nfs4"))
    database = Database(file, durable=durable)
    assert setting(database, "journal_mode") == "delete"
    assert setting(database, "synchronous") == 2  # FULL: less could cost the whole file here
    database.close()


def test_what_an_earlier_version_wrote_on_a_network_drive_is_changed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(file)
    put_on(monkeypatch, Drive(kind="network"))
    earlier = sqlite3.connect(file)  # one that is still open keeps the file as it is, and disturbs nobody
    assert earlier.execute("SELECT count(*) FROM beliefs").fetchone() == (1,)
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_S", 0.0)
    beside = Database(file)
    assert setting(beside, "journal_mode") == "wal"
    beside.close()
    earlier.close()
    database = Database(file)
    assert setting(database, "journal_mode") == "delete"
    assert len(database.rows("SELECT * FROM beliefs")) == 1
    database.close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, None])
def test_where_sqlite_cannot_share_memory_it_does_without(
    file: Path, code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., sqlite3.Connection] = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **options: real(path, factory=without_shared_memory(code), **options)
    )
    database = Database(file)
    assert setting(database, "journal_mode") == "delete"
    database.execute("CREATE TABLE works (n)")
    database.close()


@pytest.mark.parametrize(("durable", "synchronous", "full"), [(True, 2, 1), (False, 1, 0)])
def test_what_must_last_is_flushed_to_the_drive(file: Path, durable: bool, synchronous: int, full: int) -> None:
    database = Database(file, durable=durable)
    found = [setting(database, name) for name in ("synchronous", "fullfsync", "checkpoint_fullfsync")]
    assert found == [synchronous, full, full]
    database.close()
