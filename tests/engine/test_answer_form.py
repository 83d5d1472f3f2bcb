"""Schemas, grammars and tools: what llama.cpp gets, and what it never sees."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.engine.answer_form import LIMITS, read_grammar, read_schema, read_tools
from lmstrix.engine.faults import EngineFault

INTEGERS = {"type": "array", "items": {"type": "integer"}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"a": {"$ref": "#"}, "minItems": {"type": "integer"}}},
        {**INTEGERS, "minItems": 1000, "maxItems": 10_000},
        {"type": "string", "maxLength": 10_000, "pattern": r"^\d{3}-(a|b){2,5}$"},
        {"enum": [f"country {number}" for number in range(10_000)]},
        nested(30),
        {"type": "integer", "minimum": -(10**40), "maximum": 10**40},
    ],
)
def test_schemas_that_are_passed_on(schema: dict[str, Any]) -> None:
    assert read_schema("structured", schema) is schema


@pytest.mark.parametrize(
    ("schema", "bound"),
    [
        ({**INTEGERS, "minItems": 10**9}, LIMITS.repetitions),
        ({**INTEGERS, "minItems": 1e9}, LIMITS.repetitions),
        ({**INTEGERS, "maxItems": 10**400}, LIMITS.repetitions),
        ({"type": "string", "maxLength": 10**6}, LIMITS.repetitions),
        ({"properties": {"a": {"anyOf": [{"items": {"type": "string", "minLength": 20_000}}]}}}, LIMITS.repetitions),
        ({"properties": {str(i): {"maxLength": 9_000} for i in range(10)}}, LIMITS.all_repetitions),
        ({"type": "string", "pattern": "^a{1000000}$"}, LIMITS.repetitions),
        ({"type": "string", "pattern": "a" * 3000}, LIMITS.pattern_characters),
        ({"type": "string", "pattern": "(" * 500 + "a" + ")" * 500}, LIMITS.nesting),
        ({"enum": ["a"] * 50_000}, LIMITS.schema_values),
        ({"enum": ["a" * 10**6]}, LIMITS.schema_characters),
        ({"properties": {"a" * 10**6: {}}}, LIMITS.schema_characters),
        (nested(1000), LIMITS.schema_depth),
    ],
)
def test_schemas_beyond_a_bound_are_refused_by_its_name(schema: dict[str, Any], bound: int) -> None:
    with pytest.raises(EngineFault, match=rf"^structured: .*{bound:,} is the most\.$") as caught:
        read_schema("structured", schema)
    assert caught.value.kind == "invalid"
    assert caught.value.error_data == {"key": "structured", "limit": bound}


def test_the_parameters_of_tools_have_the_same_bounds() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {**INTEGERS, "minItems": 3}}}
    assert read_tools("tools", [tool]) == (tool,)
    tool["function"]["parameters"]["minItems"] = 10**9  # type: ignore[index]  # a plain dict
    with pytest.raises(EngineFault, match="10,000 is the most"):
        read_tools("tools", [tool])


@pytest.mark.parametrize("parameters", [[], "none", 5])
def test_parameters_are_an_object(parameters: object) -> None:
    with pytest.raises(EngineFault, match="JSON schema"):
        read_tools("tools", [{"type": "function", "function": {"name": "f", "parameters": parameters}}])


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "yes" | "no"',
        "root ::= [a-z]{1,64} # up to {1000000} (((",
        'root ::= "{1000000}" ("((((" | [({]){2}',
        "root ::= " + " | ".join(f'"word {number}"' for number in range(5000)),
    ],
)
def test_grammars_that_are_passed_on(grammar: str) -> None:
    assert read_grammar("structured", grammar) == grammar


@pytest.mark.parametrize(
    ("grammar", "bound"),
    [
        ('root ::= "a"{1000000}', LIMITS.repetitions),
        ('root ::= "a"{0,1000000}', LIMITS.repetitions),
        ('root ::= "a"{ 99999999999999999999 , }', LIMITS.repetitions),
        ('root ::= "a"{9000}' * 6, LIMITS.all_repetitions),
        ("root ::= " + "(" * 500 + '"a"' + ")" * 500, LIMITS.nesting),
        ('root ::= "' + "a" * 300_000 + '"', LIMITS.grammar_characters),
        ("root ::= [" + "a" * 20_000 + "]{1000}", LIMITS.grammar_elements),
    ],
)
def test_grammars_beyond_a_bound_are_refused_by_its_name(grammar: str, bound: int) -> None:
    with pytest.raises(EngineFault, match=rf"{bound:,} is the most\.$"):
        read_grammar("structured", grammar)


@given(st.text(alphabet='rot:=" a(){}[]0123456789,#\\\n', max_size=200))
def test_no_grammar_breaks_the_check(grammar: str) -> None:
    with contextlib.suppress(EngineFault):
        assert read_grammar("structured", grammar) == grammar
