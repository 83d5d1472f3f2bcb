"""What a schema on the command line, or a text given to Python, is taken for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.errors import InvalidAnswerError, PromptError, UsageError
from lmstrix.service.answer_shapes import load_schema

if TYPE_CHECKING:
    from pathlib import Path

PERSON = {"type": "object", "properties": {"age": {"$ref": "#/$defs/age"}}, "$defs": {"age": {"type": "integer"}}}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_json_file_or_fields(tmp_path: Path) -> None:
    (tmp_path / "person.json").write_text(json.dumps(PERSON), encoding="utf-8")
    (tmp_path / "age").write_text(json.dumps(PERSON), encoding="utf-8")

    assert load_schema(" " + json.dumps(PERSON)).json_schema == PERSON
    assert load_schema("person.json").json_schema == PERSON
    assert load_schema("age").json_schema == PERSON, "a file that is there goes before a field of its name"
    assert load_schema("age int").json_schema["required"] == ["age"]
    assert load_schema("age int\nnote: as in person.json").json_schema["required"] == ["age", "note"]
    assert load_schema("x" * 5000).json_schema["required"] == ["x" * 5000], "too long for the name of a file"


def test_what_it_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"no file at persons\.json"):
        load_schema("persons.json")
    with pytest.raises(UsageError, match="the schema is not valid JSON"):
        load_schema('{"type": ')
    with pytest.raises(UsageError, match="the schema is no valid JSON schema"):
        load_schema('{"type": "person"}')


def test_many_items_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shapes_of_this_test.py").write_text(
        "from pydantic import BaseModel, Field\nclass Person(BaseModel):\n    age: int = Field(gt=0)\n",
        encoding="utf-8",
    )
    for written in ("age int", json.dumps(PERSON), "pydantic:shapes_of_this_test.py:Person"):
        schema = load_schema(written, many=True)
        assert schema.read('{"items": [{"age": 3}, {"age": 4}]}'), written
        for wrong in ('{"items": [{"age": "old"}]}', '{"age": 3}'):
            with pytest.raises(InvalidAnswerError):
                schema.read(wrong)
    with pytest.raises(InvalidAnswerError, match="greater than 0"):
        schema.read('{"items": [{"age": -1}]}')
