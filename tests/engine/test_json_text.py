"""JSON of clients: what is read, and what is refused before it keeps the engine busy or breaks something behind it."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.engine import json_text
from lmstrix.engine.json_text import JsonTextError, read_json

_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_values = st.recursive(_leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(_values, st.booleans())
def test_json_is_read_as_it_was_written(value: object, ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only)) == value


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    with contextlib.suppress(JsonTextError):
        read_json(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not valid"),
        ("{", "not valid"),
        ("NaN", "NaN is not valid"),
        ('{"a": -Infinity}', "-Infinity is not valid"),
        ("[1e999]", "1e999 is more than a number can be"),
        ("9" * 5000, "not valid"),
        ('"\\ud800"', "half of a character"),
        ('{"\\udfff": 1}', "half of a character"),
        ("[" * 129 + "]" * 129, "128 deep"),
        ('{"a":' * 129 + "1" + "}" * 129, "128 deep"),
        ("[" * 100_000, "deep"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(JsonTextError, match=why):
        read_json(text)


def test_what_looks_like_it_and_is_fine() -> None:
    assert read_json("[" * 128 + "]" * 128) != []
    assert read_json('"\\ud83d\\ude00"') == "😀"
    assert read_json('"\\\\ud800"') == "\\ud800"
    assert len(read_json(json.dumps(["[[["] * 500))) == 500


@pytest.mark.parametrize("piece", ["[],", "{},", '"a",', '{"a":1},', "1,2,3,4,5,6,7,8,"])
def test_a_text_of_too_many_values_is_not_even_parsed(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "LIMITS", json_text.JsonLimits(values=1000, uncounted_characters=100))
    assert read_json("[" + piece * 90 + "1]")
    with pytest.raises(JsonTextError, match="more than 1,000 strings, lists and objects"):
        read_json("[" + piece * 2000 + " no JSON at all")


def test_one_long_text_is_one_value() -> None:
    text = 'He said "yes", and left. ' * 100_000
    assert read_json(json.dumps({"prompt": text})) == {"prompt": text}
