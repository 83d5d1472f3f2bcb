"""Texts with ids out of rows: one text per line, one JSON object per line, or a table with a line of column names."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lmstrix.ground.choices import RowForm

_ID_DIGITS = 12
_DELIMITERS = {"csv": ",", "tsv": "\t"}


class TextRow(NamedTuple):
    """A text and what it is called."""

    entry_id: str
    text: str


def id_of(text: str) -> str:
    """What a text is called that nobody gave a name: the beginning of its hash, so that it is the same tomorrow."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_ID_DIGITS]


def text_rows(
    content: str, form: RowForm, *, source: str, id_column: str = "id", text_columns: Sequence[str] = ("text",)
) -> Iterator[TextRow]:
    """The rows of `content` that have a text. Raises UsageError, naming `source` and the row, for one that is wrong."""
    if form == "lines":
        # Not splitlines(): it ends lines at marks of Unicode's own, which a sentence may hold.
        lines = (line.rstrip("\r").strip() for line in content.split("\n"))
        yield from (TextRow(id_of(line), line) for line in lines if line)
        return
    rows = _objects(content, source) if form == "jsonl" else _table(content, _DELIMITERS[form], source)
    for place, row in rows:
        for column in (id_column, *text_columns):
            if row.get(column) is None:
                option = parameter("id_column" if column == id_column else "text_columns")
                has = ", ".join(str(name) for name in row if name is not None)
                raise UsageError(f"{source}, {place}: there is no {column!r} ({option}); it has {has or 'nothing'}")
        text = "\n".join(_as_text(row[column]) for column in text_columns)
        if text.strip():
            yield TextRow(_as_text(row[id_column]), text)


def _objects(content: str, source: str) -> Iterator[tuple[str, dict[str, object]]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise UsageError(f"{source}, line {number}: it is not JSON; each line has one object") from exc
        if not isinstance(found, dict):
            raise UsageError(f"{source}, line {number}: it is no JSON object; each line has one")
        yield f"line {number}", found


def _table(content: str, delimiter: str, source: str) -> Iterator[tuple[str, dict[str, object]]]:
    reader = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            yield f"line {reader.line_num}", {str(name): value for name, value in row.items() if name is not None}
    except csv.Error as exc:
        raise UsageError(f"{source}, line {reader.line_num}: it is no table ({exc})") from exc


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
