"""What was kept can be read where nothing may be written."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.history import History
from lmstrix.core.history.database import Database
from lmstrix.core.vectors import CollectionInfo, CollectionStore, EmbeddedPart
from lmstrix.core.vectors.similarity import as_unit
from lmstrix.core.vectors.store import UNIT
from lmstrix.ground.errors import HistoryError
from tests.support.read_only import lasting_folder, read_only

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs_posix("permission bits")
NOW = datetime(2026, 5, 1, tzinfo=UTC)
NOTES = CollectionInfo(
    name="notes",
    model_key="m",
    model_path="a/m.gguf",
    dimensions=2,
    scaling=UNIT,
    created_at=NOW,
    changed_at=NOW,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with lasting_folder() as made:
        yield made


def test_a_collection_is_searched(folder: Path) -> None:
    file = folder / "collections.db"
    with CollectionStore(file) as store:
        store.begin(NOTES)
        store.add("notes", [EmbeddedPart(entry_id="one", content_hash="h", vector=as_unit([1.0, 0.0]), text="text")])
    with read_only(folder):
        with CollectionStore(file, for_reading=True) as store:
            assert [match.text for match in store.nearest("notes", as_unit([1.0, 1.0]), 3)] == ["text"]
            with pytest.raises(HistoryError, match=r"readonly database\): check its permissions"):
                store.delete("notes")
        with pytest.raises(HistoryError, match="check"), CollectionStore(file):
            pass
    assert [path.name for path in folder.iterdir()] == ["collections.db"]


def test_a_history_is_read(folder: Path) -> None:
    file = folder / "lmstrix.db"
    with History(file) as history:
        history.benches.begin("s", model_path="a/m.gguf", model_key="m", configuration="c")
    with read_only(folder), History(file, for_reading=True) as history:
        assert [run.session for run in history.benches.runs()] == ["s"]


def test_what_a_writer_has_not_folded_in_yet_is_read_too(folder: Path) -> None:
    file = folder / "lmstrix.db"
    writer = History(file)
    writer.benches.begin("s", model_path="a/m.gguf", model_key="m", configuration="c")
    with read_only(folder), History(file, for_reading=True) as history:  # beside a log and its shared memory
        assert [run.session for run in history.benches.runs()] == ["s"]
    writer.close()


def test_a_file_of_another_version_is_not_guessed_at(folder: Path) -> None:
    file = folder / "old.db"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 0")
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()
    with read_only(folder), pytest.raises(HistoryError, match="another version of LMStrix and may not be changed"):
        Database(file, for_reading=True)


def test_a_file_that_is_missing_is_no_file_to_read(folder: Path) -> None:
    with read_only(folder), pytest.raises(HistoryError, match="check that its folder"):
        Database(folder / "absent.db", for_reading=True)
