"""One value of a settings file changed or taken out, and everything else left as it is: comments, order, blank lines.

What is written back is read again first: unless it says exactly what the old text said but for the one value, nothing
is changed and the reason is told.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from lmstrix.ground.documents import DocumentError, parse_toml
from lmstrix.ground.errors import SettingsError
from lmstrix.ground.setting_places import key_in, key_text, table_header

if TYPE_CHECKING:
    from lmstrix.ground.settings_file import SettingsFile

Place = tuple[str, ...]


def with_value(file: SettingsFile, place: Place, value: object) -> str:
    """The text of the file with this value at `place`. Raises SettingsError where that cannot be done by line."""
    wanted = _changed(file, place, value)
    if file.path.suffix == ".json":
        return _json_text(wanted)
    lines = _lines(file.text)
    written = f"{key_text(place[-1:])} = {_value_text(value)}"
    at = _line_of(lines, place)
    if at is not None:
        line = lines[at]
        begin, end = _value_span(file, line)
        lines[at] = line[:begin] + _value_text(value) + line[end:]
    else:
        _insert(lines, place[:-1], f"{written}\n")
    return _checked(file, "".join(lines), wanted)


def without_value(file: SettingsFile, place: Place) -> str:
    """The text of the file without the value at `place`. Raises SettingsError where there is none."""
    wanted = _changed(file, place, None)
    if file.path.suffix == ".json":
        return _json_text(wanted)
    lines = _lines(file.text)
    at = _line_of(lines, place)
    if at is None:
        raise SettingsError(f"{file.at(place)}: {'.'.join(place)} stands inside of another value; change it by hand")
    _value_span(file, lines[at])
    del lines[at]
    return _checked(file, "".join(lines), wanted)


def _lines(text: str) -> list[str]:
    # Not splitlines, which also cuts where a text in quotes has one of Unicode's own line breaks.
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop().removesuffix("\n")
    return [*lines, last] if last else lines


def _changed(file: SettingsFile, place: Place, value: object) -> dict[str, Any]:
    """The table of the file as it is to be."""
    whole = deepcopy(file.table)
    table = whole
    for name in place[:-1]:
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise SettingsError(
                f"{file.at(place[:-1])}: {name} is a value here, not a section; write it in its section first "
                f"(lmstrix config show names it)"
            )
        table = inner
    if value is not None:
        table[place[-1]] = value
    elif table.pop(place[-1], None) is None:
        raise SettingsError(f"{file.path} does not set {'.'.join(place)}")
    return whole


def _line_of(lines: list[str], place: Place) -> int | None:
    table: Place = ()
    for number, line in enumerate(lines):
        opened = table_header(line)
        if opened is not None:
            table = opened
            continue
        found = key_in(line)
        if found is not None and (*table, *found[0]) == place:
            return number
    return None


def _value_span(file: SettingsFile, line: str) -> tuple[int, int]:
    """Where in its line a value begins and ends; what follows is a comment."""
    found = key_in(line)
    assert found is not None
    begin, body = found[1], line.rstrip("\r\n")
    for end in [i for i in range(begin, len(body)) if body[i] == "#"] + [len(body)]:
        kept = len(body[:end].rstrip())
        try:
            parse_toml(f"x = {body[begin:kept]}")
        except DocumentError:
            continue
        return begin, kept
    raise SettingsError(f"{file.path}: {'.'.join(found[0])} is written over several lines; change it by hand")


def _insert(lines: list[str], table: Place, line: str) -> None:
    """Put a line at the end of its table, which is begun at the end of the text where there is none."""
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    current: Place = ()
    last: int | None = 0 if not table else None
    for number, each in enumerate(lines):
        opened = table_header(each)
        if opened is not None or each.lstrip().startswith("[["):
            current = opened or ("", "")
            last = number + 1 if current == table else last
        elif current == table and each.strip() and not each.lstrip().startswith("#"):
            last = number + 1
    if last is not None:
        lines.insert(last, line)
        return
    blank = ["\n"] if lines else []
    lines += [*blank, f"[{key_text(table)}]\n", line]


def _checked(file: SettingsFile, text: str, wanted: dict[str, Any]) -> str:
    try:
        found = parse_toml(text)
    except DocumentError:
        found = None
    if found != _without_empty(wanted, found):
        raise SettingsError(f"{file.path} cannot be changed line by line; change it by hand")
    return text


def _without_empty(wanted: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    """What is wanted, less sections that `_changed` opened or left without a value where the text has none."""
    return {
        name: _without_empty(value, (found or {}).get(name)) if isinstance(value, dict) else value
        for name, value in wanted.items()
        if value != {} or name in (found or {})
    }


def _value_text(value: object) -> str:
    """A text, a number, true, false, or a list of these, as TOML writes it: like JSON, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _json_text(table: dict[str, Any]) -> str:
    return json.dumps(table, ensure_ascii=False, indent=2) + "\n"
