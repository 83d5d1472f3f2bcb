"""Texts of others are read, or refused in one clear line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.documents import DocumentError, parse_json, parse_toml

if TYPE_CHECKING:
    from collections.abc import Callable

DIGITS = "9" * 100_000
LONG = "k" * 500


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (parse_toml, "a = [", "is not valid TOML: Invalid value"),
        (parse_toml, "a = " + "[" * 5_000 + "]" * 5_000, "too deeply"),
        (parse_toml, "a = " + "{a=" * 5_000 + "1" + "}" * 5_000, "too deeply"),
        (parse_toml, "a = " + "[" * 120 + "]" * 120, "too deeply"),
        (parse_toml, "a" + ".a" * 5_000 + " = 1", "too deeply"),
        (parse_toml, f"a = {DIGITS}", "more than 4,300 digits"),
        (parse_toml, f"a = [0x{DIGITS}]", "more than 4,300 digits"),
        (parse_json, '{"a": ', "is not valid JSON: .*line 1"),
        (parse_json, "[" * 100_000 + "]" * 100_000, "too deeply"),
        (parse_json, '{"a":' * 120 + "1" + "}" * 120, "too deeply"),
        (parse_json, f'{{"a": {DIGITS}}}', "more than 4,300 digits"),
        (parse_json, '{"a": NaN}', "NaN is no number"),
        (parse_json, "[-Infinity]", "-Infinity is no number"),
        (parse_json, '{"a": 1, "a": 1}', "has the key 'a' twice, in line 1; leave out one of them"),
        (
            parse_json,
            '{"a": [{\n"b": {"b": 1}, "c,": "{",\n"\\u0062": 2}]}',
            "has the key 'a.b' twice, in lines 2 and 3",
        ),
        (parse_json, f'{{"x": 1, "{LONG}": 1, "{LONG}": 2}}', "has the key 'kkk"),
    ],
    ids=range(16),
)
def test_what_is_wrong_is_one_line(parse: Callable[[str], object], text: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_is_large_but_sound_is_read() -> None:
    number = "9" * 4_300
    assert parse_toml(f"a = {number}\nb = {'[' * 90}1{']' * 90}")["a"] == int(number)
    assert parse_json(f"[{number}, 1e400]") == [int(number), float("inf")]


@pytest.mark.parametrize("text", ['{"a": {"a": 1}, "b": {"a": "a"}}', '[{"a": 1}, {"a": 1}]', '["a", "a", {"a": "a"}]'])
def test_keys_of_different_objects_are_not_twice(text: str) -> None:
    assert parse_json(text) == json.loads(text)
