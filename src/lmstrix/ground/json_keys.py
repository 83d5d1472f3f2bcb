"""Keys that an object of a JSON text has twice, of which the standard library's parser silently takes the last."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]')


class RepeatedKey(NamedTuple):
    """A key with those of the objects around it, and the lines, from 1, of its first two occurrences."""

    path: tuple[str, ...]
    first_line: int
    second_line: int


class _Open:
    """An object or array that has not ended: the lines of its keys so far, and the last of these."""

    def __init__(self, *, is_object: bool) -> None:
        self.is_object = is_object
        self.lines: dict[str, int] = {}
        self.key: str | None = None


def repeated_key(text: str) -> RepeatedKey | None:
    """The first key of a valid JSON text that its object had already."""
    around: list[_Open] = []
    line, counted_to = 1, 0
    wants_key = False
    for token in _TOKEN.finditer(text):
        line, counted_to = line + text.count("\n", counted_to, token.start()), token.start()
        match token[0]:
            case "{" | "[" as opens:
                around.append(_Open(is_object=opens == "{"))
                wants_key = opens == "{"
            case "}" | "]":
                around.pop()
                wants_key = False
            case ",":
                wants_key = around[-1].is_object
            case written if wants_key:
                inside, wants_key = around[-1], False
                inside.key = str(json.loads(written))
                if inside.key in inside.lines:
                    path = tuple(each.key for each in around if each.key is not None)
                    return RepeatedKey(path, inside.lines[inside.key], line)
                inside.lines[inside.key] = line
    return None
