"""What a collection is, what it holds, and the bounds of both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionBounds:
    """How much may be kept."""

    parts: int = 200_000  # a search reads them all: 8 s for 768 numbers each, by the measurement in similarity.py
    name_characters: int = 100
    id_characters: int = 4_096  # Linux's longest path, as ids of files are their paths


BOUNDS = CollectionBounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionInfo:
    """A collection. All its vectors are of one model and have `dimensions` numbers.

    `scaling` is "unit": each vector was divided by its length, so that the product of two is their cosine. `entries`
    are the texts that were added, `parts` the vectors they came to. `changed_at` is when it was last added to. What
    `document_prefix` and `query_prefix` say is put before each text, and before a question, when these are embedded.
    """

    name: str
    model_key: str
    model_path: str
    dimensions: int
    scaling: str
    created_at: datetime
    changed_at: datetime
    entries: int = 0
    parts: int = 0
    document_prefix: str = ""
    query_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPart:
    """One vector of a text: all of it (`part` 0 of 1), or a piece (`part` 1 to `parts`).

    `content_hash` is that of the whole text and of how it was cut. `text` is None where texts are not kept. `source` is
    the file it was read from, in full; None where it was given as a text, or added by an earlier version.
    """

    entry_id: str
    part: int = 0
    parts: int = 1
    content_hash: str
    vector: bytes
    text: str | None = None
    source: str | None = None

    @property
    def part_id(self) -> str:
        return part_id(self.entry_id, self.part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a search found: how near it is, from -1 to 1, and the text, where it is kept."""

    part_id: str
    entry_id: str
    cosine_similarity: float
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEntry:
    """A text that was not added, and why."""

    entry_id: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddProgress:
    """How far adding is: `done` of `total` texts. `failed` is the text that failed last, if that is the news."""

    done: int
    total: int
    failed: FailedEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedTexts:
    """What came of it: texts `added` (in `parts` vectors), those that were there `unchanged`, and those that failed.

    `dropped` are the ids of those that were taken out, as their files are gone. `collection` is None where nothing was
    ever added to it.
    """

    name: str
    collection: CollectionInfo | None
    added: int
    parts: int
    unchanged: int
    failed: tuple[FailedEntry, ...]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found in a collection, the nearest first."""

    collection: CollectionInfo
    matches: tuple[Match, ...]


def part_id(entry_id: str, part: int) -> str:
    """What a piece of a text is called: notes.md#2; a text in one piece has the name of the entry."""
    return f"{entry_id}#{part}" if part else entry_id


def content_hash(text: str, chunk_tokens: int | None) -> str:
    """Another one for another text, and for the same text cut otherwise."""
    return hashlib.sha256(f"{chunk_tokens or ''}\0{text}".encode("utf-8", "replace")).hexdigest()


def check_name(name: str) -> None:
    """Raise UsageError where this is no name for a collection."""
    if not name or name != name.strip() or not name.isprintable() or len(name) > BOUNDS.name_characters:
        raise UsageError(
            f"{name[:40]!r} is no name for a collection; use up to {BOUNDS.name_characters} letters, digits and signs"
        )


def check_id(entry_id: str) -> None:
    """Raise UsageError where this cannot be an id."""
    if not entry_id.strip():
        raise UsageError("an id is empty; each text of a collection needs one")
    if len(entry_id) > BOUNDS.id_characters:
        raise UsageError(f"the id {entry_id[:40]!r}… is longer than {BOUNDS.id_characters:,} characters; shorten it")
