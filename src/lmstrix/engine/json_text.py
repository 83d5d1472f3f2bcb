"""JSON as clients send it, read strictly and within bounds. Pure.

The parser holds the whole process while it works, on a thread too, so what would keep it busy is refused by counting
characters first. Refused as well is what Python reads but cannot pass on: NaN, numbers beyond every float, halves of
characters (lone surrogates) and nesting near the limit of recursion.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLimits:
    """How much one text may hold; each names what it was set by."""

    depth: int = 128
    """Lists and objects inside each other. Twice what a JSON schema may have; Python's own end is near 1,000."""
    values: int = 500_000
    """Strings, lists and objects, eight numbers counting as one: at worst 0.3 s to read. A chat of 10,000 messages
    has 100,000."""
    uncounted_characters: int = 2**20
    """A shorter text is read as it is: whatever it holds, it takes 30 ms at most."""


LIMITS: Final = JsonLimits()
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonTextError(ValueError):
    """A text that is no JSON, or more than is taken; the message says which."""


def read_json(text: str) -> Any:
    """What `text` holds. Raises JsonTextError."""
    if len(text) > LIMITS.uncounted_characters:
        _check_count(text)
    try:
        found = _DECODER.decode(text)
    # A hundred thousand opening brackets are valid so far and exhaust the stack of the parser.
    except RecursionError:
        raise _too_deep() from None
    except JsonTextError:
        raise
    except ValueError as exc:
        raise JsonTextError("not valid JSON") from exc
    # Fewer brackets than that cannot be nested deeper.
    if text.count("[") + text.count("{") > LIMITS.depth:
        _check_depth(found)
    # Looking for the two characters first takes a tenth of what the expression takes in a long text.
    if "\\u" in text and _ESCAPED_SURROGATE.search(text):
        _check_characters(found)
    return found


def _check_count(text: str) -> None:
    values = 0.0
    # Piece by piece, as the count is over early where there is much to count.
    for start in range(0, len(text), LIMITS.uncounted_characters):
        piece = text[start : start + LIMITS.uncounted_characters]
        strings = (piece.count('"') - piece.count('\\"')) / 2
        # Brackets and commas inside of strings are counted too: telling them apart would take as long as reading.
        values += strings + piece.count("[") + piece.count("{") + piece.count(",") / 8
        if values > LIMITS.values:
            raise JsonTextError(f"more than {LIMITS.values:,} strings, lists and objects")


def _check_depth(found: Any) -> None:
    level = [found]
    for _ in range(LIMITS.depth):
        level = [child for parent in level for child in _children(parent) if isinstance(child, dict | list)]
        if not level:
            return
    raise _too_deep()


def _children(parent: Any) -> Iterable[Any]:
    return parent.values() if isinstance(parent, dict) else parent


def _check_characters(found: Any) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise JsonTextError("half of a character (a lone surrogate such as \\ud800)") from None


def _too_deep() -> JsonTextError:
    return JsonTextError(f"lists and objects more than {LIMITS.depth} deep")


def _refuse_constant(name: str) -> float:
    raise JsonTextError(f"{name} is not valid JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise JsonTextError(f"{text[:20]} is more than a number can be")
    return number


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
