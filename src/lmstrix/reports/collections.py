"""Collections on the terminal and as files: what there is, what was added, and what a search has found."""

from __future__ import annotations

import csv
import io
import json
import sys
from itertools import islice
from typing import TYPE_CHECKING

from lmstrix.core.vectors.similarity import numbers_of
from lmstrix.ground.units import counted, format_bytes
from lmstrix.reports.json_form import json_form
from lmstrix.reports.progress import ProgressLine
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lmstrix.core.vectors.records import AddedTexts, AddProgress, CollectionInfo, EmbeddedPart, Found
    from lmstrix.reports.console import Console

_LIST_COLUMNS = (
    Column(title="COLLECTION", shrink=True, keep=12),
    Column(title="TEXTS", right=True),
    Column(title="VECTORS", right=True, drop=2),
    Column(title="DIMENSIONS", right=True, drop=3),
    Column(title="MODEL", shrink=True, keep=16, drop=1),
    Column(title="CHANGED", drop=4),
)
# Of long ids and long texts the ids give way first: they are often paths, which their ends tell apart.
_TEXT_COLUMN = Column(title="BEGINS WITH", shrink=True, keep=48, prose=True)
_PART_COLUMNS = (Column(title="ID", shrink=True, keep=20), _TEXT_COLUMN)
_MATCH_COLUMNS = (
    Column(title="ID", shrink=True, keep=16),
    Column(title="COSINE", right=True),
    _TEXT_COLUMN,
)
_BEGINNING = 70
_FLOAT_BYTES = 4


def show_collections(console: Console, found: Sequence[tuple[CollectionInfo, int]]) -> None:
    """Collections as a table, each with how many of its texts are of files that are gone."""
    if console.json:
        console.result("collections", {"collections": [{**json_form(info), "gone": gone} for info, gone in found]})
        return
    infos = [info for info, _ in found]
    rows = [
        (
            info.name,
            f"{info.entries:,}",
            f"{info.parts:,}",
            str(info.dimensions),
            info.model_key,
            info.changed_at.astimezone().strftime("%Y-%m-%d %H:%M"),
        )
        for info in infos
    ]
    if rows:
        console.table(_LIST_COLUMNS, rows)
    else:
        console.note("no collections yet (lmstrix collections add NAME TEXT begins one)")
    for info, gone in found:
        if gone:
            console.note(f"{info.name}: {_gone_words(gone, info.name)}")


def _gone_words(gone: int, name: str) -> str:
    files = "1 text is of a file that is gone" if gone == 1 else f"{gone:,} texts are of files that are gone"
    return f"{files} (lmstrix collections add {name} --drop-gone takes what is gone out)"


def show_collection(
    console: Console, info: CollectionInfo, parts: Iterator[EmbeddedPart], gone: Sequence[str], *, most: int
) -> None:
    """What a collection is, the first ids in it, and those whose files are `gone`."""
    first = list(islice(parts, most))
    if console.json:
        ids = [
            {"id": part.part_id, "entry_id": part.entry_id, "text": part.text, "source": part.source} for part in first
        ]
        console.result("collection", {**json_form(info), "ids": ids, "gone": gone})
        return
    size = format_bytes(info.parts * info.dimensions * _FLOAT_BYTES)
    for name, value in (
        ("model", info.model_key),
        ("texts", f"{info.entries:,}"),
        ("vectors", f"{info.parts:,} of {info.dimensions} numbers, scaled to length 1 ({size})"),
        ("changed", info.changed_at.astimezone().strftime("%Y-%m-%d %H:%M")),
        ("before", _before(info)),
    ):
        if value:
            sys.stdout.write(f"{name:<9}{clean(value)}\n")
    if first:
        sys.stdout.write("\n")
        console.table(_PART_COLUMNS, [(part.part_id, _beginning(part.text)) for part in first])
    if info.parts > len(first):
        console.note(f"{info.parts - len(first):,} more (--last N shows more)")
    for entry_id in gone if console.verbose else ():
        console.note(f"gone: {entry_id}")
    if gone:
        console.note(_gone_words(len(gone), info.name))


def _before(info: CollectionInfo) -> str:
    """What is put before texts and questions."""
    pairs = (("a text", info.document_prefix), ("a question", info.query_prefix))
    return ", ".join(f"{what}: {prefix!r}" for what, prefix in pairs if prefix)


def show_added(console: Console, added: AddedTexts) -> None:
    """What came of adding texts."""
    if console.json:
        collection = None if added.collection is None else json_form(added.collection)
        failed = [json_form(each) for each in added.failed]
        console.result("collections", {**json_form(added), "collection": collection, "failed": failed})
        return
    counts = [f"{added.added:,} added" + (f" in {added.parts:,} pieces" if added.parts > added.added else "")]
    gone = len(added.dropped)
    for word, count in (("unchanged", added.unchanged), ("failed", len(added.failed)), ("dropped as gone", gone)):
        counts += [f"{count:,} {word}"] if count else []
    total = "" if added.collection is None else f"; {clean(added.name)} has {counted(added.collection.entries, 'text')}"
    sys.stdout.write(f"{', '.join(counts)}{total}\n")


def show_matches(console: Console, found: Found) -> None:
    """What a search has found, the nearest first."""
    if console.json:
        matches = [
            {
                "id": match.part_id,
                "entry_id": match.entry_id,
                "cosine_similarity": round(match.cosine_similarity, 6),
                "text": match.text,
            }
            for match in found.matches
        ]
        info = found.collection
        console.result("matches", {"collection": info.name, "model_key": info.model_key, "matches": matches})
        return
    rows = [(match.part_id, f"{match.cosine_similarity:.4f}", _beginning(match.text)) for match in found.matches]
    if rows:
        console.table(_MATCH_COLUMNS, rows)
    else:
        console.note(f"{found.collection.name} is empty (lmstrix collections add puts texts in it)")


class AddProgressLine(ProgressLine):
    """How far adding is; a note for each text that failed."""

    def show(self, progress: AddProgress) -> None:
        """A text is done."""
        self.update("embedding", progress.done / progress.total, tail=f"{progress.done:,}/{progress.total:,}")
        if progress.failed is not None:
            self._console.note(f"failed: {progress.failed.error}")


def as_jsonl(info: CollectionInfo, parts: Iterable[EmbeddedPart]) -> str:
    """One object per vector."""
    lines = (
        {
            "id": part.part_id,
            "text": part.text,
            "model_key": info.model_key,
            "vector": [round(number, 8) for number in numbers_of(part.vector)],
        }
        for part in parts
    )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def as_csv(_info: CollectionInfo, parts: Iterable[EmbeddedPart]) -> str:
    """Ids and texts, as `collections add --rows` reads them."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("id", "text"))
    writer.writerows((part.part_id, part.text or "") for part in parts)
    return out.getvalue()


def _beginning(text: str | None) -> str:
    if text is None:
        return "(not kept)"
    line = " ".join(text[: 2 * _BEGINNING].split())
    return line if len(line) <= _BEGINNING else line[: _BEGINNING - 1] + "…"
