"""Readers of what an answer must look like: JSON schemas, GBNF grammars, and tools, whose parameters are schemas. Pure.

llama.cpp turns all of them into a grammar, in which "at least a billion items" is written out item by item: one such
number took 21 GB and every slot of the model. So each kind has bounds, checked before llama.cpp sees it. The walk goes
level by level, as recursion is one of the things that it is there to stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.values import bad_value


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """Ceilings far above what answers need; the times were measured with llama.cpp on one slow core."""

    schema_depth: int = 64
    """Values inside values; 400 objects inside each other took 0.1 s, ten thousand end the process."""
    schema_values: int = 20_000
    """Names, numbers and texts, the choices of an enum among them: 50,000 took 0.3 s."""
    schema_characters: int = 512 * 2**10
    """All names and texts together."""
    repetitions: int = 10_000
    """What one minItems, maxLength or {n} may ask for; ten thousand took 10 ms, a million more than 2 GB."""
    all_repetitions: int = 50_000
    """What all of them together may ask for."""
    pattern_characters: int = 2_000
    nesting: int = 100
    """Parentheses inside each other; 3,000 took 0.9 s in a pattern, a hundred thousand in a grammar end the process."""
    grammar_characters: int = 256 * 2**10
    """A grammar of 20,000 alternatives took 1.5 s."""
    grammar_elements: int = 10_000_000
    """Characters of a grammar times its repetitions, which is how many elements of 8 bytes they can become."""


LIMITS: Final = FormLimits()
_COUNTS: Final = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_REPETITION: Final = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_GRAMMAR_TEXT: Final = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*')
_LONGEST_NUMBER: Final = 9
"""Digits of a repetition that are worth reading; more are over every bound."""


def read_schema(key: str, value: object) -> Mapping[str, Any]:
    """A JSON schema within bounds."""
    if not isinstance(value, Mapping):
        raise bad_value(key, "a JSON schema", value)
    _check_schema(key, value)
    return value


def read_grammar(key: str, text: str) -> str:
    """A GBNF grammar within bounds."""
    if len(text) > LIMITS.grammar_characters:
        raise _too_much(key, f"a grammar of {len(text):,} characters", LIMITS.grammar_characters)
    # Braces and parentheses in literals, sets of characters and comments stand for themselves.
    rules = _GRAMMAR_TEXT.sub("", text)
    _check_nesting(key, rules)
    counts = _repetitions(rules)
    _check_repetitions(key, counts)
    if len(text) * sum(counts) > LIMITS.grammar_elements:
        what = f"a grammar whose length times its repetitions is {len(text) * sum(counts):,}"
        raise _too_much(key, what, LIMITS.grammar_elements)
    return text


def read_tools(key: str, value: object) -> tuple[Mapping[str, Any], ...]:
    """Tool definitions in OpenAI's form, which is the one llama.cpp takes too."""
    if not isinstance(value, list):
        raise bad_value(key, "a list of tools", value)
    for tool in value:
        match tool:
            case {"type": "function", "function": {"name": str()} as function} if _is_described(function):
                continue
        raise bad_value(key, "function tools with a name and, where they take any, parameters as a JSON schema", tool)
    _check_schema(key, value)
    return tuple(value)


def _is_described(function: Mapping[str, Any]) -> bool:
    parameters, description = function.get("parameters"), function.get("description")
    return (parameters is None or isinstance(parameters, dict)) and (
        description is None or isinstance(description, str)
    )


def _check_schema(key: str, schema: object) -> None:
    level: list[object] = [schema]
    values = characters = depth = 0
    counts: list[int] = []
    while level:
        values, depth = values + len(level), depth + 1
        if values > LIMITS.schema_values:
            raise _too_much(key, f"a schema of at least {values:,} values", LIMITS.schema_values)
        if depth > LIMITS.schema_depth:
            raise _too_much(key, f"a schema {depth} values deep", LIMITS.schema_depth)
        for value in level:
            characters += _text_length(value)
            if isinstance(value, Mapping):
                counts += _asked_repetitions(key, value)
        if characters > LIMITS.schema_characters:
            raise _too_much(key, f"a schema of at least {characters:,} characters", LIMITS.schema_characters)
        level = [child for value in level for child in _children(value)]
    _check_repetitions(key, counts)


def _children(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _text_length(value: object) -> int:
    if isinstance(value, Mapping):
        return sum(len(name) for name in value)
    return len(value) if isinstance(value, str) else 0


def _asked_repetitions(key: str, schema: Mapping[str, Any]) -> list[int]:
    """What one level of a schema repeats, by its counts and its pattern."""
    # Not where a property merely has such a name: then the value is a schema of its own.
    counts = [int(count) for name in _COUNTS & schema.keys() if isinstance(count := schema[name], int | float)]
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        if len(pattern) > LIMITS.pattern_characters:
            raise _too_much(key, f"a pattern of {len(pattern):,} characters", LIMITS.pattern_characters)
        _check_nesting(key, pattern)
        counts += _repetitions(pattern)
    return counts


def _repetitions(text: str) -> list[int]:
    numbers = [number for found in _REPETITION.finditer(text) for number in found.groups() if number]
    return [int(number[: _LONGEST_NUMBER + 1]) for number in numbers]


def _check_repetitions(key: str, counts: list[int]) -> None:
    largest = max(counts, default=0)
    if largest > LIMITS.repetitions:
        raise _too_much(
            key, f"{_shown(largest)} repetitions (minItems, maxLength, {{n}} and the like)", LIMITS.repetitions
        )
    if sum(counts) > LIMITS.all_repetitions:
        raise _too_much(key, f"{sum(counts):,} repetitions in all", LIMITS.all_repetitions)


def _shown(number: int) -> str:
    return f"{number:,}" if number < 10**_LONGEST_NUMBER else f"{10**_LONGEST_NUMBER:,} or more"


def _check_nesting(key: str, text: str) -> None:
    depth = 0
    for bracket in re.finditer(r"[()]", text):
        depth += 1 if bracket[0] == "(" else -1
        if depth > LIMITS.nesting:
            raise _too_much(key, f"{depth} parentheses inside each other", LIMITS.nesting)


def _too_much(key: str, what: str, bound: int) -> EngineFault:
    return EngineFault(
        f"{key}: {what} would take too much time or memory: {bound:,} is the most.",
        kind="invalid",
        error_data={"key": key, "limit": bound},
    )
