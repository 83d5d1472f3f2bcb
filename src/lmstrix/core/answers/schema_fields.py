"""A JSON schema written as its fields, as the llm tool writes it: `name, age int, bio: a short one`. Pure.

A field is NAME, NAME TYPE, either with `: DESCRIPTION`; TYPE is str (the default), int, float or bool. Commas separate
the fields, or line ends where there are any: then a description may have commas. Every field is required, and no other
is allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_ADVICE = "write NAME, NAME TYPE or NAME TYPE: DESCRIPTION, such as 'name, age int, bio: one sentence'"


def schema_of_fields(written: str) -> dict[str, object]:
    """The schema of an object with these fields. Raises UsageError naming the field that is wrong."""
    separator = "\n" if "\n" in written.strip() else ","
    pieces = [piece.strip() for piece in written.split(separator)]
    # What ends with its separator has no further field; an empty one between others is a slip.
    if pieces[-1] == "":
        pieces.pop()
    if separator == "\n":
        pieces = [piece for piece in pieces if piece]
    if not pieces:
        raise UsageError(f"the schema has no fields; {_ADVICE}")
    properties: dict[str, object] = {}
    for piece in pieces:
        name, field = _field(piece, written)
        if name in properties:
            raise UsageError(f"the schema names the field {name!r} twice; rename one")
        properties[name] = field
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def several(schema: Mapping[str, object]) -> dict[str, object]:
    """The schema of an object whose `items` are any number of what `schema` describes."""
    return {
        "type": "object",
        "properties": {"items": {"type": "array", "items": dict(schema)}},
        "required": ["items"],
        "additionalProperties": False,
    }


def _field(piece: str, written: str) -> tuple[str, dict[str, str]]:
    head, _, description = piece.partition(":")
    words = head.split()
    if not words:
        raise UsageError(f"the schema has a field without a name at {piece!r}; {_ADVICE}")
    name, kinds = words[0], words[1:]
    if not name.replace("-", "_").isidentifier():
        raise UsageError(f"{name!r} is no name of a schema's field, and {written.strip()!r} is no file; {_ADVICE}")
    if len(kinds) > 1 or (kinds and kinds[0] not in _TYPES):
        known = ", ".join(_TYPES)
        # Most likely a description with a comma in it, cut in two.
        lines = "; where descriptions have commas, write each field on a line of its own" if ":" in written else ""
        raise UsageError(f"the schema's field {name!r} has the type {' '.join(kinds)!r}; there are {known}{lines}")
    field = {"type": _TYPES[kinds[0] if kinds else "str"]}
    return name, field | ({"description": description.strip()} if description.strip() else {})
