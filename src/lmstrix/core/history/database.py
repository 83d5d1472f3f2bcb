"""The SQLite file: opening, migrating, and turning what SQLite reports into one line.

WAL, so that readers never wait for a writer, and synchronous=FULL, so that a journal row is on the disk before the load
it announces may take the machine down. WAL needs memory that all its processes share, which those of two machines have
not: on a network's drive, and where SQLite says that it cannot, a rollback journal takes its place. One connection
serves all threads of a process, one statement at a time. A file that is no database is moved aside, never deleted, and
a new one begun: `set_aside` then names it, for callers to say. Who only reads can do so where nothing may be written.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmstrix.core.history.schema import MIGRATIONS, Migrations
from lmstrix.ground.drives import drive_of
from lmstrix.ground.errors import HistoryError
from lmstrix.ground.files import make_private, make_private_file
from lmstrix.ground.held_files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_BUSY_TIMEOUT_S = 10.0
_BESIDE = ("-wal", "-shm")
_PRIMARY_CODE = 0xFF  # extended codes (disk full while writing, while syncing, …) keep the primary one in this byte
_NO_WAL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL)
"""What SQLite reports where the file of shared memory cannot be made, mapped or locked."""
_NOT_WRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_REMEDIES = {
    sqlite3.SQLITE_FULL: "free some disk space",
    sqlite3.SQLITE_IOERR: "free some disk space or check the disk",
    sqlite3.SQLITE_READONLY: "check its permissions",
    sqlite3.SQLITE_CANTOPEN: "check that its folder exists and may be written",
    sqlite3.SQLITE_PERM: "check its permissions",
    sqlite3.SQLITE_BUSY: "another LMStrix has held it for long; try again later",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away to begin a new one",
    sqlite3.SQLITE_NOTADB: "it is damaged; move it away to begin a new one",
}

Value = str | bytes | int | float | None


class Database:
    """One open lmstrix.db, or another file with `migrations` of its own. Every failure is a HistoryError; what was
    written before it stays.

    Not `durable`, a statement returns before it is on the disk: a crash of the machine may lose it, never the file.
    `for_reading`, a file that is there and may not be written is opened too; `is_read_only` then, and changes fail.
    """

    def __init__(
        self, path: Path, *, durable: bool = True, migrations: Migrations = MIGRATIONS, for_reading: bool = False
    ) -> None:
        self.path = path
        self._migrations = migrations
        self._durable = durable
        self.set_aside: Path | None = None
        self.is_read_only = False
        self._lock = threading.RLock()  # reentrant: the statements inside a transaction take it again
        with self._reported():
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as exc:
                if for_reading and _code(exc) in _NOT_WRITABLE and path.exists():
                    self._connection = self._open_to_read()
                    return
                if _code(exc) not in _DAMAGED:
                    raise
                # Losing the history is bad, but a tool that cannot start because of its log is worse.
                self.set_aside = self._move_aside()
                self._connection = self._open()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def execute(self, statement: str, values: Sequence[Value] | Mapping[str, Value] = ()) -> int:
        """Run one statement; the id of the row it added, or else the number of rows it changed."""
        with self._lock, self._reported():
            cursor = self._connection.execute(statement, values)
            added = statement.lstrip()[:6].upper() == "INSERT"
            return (cursor.lastrowid or 0) if added else cursor.rowcount

    def insert(self, table: str, columns: Mapping[str, Value], *, replace: bool = False) -> int:
        """Add a row, with `replace` in the place of the one of the same key. Returns its id."""
        verb = "INSERT OR REPLACE" if replace else "INSERT"
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        # Names of tables and columns cannot be passed as values; these are our own, never a user's.
        return self.execute(f"{verb} INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))

    def rows(self, statement: str, values: Sequence[Value] | Mapping[str, Value] = ()) -> list[sqlite3.Row]:
        with self._lock, self._reported():
            rows: list[sqlite3.Row] = self._connection.execute(statement, values).fetchall()
            return rows

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside, or none; no other process writes meanwhile."""
        with self._lock:
            with self._reported():
                self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                with self._reported():
                    self._connection.execute("COMMIT")
            finally:
                # Also when COMMIT itself failed (disk full): left open, it would lock out every other process.
                if self._connection.in_transaction:
                    self._connection.rollback()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Before SQLite would make it for all to read; what SQLite puts beside it gets the permissions it has itself.
        with suppress(OSError):  # SQLite says better what is wrong with the file
            make_private_file(self.path)
        for suffix in _BESIDE:
            make_private(self.path.with_name(self.path.name + suffix))
        # No implicit transactions: each statement is on the disk when it returns, unless `transaction` says otherwise.
        connection = _connected(str(self.path))
        try:
            has_wal = self._choose_journal(connection)
            # Only with WAL does less than FULL risk no more than the last rows.
            is_full = self._durable or not has_wal
            connection.execute(f"PRAGMA synchronous={'FULL' if is_full else 'NORMAL'}")
            if is_full:
                # A Mac's drive keeps what it was given in a cache of its own; where there is no such call, SQLite
                # takes these for what it does anyway.
                connection.execute("PRAGMA fullfsync=1")
                connection.execute("PRAGMA checkpoint_fullfsync=1")
            connection.execute("PRAGMA foreign_keys=ON")
            self._migrate(connection)
        except BaseException:
            # A damaged file is moved aside next, and Windows moves no file that is open.
            connection.close()
            raise
        return connection

    def _open_to_read(self) -> sqlite3.Connection:
        self.is_read_only = True
        uri = self.path.resolve().as_uri()
        try:
            # Heeds who writes; but for that WAL needs its files beside the database, and may not make them here.
            return self._readable(f"{uri}?mode=ro")
        except sqlite3.OperationalError as exc:
            if _code(exc) not in _NOT_WRITABLE:
                raise
        return self._readable(f"{uri}?immutable=1")  # as it stands: what a log beside it has is left out

    def _readable(self, uri: str) -> sqlite3.Connection:
        connection = _connected(uri)
        try:
            if _version(connection) != len(self._migrations):
                raise HistoryError(
                    f"{self.path} was written by another version of LMStrix and may not be changed: check its "
                    "permissions"
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _choose_journal(self, connection: sqlite3.Connection) -> bool:
        """Use WAL where it works; whether it is in use."""
        if drive_of(self.path).kind != "network":
            try:
                return _journal_mode(connection, "WAL") == "wal"  # SQLite keeps the old mode where it cannot change it
            except sqlite3.OperationalError as exc:
                if _code(exc) not in _NO_WAL:
                    raise
        try:
            return _journal_mode(connection, "DELETE") == "wal"
        except sqlite3.OperationalError as exc:
            if _code(exc) != sqlite3.SQLITE_BUSY:
                raise
            return True  # an earlier version of LMStrix is at work on it; the next one to open it alone changes it

    def _migrate(self, connection: sqlite3.Connection) -> None:
        # The usual start only reads: taking the write lock would make it wait for every other process.
        if _version(connection) == len(self._migrations):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _version(connection)  # again: another process may have been first
            if version > len(self._migrations):
                raise HistoryError(
                    f"{self.path} has schema version {version}, written by a newer LMStrix; "
                    f"this one knows {len(self._migrations)}: upgrade it"
                )
            for number, statements in enumerate(self._migrations[version:], version + 1):
                for statement in statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _move_aside(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        replace_file(self.path, aside)
        for suffix in _BESIDE:  # they belong to the damaged file; beside a new one they would damage it too
            extra = self.path.with_name(self.path.name + suffix)
            if extra.exists():
                replace_file(extra, aside.with_name(aside.name + suffix))
        return aside

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            remedy = _REMEDIES.get(_code(exc), "see whether the file and its folder are in order")
            raise HistoryError(f"{self.path} cannot be used ({exc}): {remedy}") from exc
        except OSError as exc:
            raise HistoryError(f"{self.path} cannot be used ({exc.strerror or exc}): check its folder") from exc


def damage(path: Path) -> str | None:
    """What SQLite finds wrong with the file at `path`, in its words; None for nothing. Changes nothing."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)
    try:
        found: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as exc:
        return str(exc) if _code(exc) in _DAMAGED else None
    finally:
        connection.close()
    return None if found == "ok" else " ".join(found.split())


def _connected(place: str) -> sqlite3.Connection:
    """A connection to a path, or to what a URI names."""
    connection = sqlite3.connect(
        place,
        uri=place.startswith("file:"),
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    return connection


def _journal_mode(connection: sqlite3.Connection, wanted: str) -> str:
    """Ask for a mode; the one there is then, in lower case."""
    mode: str = connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()[0]
    return mode


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; -1 for what the module itself reports."""
    return getattr(error, "sqlite_errorcode", -1) & _PRIMARY_CODE


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
