"""TOML and JSON texts that somebody else wrote, read so that no text, however odd, ends in more than one clear line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, time

    Value = str | int | float | bool | date | time | Sequence["Value"] | Mapping[str, "Value"]
    """What a text of TOML holds, and what fills a prompt."""

MOST_DIGITS = 4300
"""Python's own limit for reading and printing whole numbers, which TOML's hexadecimal numbers pass by."""
_BEYOND = 10**MOST_DIGITS
_DEEPEST = 100
"""Far more than settings, variables and prompts need; what reads them later does so by recursion."""
_MOST_OF_A_KEY = 80
_TOO_DEEP = "nests its values too deeply; make it flatter"
_TOO_LONG = f"has a number of more than {MOST_DIGITS:,} digits; write it in quotes, as a text"


class DocumentError(ValueError):
    """What is wrong with a text; the message follows the name of its file."""


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises DocumentError."""
    import tomllib

    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise DocumentError(f"is not valid TOML: {exc}") from exc
    except ValueError as exc:  # int() on what tomllib found to be a number
        raise DocumentError(_TOO_LONG) from exc
    except RecursionError as exc:
        raise DocumentError(_TOO_DEEP) from exc
    _refuse_extremes(found)
    return found


def parse_json(text: str) -> object:
    """The value of a JSON text. Raises DocumentError, also for a key that comes twice, of which one would be lost."""
    import json

    repeats = False

    def gathered(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal repeats
        table = dict(pairs)
        repeats = repeats or len(table) != len(pairs)
        return table

    try:
        found: object = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=gathered)
    except json.JSONDecodeError as exc:
        raise DocumentError(f"is not valid JSON: {exc}") from exc
    except DocumentError:
        raise
    except ValueError as exc:
        raise DocumentError(_TOO_LONG) from exc
    except RecursionError as exc:
        raise DocumentError(_TOO_DEEP) from exc
    _refuse_extremes(found)
    if repeats:
        _refuse_repeated(text)
    return found


def _refuse_repeated(text: str) -> None:
    from lmstrix.ground.json_keys import repeated_key  # which no text without a slip needs

    repeated = repeated_key(text)
    if repeated is not None:
        key, first, second = ".".join(repeated.path)[:_MOST_OF_A_KEY], repeated.first_line, repeated.second_line
        where = f"in line {first}" if first == second else f"in lines {first} and {second}"
        raise DocumentError(f"has the key {key!r} twice, {where}; leave out one of them")


def _refuse_extremes(document: object) -> None:
    """Level by level, as recursion is what deep values would break."""
    level = [document]
    for _ in range(_DEEPEST):
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, int) and not -_BEYOND < value < _BEYOND:
                raise DocumentError(_TOO_LONG)
        if not inner:
            return
        level = inner
    raise DocumentError(_TOO_DEEP)


def _refuse_constant(name: str) -> NoReturn:
    raise DocumentError(f"is not valid JSON: {name} is no number there")
