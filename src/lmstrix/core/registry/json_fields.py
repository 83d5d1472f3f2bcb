"""Values of a JSON object, checked where they are read: what is not of the type asked for reads as absent. Pure."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Json = Any  # a value as json.loads returns it

EPOCH = datetime.fromtimestamp(0, UTC)


def read_text(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def read_count(value: Json) -> int | None:
    # In Python True is an int, in JSON true is no number.
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def read_number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_flag(value: Json) -> bool | None:
    return value if isinstance(value, bool) else None


def read_moment(value: Json) -> datetime | None:
    """A stored time as aware UTC."""
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (TypeError, ValueError, OverflowError, OSError):  # the last for years a system has no time zone for
        return None


_READERS: dict[object, Callable[[Json], Json]] = {
    "str | None": read_text,
    "int | None": read_count,
    "float | None": read_number,
    "bool": read_flag,
}


@cache  # worked out once, because a scan asks ten thousand times
def _names(record: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))


@cache
def _readers(record: type) -> tuple[tuple[str, Callable[[Json], Json]], ...]:
    # Dataclasses keep the annotations as they are written, since nothing here evaluates them.
    return tuple((field.name, _READERS[field.type]) for field in fields(record) if field.type in _READERS)


def read_fields(record: type, raw: dict[str, Json]) -> dict[str, Json]:
    """What `raw` says of those fields of a record class that hold a plain value or None; the rest is the caller's.

    A field that `raw` does not know, or does not understand, is left out and so keeps its default.
    """
    return {name: value for name, read in _readers(record) if (value := read(raw.get(name))) is not None}


def known_fields(record: object) -> dict[str, Json]:
    """The fields of a record that are not None, in their order."""
    kind: type = type(record)
    return {name: value for name in _names(kind) if (value := getattr(record, name)) is not None}
