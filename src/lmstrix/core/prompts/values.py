"""The values that fill prompts: how one is printed, and how a dotted name finds one. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, time
from typing import TYPE_CHECKING

from lmstrix.ground.documents import MOST_DIGITS
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from lmstrix.ground.documents import Value


class Missing:
    """The type of MISSING, "no value under this name". Not None: a caller's None is a value, and refused as one."""


MISSING = Missing()


def to_text(value: object) -> str:
    """A value as it is printed: text as it is, booleans as TOML spells them, lists and tables as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        try:
            return str(value)
        except ValueError as exc:  # Python prints no longer ones
            raise PromptError(f"a number of more than {MOST_DIGITS:,} digits cannot be printed in a prompt") from exc
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping | list | tuple):
        return to_json(value)
    raise PromptError(f"a value of type {type(value).__name__} cannot be printed in a prompt: give text or a number")


def to_json(value: object, indent: int | None = None) -> str:
    """A value as JSON; what JSON has no form for, such as a date, becomes text."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent, default=_json_default)
    except (RecursionError, ValueError) as exc:
        raise PromptError(
            f"a value that is nested too deeply, holds itself, or has a number of more than {MOST_DIGITS:,} digits "
            "cannot be printed in a prompt"
        ) from exc


def _json_default(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else to_text(value)


def value_at(values: Mapping[str, object], name: str) -> Value | Missing:
    """The value under a dotted name, through tables and list positions."""
    # A key that has dots itself, such as a caller's `--var t.x=1`, comes before the way through a table.
    if name in values:
        return values[name]  # type: ignore[return-value]
    if "." not in name:
        return MISSING
    value: object = values
    for key in name.split("."):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return MISSING
    return value  # type: ignore[return-value]


def nested(named: Mapping[str, Value]) -> dict[str, Value]:
    """Dotted names as the nested tables minijinja walks; a name inside a value that is there whole adds nothing."""
    values: dict[str, Value] = {}
    # Short names first, so that `a` is known to be there whole when `a.b` comes.
    for name in sorted(named, key=lambda name: name.count(".")):
        *tables, last = name.split(".")
        if any(".".join(tables[:count]) in named for count in range(1, len(tables) + 1)):
            continue
        place = values
        for key in tables:
            place = place.setdefault(key, {})  # type: ignore[assignment]  # only tables made here are on the way
        place[last] = named[name]
    return values
