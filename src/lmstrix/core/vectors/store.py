"""Collections on disk, in an SQLite file of their own: collections.db in LMStrix's folder.

Not in lmstrix.db: a collection of 10,000 texts has 30 MB of vectors, which can be made again, and the history beside
which they would lie cannot; deleting a collection rewrites the file, so that its texts are really gone, and no other
process should wait for that to announce a load. A text is written with its vectors, a batch in one transaction: what
was interrupted goes on where it was, and two processes may add to one collection.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from lmstrix.core.history.database import Database
from lmstrix.core.history.rows import now
from lmstrix.core.vectors.records import BOUNDS, CollectionInfo, EmbeddedPart, Match, part_id
from lmstrix.core.vectors.similarity import nearest
from lmstrix.ground.errors import HistoryError, UsageError
from lmstrix.ground.text import storable
from lmstrix.ground.wording import call

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from lmstrix.core.history.database import Value
    from lmstrix.core.history.schema import Migrations

COLLECTIONS = "collections.db"
UNIT = "unit"
_MIGRATIONS: Migrations = (
    (
        """CREATE TABLE collections (
            name TEXT PRIMARY KEY,
            model_key TEXT NOT NULL,
            model_path TEXT NOT NULL,
            dimensions INTEGER NOT NULL,
            scaling TEXT NOT NULL,           -- 'unit': vectors of length 1
            created_at TEXT NOT NULL,
            changed_at TEXT NOT NULL
        )""",
        """CREATE TABLE parts (
            id INTEGER PRIMARY KEY,
            collection TEXT NOT NULL REFERENCES collections(name) ON DELETE CASCADE,
            entry_id TEXT NOT NULL,
            part INTEGER NOT NULL,           -- 0 for a text in one piece, else from 1
            parts INTEGER NOT NULL,
            content_hash TEXT NOT NULL,      -- of the whole text, and of how it was cut
            vector BLOB NOT NULL,            -- 32-bit floats, little-endian
            text TEXT,                       -- NULL where texts are not kept
            embedded_at TEXT NOT NULL
        )""",
        "CREATE UNIQUE INDEX parts_by_id ON parts (collection, entry_id, part)",
    ),
    (
        "ALTER TABLE collections ADD COLUMN document_prefix TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE collections ADD COLUMN query_prefix TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE parts ADD COLUMN source TEXT",  # the file it was read from, in full
    ),
)
_READ_AT_ONCE = 2_000
_INFO = """SELECT collections.*, count(DISTINCT entry_id) AS entries, count(parts.id) AS parts
    FROM collections LEFT JOIN parts ON parts.collection = name"""


def unknown_collection(name: str, there: Sequence[str]) -> UsageError:
    """That there is no such collection, naming those there are."""
    known = f"there is {', '.join(there[:8])}" if there else f"there is none yet: {call('collections.add')} makes one"
    return UsageError(f"no collection {name[:80]!r}; {known}")


class CollectionStore:
    """Opens the collections' file, making it when absent; use as a context manager.

    `set_aside` names where a damaged file was moved on opening. `for_reading`, a file that may not be written is opened
    too.
    """

    def __init__(self, path: Path, *, for_reading: bool = False) -> None:
        self._database = Database(path, durable=False, migrations=_MIGRATIONS, for_reading=for_reading)
        self.set_aside = self._database.set_aside

    def __enter__(self) -> CollectionStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    def collections(self) -> list[CollectionInfo]:
        """All of them, by name."""
        return [_info(row) for row in self._database.rows(f"{_INFO} GROUP BY name ORDER BY name")]

    def find(self, name: str) -> CollectionInfo | None:
        """The collection of this name."""
        rows = self._database.rows(f"{_INFO} WHERE name = ? GROUP BY name", (storable(name),))
        return _info(rows[0]) if rows else None

    def get(self, name: str) -> CollectionInfo:
        """The same. Raises UsageError, naming those there are, where there is none."""
        found = self.find(name)
        if found is None:
            raise unknown_collection(name, [each.name for each in self.collections()])
        return found

    def begin(self, info: CollectionInfo) -> CollectionInfo:
        """Make the collection, unless another process has; returns what is there."""
        row = {"name": info.name, "model_key": info.model_key, "model_path": info.model_path, "scaling": info.scaling}
        row |= {"document_prefix": info.document_prefix, "query_prefix": info.query_prefix}
        times = {"created_at": info.created_at.isoformat(), "changed_at": info.changed_at.isoformat()}
        with self._database.transaction():
            if self.find(info.name) is None:
                self._database.insert("collections", {**row, **times, "dimensions": info.dimensions})
            return self.get(info.name)

    def kept(self, name: str, entry_id: str, digest: str) -> dict[int, int]:
        """Which parts of a text are there, and of how many; none of an earlier content."""
        rows = self._database.rows(
            "SELECT part, parts FROM parts WHERE collection = ? AND entry_id = ? AND content_hash = ?",
            (name, storable(entry_id), digest),
        )
        return {row["part"]: row["parts"] for row in rows}

    def add(self, name: str, parts: Sequence[EmbeddedPart]) -> None:
        """Keep vectors, in the place of those of the same part. All or none; what a text was before goes."""
        with self._database.transaction():
            # Looked at inside: another process may have deleted the collection while these were made.
            rows = self._database.rows("SELECT count(*) FROM parts WHERE collection = ?", (name,))
            if rows[0][0] + len(parts) > BOUNDS.parts:
                raise UsageError(
                    f"the collection {name} has {rows[0][0]:,} vectors, and {BOUNDS.parts:,} are the most; "
                    "begin another one"
                )
            if not self._database.rows("SELECT 1 FROM collections WHERE name = ?", (name,)):
                raise UsageError(f"the collection {name} was deleted meanwhile; add the texts again")
            for part in parts:
                entry = storable(part.entry_id)
                row: dict[str, Value] = {
                    "collection": name,
                    "entry_id": entry,
                    "part": part.part,
                    "parts": part.parts,
                    "content_hash": part.content_hash,
                    "vector": part.vector,
                    "text": None if part.text is None else storable(part.text),
                    "source": None if part.source is None else storable(part.source),
                    "embedded_at": now(),
                }
                self._database.execute(
                    "DELETE FROM parts WHERE collection = ? AND entry_id = ? AND (part = ? OR content_hash != ?)",
                    (name, entry, part.part, part.content_hash),
                )
                self._database.insert("parts", row)
            self._database.execute("UPDATE collections SET changed_at = ? WHERE name = ?", (now(), name))

    def sources(self, name: str) -> dict[str, str]:
        """The file that each text was read from, by its id; nothing for what was given as a text."""
        rows = self._database.rows(
            "SELECT DISTINCT entry_id, source FROM parts WHERE collection = ? AND source IS NOT NULL", (name,)
        )
        return {row["entry_id"]: row["source"] for row in rows}

    def note_source(self, name: str, entry_id: str, source: str) -> None:
        """Say which file a text that is there was read from."""
        self._database.execute(
            "UPDATE parts SET source = :source WHERE collection = :name AND entry_id = :entry"
            " AND source IS NOT :source",
            {"source": storable(source), "name": name, "entry": storable(entry_id)},
        )

    def parts(self, name: str) -> Iterator[EmbeddedPart]:
        """All that is in a collection, by id."""
        last: tuple[str, int] = ("", -1)
        while True:
            rows = self._database.rows(
                "SELECT * FROM parts WHERE collection = ? AND (entry_id, part) > (?, ?)"
                " ORDER BY entry_id, part LIMIT ?",
                (name, *last, _READ_AT_ONCE),
            )
            for row in rows:
                yield _part(row)
            if len(rows) < _READ_AT_ONCE:
                return
            last = (rows[-1]["entry_id"], rows[-1]["part"])

    def vector(self, name: str, wanted_id: str) -> bytes | None:
        """The vector of a text, or of a part of it, by its id."""
        entry, mark, number = storable(wanted_id).rpartition("#")
        places = [(storable(wanted_id), 0), *([(entry, int(number))] if mark and number.isdecimal() else [])]
        for entry_id, part in places:
            rows = self._database.rows(
                "SELECT vector FROM parts WHERE collection = ? AND entry_id = ? AND part = ?", (name, entry_id, part)
            )
            if rows:
                return bytes(rows[0]["vector"])
        return None

    def nearest(self, name: str, wanted: bytes, most: int) -> list[Match]:
        """The texts whose vectors are nearest to `wanted`, the nearest first."""
        found = nearest(wanted, self._vectors(name), most)
        marks = ", ".join("?" * len(found))
        rows = self._database.rows(
            f"SELECT id, entry_id, part, text FROM parts WHERE id IN ({marks})",  # noqa: S608 - question marks alone
            [number for number, _ in found],
        )
        by_number = {row["id"]: row for row in rows}
        # One that was deleted since the vectors were read is no match any more.
        return [_match(by_number[number], cosine) for number, cosine in found if number in by_number]

    def _vectors(self, name: str) -> Iterator[tuple[int, bytes]]:
        last = 0
        while True:
            rows = self._database.rows(
                "SELECT id, vector FROM parts WHERE collection = ? AND id > ? ORDER BY id LIMIT ?",
                (name, last, _READ_AT_ONCE),
            )
            yield from ((row["id"], row["vector"]) for row in rows)
            if len(rows) < _READ_AT_ONCE:
                return
            last = rows[-1]["id"]

    def delete(self, name: str) -> None:
        """Delete a collection with all that is in it."""
        self._database.execute("DELETE FROM collections WHERE name = ?", (storable(name),))
        self._shrink()

    def delete_entries(self, name: str, entry_ids: Sequence[str]) -> list[str]:
        """Delete texts with all their parts; returns the ids that were there."""
        statement = "DELETE FROM parts WHERE collection = ? AND entry_id = ?"
        with self._database.transaction():
            found = [each for each in entry_ids if self._database.execute(statement, (name, storable(each)))]
        self._shrink()
        return found

    def _shrink(self) -> None:
        # Else what was deleted stays readable in the file. Somebody who reads meanwhile keeps us from it, until the
        # next time.
        with suppress(HistoryError):
            self._database.execute("VACUUM")


def _info(row: sqlite3.Row) -> CollectionInfo:
    return CollectionInfo(
        name=row["name"],
        model_key=row["model_key"],
        model_path=row["model_path"],
        dimensions=row["dimensions"],
        scaling=row["scaling"],
        created_at=datetime.fromisoformat(row["created_at"]),
        changed_at=datetime.fromisoformat(row["changed_at"]),
        entries=row["entries"],
        parts=row["parts"],
        document_prefix=row["document_prefix"],
        query_prefix=row["query_prefix"],
    )


def _part(row: sqlite3.Row) -> EmbeddedPart:
    return EmbeddedPart(
        entry_id=row["entry_id"],
        part=row["part"],
        parts=row["parts"],
        content_hash=row["content_hash"],
        vector=bytes(row["vector"]),
        text=row["text"],
        source=row["source"],
    )


def _match(row: sqlite3.Row, cosine: float) -> Match:
    return Match(
        part_id=part_id(row["entry_id"], row["part"]),
        entry_id=row["entry_id"],
        cosine_similarity=cosine,
        text=row["text"],
    )
