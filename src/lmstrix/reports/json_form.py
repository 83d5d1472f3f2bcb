"""Records as JSON: the fields a record has are the keys it is shown with, so neither is spelled twice."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from _typeshed import DataclassInstance


def json_form(record: DataclassInstance, *, without: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a record in their order, without some: internal ones, or those shown under another name."""
    # asdict would copy everything inside too, mappings and models' whole answers, only to have it written and dropped.
    return {
        field.name: getattr(record, field.name) for field in dataclasses.fields(record) if field.name not in without
    }


def value_text(value: object) -> str:
    """One value on a line of text: as JSON writes it, and what is not there is unset."""
    return "unset" if value is None else json.dumps(value)


def jsonable(value: object) -> object:
    """What json asks of for a value that it does not know."""
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in a result")


def yaml_fields(row: dict[str, Any]) -> list[str]:
    """A mapping as lines of YAML; values are JSON, which is YAML, so that no text can be read as a number or a date."""
    return [f"{name}: {json.dumps(value, ensure_ascii=False, default=jsonable)}" for name, value in row.items()]
