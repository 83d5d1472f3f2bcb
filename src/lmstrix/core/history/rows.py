"""Records as rows of lmstrix.db: a field is the column of its name, and its type says how it is stored."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from lmstrix.core.history.database import Value

R = TypeVar("R")


class _Storage(NamedTuple):
    """How the values of one type are written to a column and read from it."""

    write: Callable[[Any], Value]
    read: Callable[[Any], object]


def time_text(moment: datetime) -> str:
    """A moment as text that sorts by time."""
    return moment.astimezone(UTC).isoformat()


def now() -> str:
    """This moment, as columns hold it."""
    return time_text(datetime.now(UTC))


# Dataclasses keep the annotations as they are written, since nothing here evaluates them. Other types are stored as is.
_STORAGE: dict[object, _Storage] = {
    "bool": _Storage(int, bool),
    "datetime": _Storage(time_text, datetime.fromisoformat),
    "datetime | None": _Storage(
        lambda moment: time_text(moment) if moment else None,
        lambda text: datetime.fromisoformat(text) if text else None,
    ),
    "Mapping[str, Any]": _Storage(lambda mapping: json.dumps(dict(mapping)), json.loads),
}
_AS_IS = _Storage(lambda value: value, lambda value: value)


def row_of(record: object) -> dict[str, Value]:
    """The columns a record is stored in."""
    return {
        field.name: _STORAGE.get(field.type, _AS_IS).write(getattr(record, field.name))
        for field in fields(record)  # type: ignore[arg-type]  # whatever is given is a record
    }


def record_of(kind: type[R], row: sqlite3.Row, **given: object) -> R:
    """The record a row holds. The `given` fields are none of its columns, or not as they are."""
    stored = {
        field.name: _STORAGE.get(field.type, _AS_IS).read(row[field.name])
        for field in fields(kind)  # type: ignore[arg-type]  # whatever is given is a class of records
        if field.name not in given
    }
    return kind(**stored, **given)
