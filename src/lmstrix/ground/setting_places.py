"""Where in a text of TOML or JSON a value stands, which the parsers of the standard library do not tell.

Read only once something is wrong, or to be changed. What cannot be found has no place, and the file's name has to do.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.ground.documents import DocumentError, parse_toml

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = r"""(?:[\w-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=\s*")
_HEADER = re.compile(r"\s*\[([^\[\]].*)\]\s*(?:#.*)?$")


class Place(NamedTuple):
    """Line and column, both from 1."""

    line: int
    column: int


def place_of(text: str, path: tuple[str, ...], *, is_json: bool) -> Place | None:
    """Where the value at `path` begins."""
    return _place_in_json(text, path) if is_json else _place_in_toml(text, path)


def key_path(written: str) -> tuple[str, ...] | None:
    """The names of a key as TOML writes it: a."b.c" is ("a", "b.c")."""
    try:
        table: object = parse_toml(f"{written} = 0\n")
    except DocumentError:
        return None
    names: list[str] = []
    while isinstance(table, dict) and table:
        name, table = next(iter(table.items()))
        names.append(name)
    return tuple(names)


def key_text(names: Iterable[str]) -> str:
    """The same the other way round: names as TOML writes them in a key."""
    return ".".join(name if _is_bare(name) else json.dumps(name, ensure_ascii=False) for name in names)


def _is_bare(name: str) -> bool:
    plain = name.replace("-", "").replace("_", "")
    return plain.isascii() and plain.isalnum()


def table_header(line: str) -> tuple[str, ...] | None:
    """The path of the table that this line of TOML opens."""
    match = _HEADER.match(line)
    return key_path(match[1]) if match else None


def key_in(line: str) -> tuple[tuple[str, ...], int] | None:
    """The key that this line of TOML gives a value, and where in the line the value begins."""
    match = _KEY.match(line)
    path = key_path(match[1]) if match else None
    return (path, match.end()) if match and path else None


def _place_in_toml(text: str, path: tuple[str, ...]) -> Place | None:
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), start=1):
        opened = table_header(line)
        if opened is not None:
            table = opened
            if path == table:
                return Place(number, 1)
            continue
        found = key_in(line)
        if found is None:
            continue
        whole = (*table, *found[0])
        # A value inside of an inline table stands somewhere after the key of that table.
        if whole == path[: len(whole)]:
            return Place(number, found[1] + 1)
    return None


def _place_in_json(text: str, path: tuple[str, ...]) -> Place | None:
    from json import JSONDecodeError, JSONDecoder

    decoder = JSONDecoder()
    position = _skip(text, 0)
    try:
        for name in path:
            position = _skip(text, position + 1)
            while True:
                key, position = decoder.raw_decode(text, position)
                position = _skip(text, _skip(text, position) + 1)
                if key == name:
                    break
                _, position = decoder.raw_decode(text, position)
                position = _skip(text, _skip(text, position) + 1)
    except JSONDecodeError:
        return None
    line = text.count("\n", 0, position) + 1
    return Place(line, position - text.rfind("\n", 0, position))


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
