"""Readers of single settings: each takes (key, value) and returns what the value means, or refuses it by its key. Pure.

The websocket and REST read the same kinds of values, so a wrong one gets the same words by either way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lmstrix.engine.faults import EngineFault

if TYPE_CHECKING:
    from collections.abc import Mapping


def bad_value(key: str, expected: str, value: object) -> EngineFault:
    """A setting whose value cannot be read."""
    return EngineFault(f"{key}: expected {expected}, found {value!r}.", kind="invalid", error_data={"key": key})


def unsupported(key: str, why: str) -> EngineFault:
    """A setting that is understood and cannot be done."""
    return EngineFault(f"The embedded engine cannot honour {key}: {why}.", kind="unsupported", error_data={"key": key})


def read_bool(key: str, value: object) -> bool:
    """A plain boolean."""
    if not isinstance(value, bool):
        raise bad_value(key, "true or false", value)
    return value


def read_number(key: str, value: object) -> float:
    """A finite number."""
    # To Python true is the number 1; a client that sends it here has mixed up two settings.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise bad_value(key, "a number", value)
    return value


def read_int(key: str, value: object, minimum: int = 0) -> int:
    """A whole number; 4096.0 counts as one."""
    number = read_number(key, value)
    if number != int(number) or number < minimum:
        raise bad_value(key, f"a whole number of at least {minimum}", value)
    return int(number)


def read_positive(key: str, value: object) -> int:
    """A whole number of at least 1."""
    return read_int(key, value, 1)


def read_text(key: str, value: object) -> str:
    """Text."""
    if not isinstance(value, str):
        raise bad_value(key, "text", value)
    return value


def read_texts(key: str, value: object) -> tuple[str, ...]:
    """A list of texts, without the empty ones."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise bad_value(key, "a list of texts", value)
    return tuple(item for item in value if item)


def read_tools(key: str, value: object) -> tuple[Mapping[str, Any], ...]:
    """Tool definitions in OpenAI's form, which is the one llama.cpp takes too."""
    if not isinstance(value, list):
        raise bad_value(key, "a list of tools", value)
    for tool in value:
        match tool:
            case {"type": "function", "function": {"name": str()}}:
                continue
        raise bad_value(key, "function tools with a name", tool)
    return tuple(value)
