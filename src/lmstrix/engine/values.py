"""Readers of single settings: each takes (key, value) and returns what the value means, or refuses it by its key. Pure.

The websocket and REST read the same kinds of values, so a wrong one gets the same words by either way.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, Final

from lmstrix.engine.faults import EngineFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LARGEST_FLOAT: Final = 1e30
"""llama.cpp computes with 32-bit floats, whose end is near 3e38; sums and products of settings must not reach it."""
LARGEST_INT: Final = 2**63 - 1
LARGEST_COUNT: Final = 2**31 - 1
MOST_TEXTS: Final = 1_000
"""Stop strings are looked for after every token of an answer."""
MOST_MESSAGES: Final = 5_000
"""Of one chat, which the template goes through; the slow ones of models take 5 ms for a message."""
_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 200


def bad_value(key: str, expected: str, value: object) -> EngineFault:
    """A setting whose value cannot be read."""
    return EngineFault(
        f"{key}: expected {expected}, found {_SHORT.repr(value)}.", kind="invalid", error_data={"key": key}
    )


def unsupported(key: str, why: str) -> EngineFault:
    """A setting that is understood and cannot be done."""
    return EngineFault(f"The embedded engine cannot honour {key}: {why}.", kind="unsupported", error_data={"key": key})


def field(body: Mapping[str, Any], name: str, read: Callable[[str, object], Any], default: Any = None) -> Any:
    """A field that may be absent or null."""
    value = body.get(name)
    return default if value is None else read(name, value)


def read_bool(key: str, value: object) -> bool:
    """A plain boolean."""
    if not isinstance(value, bool):
        raise bad_value(key, "true or false", value)
    return value


def read_number(key: str, value: object) -> float:
    """A finite number."""
    # To Python true is the number 1; a client that sends it here has mixed up two settings.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_value(key, "a number", value)
    if not abs(value) <= LARGEST_FLOAT:  # nor is what is no number, and compares with nothing
        raise bad_value(key, f"a number within ±{LARGEST_FLOAT:g}", value)
    return value


def read_int(key: str, value: object, minimum: int = 0, maximum: int = LARGEST_INT) -> int:
    """A whole number; 4096.0 counts as one."""
    number = read_number(key, value)
    if number != int(number) or number < minimum:
        raise bad_value(key, f"a whole number of at least {minimum}", value)
    if number > maximum:
        raise bad_value(key, f"a whole number of at most {maximum}", value)
    return int(number)


def read_count(key: str, value: object) -> int:
    """A whole number that llama.cpp keeps in 32 bits."""
    return read_int(key, value, 0, LARGEST_COUNT)


def read_positive(key: str, value: object) -> int:
    """A whole number of at least 1, which llama.cpp keeps in 32 bits."""
    return read_int(key, value, 1, LARGEST_COUNT)


def read_context_length(key: str, value: object) -> int:
    """A context length in tokens. Over a context of one llama.cpp aborts, and no answer would fit into it."""
    return read_int(key, value, 2)


def read_text(key: str, value: object) -> str:
    """Text."""
    if not isinstance(value, str):
        raise bad_value(key, "text", value)
    return value


def read_texts(key: str, value: object) -> tuple[str, ...]:
    """A list of texts, without the empty ones."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise bad_value(key, "a list of texts", value)
    if len(value) > MOST_TEXTS:
        raise bad_value(key, f"at most {MOST_TEXTS:,} texts", value)
    return tuple(item for item in value if item)


def read_messages(key: str, value: object) -> list[Any]:
    """The messages of a chat, each yet to be read."""
    if not isinstance(value, list):
        raise bad_value(key, "a list of messages", value)
    if len(value) > MOST_MESSAGES:
        raise EngineFault(
            f"{key}: {len(value):,} messages are too many, {MOST_MESSAGES:,} is the most.", kind="invalid"
        )
    return value


def read_object(key: str, value: object) -> Mapping[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise bad_value(key, "an object", value)
    return value
