"""One line of a settings file changes, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.ground.documents import parse_toml
from lmstrix.ground.errors import SettingsError
from lmstrix.ground.settings_edit import with_value, without_value
from lmstrix.ground.settings_file import SettingsFile, parsed_settings

TEXT = """# mine
timeout_s = 5 # short

[server]  # there
address = "far:1" # "#1"
# before the next

[aliases]
q = 'list # all'
"""


def file_of(text: str, name: str = "config.toml") -> SettingsFile:
    return parsed_settings(Path(name), text.encode())


@pytest.mark.parametrize(
    ("place", "value", "old", "new"),
    [
        (("timeout_s",), 90, "timeout_s = 5 # short", "timeout_s = 90 # short"),
        (("server", "address"), "a#b", '"far:1" # "#1"', '"a#b" # "#1"'),
        (("aliases", "q"), "ps", "'list # all'", '"ps"'),
        (("server", "retries"), 2, '"far:1" # "#1"\n', '"far:1" # "#1"\nretries = 2\n'),
        (("log_texts",), False, "# short\n", "# short\nlog_texts = false\n"),
        (("models", "a/b", "seed"), 1, "# all'\n", '# all\'\n\n[models."a/b"]\nseed = 1\n'),
    ],
)
def test_a_value_is_put_where_it_belongs(place: tuple[str, ...], value: object, old: str, new: str) -> None:
    assert with_value(file_of(TEXT), place, value) == TEXT.replace(old, new)


def test_a_value_is_taken_out_and_its_section_stays() -> None:
    changed = without_value(file_of(TEXT), ("server", "address"))
    assert changed == TEXT.replace('address = "far:1" # "#1"\n', "")
    with pytest.raises(SettingsError, match=r"does not set server\.retries"):
        without_value(file_of(TEXT), ("server", "retries"))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('server = "a"\n', ("server", "retries")),
        ("server = { retries = 1 }\n", ("server", "retries")),
        ("server.retries = 1\n", ("server", "address")),
        ('[server]\naddress = """\na"""\n', ("server", "address")),
    ],
)
def test_what_cannot_be_changed_by_line_is_refused(text: str, place: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match=r"by hand|not a section"):
        with_value(file_of(text), place, 2)


def test_a_json_file_keeps_its_other_values() -> None:
    file = file_of('{"b": {"c": 1}, "a": [1, 2]}', "config.json")
    assert json.loads(with_value(file, ("b", "d"), "x")) == {"b": {"c": 1, "d": "x"}, "a": [1, 2]}
    assert json.loads(without_value(file, ("b", "c"))) == {"b": {}, "a": [1, 2]}


@given(st.text(max_size=20), st.sampled_from([("aliases", "q"), ("aliases", "new"), ("server", "ca_file")]))
def test_any_text_comes_back_as_it_was(value: str, place: tuple[str, str]) -> None:
    found = parse_toml(with_value(file_of(TEXT), place, value))
    assert found[place[0]][place[1]] == value
    assert found["timeout_s"] == 5
