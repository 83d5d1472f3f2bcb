"""The shape of an answer as its user writes it: JSON, the fields alone, a file of a JSON schema, or a class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstrix.core.answers.answer_schema import AnswerSchema, schema_of_class, schema_of_mapping
from lmstrix.core.answers.schema_fields import schema_of_fields, several
from lmstrix.ground.documents import DocumentError, parse_json
from lmstrix.ground.errors import UsageError
from lmstrix.loaders.contexts import load_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNNAMED = "the schema"


def load_schema(written: str, *, many: bool = False) -> AnswerSchema:
    """The schema that `written` is or names; with `many`, of an object whose `items` each have this shape.

    What begins with `{` is the schema itself, `pydantic:module:Class` a class. What ends with .json, or is the path of
    a file, is that file. All else are fields (`core/answers/schema_fields.py`).
    """
    if written.startswith("pydantic:"):
        return _schema_of_class(written.removeprefix("pydantic:"), many=many)
    name = _UNNAMED
    if written.lstrip().startswith("{"):
        found = _parsed(written, name)
    elif _names_file(written):
        found, name = _parsed(load_text(written), written), Path(written).name
    else:
        found = schema_of_fields(written)
    # Checked before it is wrapped, so that a fault is told at the place where the user wrote it.
    schema = schema_of_mapping(found, name=name)
    return _many(schema.json_schema, name) if many else schema


def _many(schema: Mapping[str, object], name: str) -> AnswerSchema:
    # References such as #/$defs/Person point from the whole schema, so their targets must stand at its top.
    inner = {key: value for key, value in schema.items() if key not in ("$defs", "definitions", "$schema")}
    outer = {key: schema[key] for key in ("$schema", "$defs", "definitions") if key in schema}
    return schema_of_mapping({**outer, **several(inner)}, name=name)


def _schema_of_class(reference: str, *, many: bool) -> AnswerSchema:
    from lmstrix.loaders.user_code import load_object

    found = load_object(reference)
    if not isinstance(found, type):
        raise UsageError(f"{reference} is no class")
    if many:
        from pydantic import create_model

        items: Any = (list[found], ...)  # type: ignore[valid-type]  # it is known only now
        found = create_model(found.__name__, items=items)
    return schema_of_class(found, name=reference)


def _names_file(written: str) -> bool:
    if "\n" in written.strip():
        return False
    if written.casefold().endswith(".json"):
        return True
    try:
        return Path(written).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long for a path, or with characters that no path has
        return False


def _parsed(text: str, name: str) -> object:
    try:
        return parse_json(text)
    except DocumentError as exc:
        raise UsageError(f"{name} {exc}") from exc
