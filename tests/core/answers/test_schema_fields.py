"""A schema written as its fields."""

from __future__ import annotations

import pytest

from lmstrix.core.answers.schema_fields import schema_of_fields, several
from lmstrix.ground.errors import UsageError

NAME_AND_AGE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "written", ["name, age int", " name str ,age int, ", "name\nage int\n", "\n name\n\n age   int \n", "name,age int"]
)
def test_fields_are_separated_by_commas_or_lines(written: str) -> None:
    assert schema_of_fields(written) == NAME_AND_AGE


def test_types_and_descriptions() -> None:
    schema = schema_of_fields(
        "cost float: in euros, rounded\npaid bool\nsort-key\nnote: see https://example.org: there"
    )
    assert schema["properties"] == {
        "cost": {"type": "number", "description": "in euros, rounded"},
        "paid": {"type": "boolean"},
        "sort-key": {"type": "string"},
        "note": {"type": "string", "description": "see https://example.org: there"},
    }


def test_several_items() -> None:
    schema = several(schema_of_fields("name, age int"))
    assert schema["properties"] == {"items": {"type": "array", "items": NAME_AND_AGE}}
    assert schema["required"] == ["items"]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "the schema has no fields"),
        (" , ", "a field without a name"),
        ("name,, age", "a field without a name"),
        ("name, : the name", "a field without a name at ': the name'"),
        ("name, age number", "the schema's field 'age' has the type 'number'; there are str, int, float, bool"),
        ("bio: short, at most a line", "write each field on a line of its own"),
        ("name, name int", "the field 'name' twice"),
        ("persons.yaml", "'persons.yaml' is no name of a schema's field, and 'persons.yaml' is no file"),
        ("./person", "is no file"),
    ],
)
def test_what_is_wrong_is_named(written: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        schema_of_fields(written)
    assert told in str(caught.value)
