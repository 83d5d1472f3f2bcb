"""Values of a JSON object, checked where they are read: what is not of the type asked for reads as absent. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Json = Any  # a value as json.loads returns it

EPOCH = datetime.fromtimestamp(0, UTC)


def read_text(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def read_count(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def read_number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_moment(value: Json) -> datetime | None:
    """A stored time as aware UTC."""
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
