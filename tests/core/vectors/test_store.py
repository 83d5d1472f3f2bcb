"""Collections on disk: what is kept, found, replaced and deleted; by two at once; and what a damaged file does."""

from __future__ import annotations

import math
import stat
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.vectors import CollectionInfo, CollectionStore, EmbeddedPart, store
from lmstrix.core.vectors.records import CollectionBounds, check_id, check_name, content_hash
from lmstrix.core.vectors.similarity import as_unit, nearest, numbers_of
from lmstrix.ground.errors import GenerationError, HistoryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 5, 1, tzinfo=UTC)
NOTES = CollectionInfo(
    name="notes",
    model_key="embed",
    model_path="acme/embed.gguf",
    dimensions=2,
    scaling=store.UNIT,
    created_at=NOW,
    changed_at=NOW,
)


def part(entry_id: str, *vector: float, text: str | None = None, number: int = 0, parts: int = 1) -> EmbeddedPart:
    digest = content_hash(text or entry_id, None)
    unit = as_unit(vector or (1.0, 0.0))
    return EmbeddedPart(entry_id=entry_id, part=number, parts=parts, content_hash=digest, vector=unit, text=text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lmstrix" / "collections.db"


@pytest.fixture
def notes(file: Path) -> Iterator[CollectionStore]:
    with CollectionStore(file) as opened:
        opened.begin(NOTES)
        yield opened


def test_the_nearest_come_first_by_their_cosine(notes: CollectionStore) -> None:
    notes.add("notes", [part("east", 2, 0, text="E"), part("north", 0, 3), part("west", -1, 0)])
    found = notes.nearest("notes", as_unit((1, 1e-3)), 2)
    assert [(match.part_id, match.text) for match in found] == [("east", "E"), ("north", None)]
    assert found[0].cosine_similarity == pytest.approx(1.0, abs=1e-5)
    assert notes.nearest("notes", as_unit((-1, 0)), 9)[0].part_id == "west"


@given(
    st.lists(
        st.floats(-(2.0**90), 2.0**90, width=32).filter(lambda number: abs(number) > 2.0**-90), min_size=1, max_size=9
    )
)
def test_a_vector_is_kept_as_32_bit_floats_of_length_1(vector: list[float]) -> None:
    kept = as_unit(vector)
    assert len(kept) == 4 * len(vector)
    assert math.hypot(*numbers_of(kept)) == pytest.approx(1.0, abs=1e-6)
    ((number, cosine),) = nearest(kept, [(7, kept)], 1)
    assert number == 7
    assert cosine == pytest.approx(1.0, abs=1e-6)


def test_the_bytes_are_little_endian() -> None:
    assert as_unit([0.0, -2.0]) == bytes.fromhex("00000000000080bf")


@pytest.mark.parametrize("vector", [(), (0.0, 0.0), (math.nan, 1.0), (math.inf, 1.0)])
def test_what_points_nowhere_is_not_kept(vector: tuple[float, ...]) -> None:
    with pytest.raises(GenerationError, match="points nowhere"):
        as_unit(vector)


def test_a_text_is_replaced_with_all_its_parts(notes: CollectionStore) -> None:
    old = content_hash("old", 9)
    three = [replace(part("a", number=n, parts=3), content_hash=old) for n in (1, 2, 3)]
    notes.add("notes", [*three[:2], part("b")])
    assert notes.kept("notes", "a", old) == {1: 3, 2: 3}  # interrupted: the third is missing
    notes.add("notes", [part("a", text="new")])
    assert notes.kept("notes", "a", old) == {}
    assert [(each.part_id, each.text) for each in notes.parts("notes")] == [("a", "new"), ("b", None)]
    assert (notes.get("notes").entries, notes.get("notes").parts) == (2, 2)
    assert notes.get("notes").changed_at > NOW


def test_parts_are_found_by_their_ids_and_ids_may_look_like_parts(notes: CollectionStore) -> None:
    notes.add("notes", [part("a", 0, 1, number=2, parts=2), part("a#7", -1, 0), part("\x1b[2J\udcff", 1, 0)])
    assert notes.vector("notes", "a#2") == as_unit((0, 1))
    assert notes.vector("notes", "a#7") == as_unit((-1, 0))
    assert notes.vector("notes", "a#1") is None
    assert notes.vector("notes", "\x1b[2J\udcff") == as_unit((1, 0))


def test_more_are_read_than_are_read_at_once(notes: CollectionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_READ_AT_ONCE", 2)
    notes.add("notes", [part(f"{number}", 1, number) for number in range(5)])
    assert [each.entry_id for each in notes.parts("notes")] == list("01234")
    assert len(notes.nearest("notes", as_unit((0, 1)), 9)) == 5


def test_what_is_deleted_is_in_the_file_no_more(notes: CollectionStore, file: Path) -> None:
    notes.add("notes", [part("a", text="a secret thing"), part("b")])
    assert notes.delete_entries("notes", ["a", "nosuch"]) == ["a"]
    notes.delete("notes")
    assert notes.collections() == []
    with pytest.raises(UsageError, match="deleted meanwhile"):
        notes.add("notes", [part("c")])
    notes.__exit__(None, None, None)
    assert b"a secret thing" not in b"".join(each.read_bytes() for each in file.parent.iterdir())


def test_there_is_a_most(notes: CollectionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BOUNDS", CollectionBounds(parts=2))
    notes.add("notes", [part("a"), part("b")])
    with pytest.raises(UsageError, match="2 are the most"):
        notes.add("notes", [part("c")])
    assert notes.get("notes").parts == 2


def test_two_add_to_one_collection(notes: CollectionStore, file: Path) -> None:
    with CollectionStore(file) as other:
        assert other.begin(replace(NOTES, model_key="another")).model_key == "embed"  # the first one counts
        for number in range(20):
            (notes, other)[number % 2].add("notes", [part(f"{number}")])
        assert notes.get("notes").parts == other.get("notes").parts == 20


def test_the_file_is_private_and_a_damaged_one_is_set_aside(notes: CollectionStore, file: Path) -> None:
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    damaged = file.with_name("damaged.db")
    damaged.write_bytes(b"no database" * 1000)
    with CollectionStore(damaged) as opened:
        assert opened.set_aside is not None
        assert opened.collections() == []


def test_a_file_of_a_newer_version_is_left_alone(notes: CollectionStore, file: Path) -> None:
    notes._database.execute("PRAGMA user_version = 99")
    with pytest.raises(HistoryError, match="newer LMStrix"):
        CollectionStore(file)


@pytest.mark.parametrize("name", ["", " a", "a\n", "\x1b[2J", "a" * 101])
def test_a_name_is_one_that_can_be_shown(name: str) -> None:
    with pytest.raises(UsageError, match="no name"):
        check_name(name)


def test_an_id_is_any_text_of_some_length() -> None:
    check_id("../../etc/passwd")
    for wrong in ("", " ", "x" * 5000):
        with pytest.raises(UsageError, match="id"):
            check_id(wrong)
