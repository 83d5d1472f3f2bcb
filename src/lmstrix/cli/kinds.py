"""The kinds of values that options take: how each is shown in help, and how its word is read.

A signature names a kind by its annotation (`ctx: Tokens | None = None`). A reader takes the word and `what` it is for,
such as "--ctx", and raises UsageError with both in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast, get_args

from lmstrix.ground import units
from lmstrix.ground.choices import ListColumn
from lmstrix.ground.errors import UsageError
from lmstrix.ground.ranges import (
    BYTES,
    CONTEXT_OR_SHARE,
    COUNT_OR_NONE,
    DURATION,
    RANGES,
    SLOTS,
    TOKENS,
    TOKENS_OR_SHARE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


LATENCIES = ("ttft", "itl", "e2e")
"""What --goodput sets limits to: first token, between tokens, whole answer."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a word becomes a value: `convert(word, what)`; help shows `shown` in its place."""

    shown: str
    convert: Callable[[str, str], object]


@dataclass(frozen=True, slots=True)
class Flag:
    """The option's name where it is not the parameter's (which may shadow no builtin)."""

    name: str


def _whole(word: str, what: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise UsageError(f"{what}: {word!r} is not a whole number") from None


def _number(word: str, what: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    # float() also reads "nan" and "inf", which no server takes and JSON cannot carry.
    if value != value or value in (float("inf"), float("-inf")):
        raise UsageError(f"{what}: {word!r} is not a number")
    return value


def read_text(word: str, what: str) -> str:
    try:
        # Bytes that are no UTF-8 reach argv as lone surrogates; refused here, else they fail deep inside a request.
        word.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what}: the text is not valid UTF-8; convert it first") from None
    return word


def _text_of_some_length(word: str, what: str) -> str:
    if not word:
        raise UsageError(f"{what}: the text is empty; leave the option out, or give a text")
    return read_text(word, what)


def _positive_tokens(word: str, what: str) -> int:
    return units.parse_tokens(word, what=what, minimum=1)


def _tokens_or_ratio(word: str, what: str) -> int | float:
    return units.parse_tokens_or_ratio(word, what=what)


def _all_or_tokens(word: str, what: str) -> int | float | None:
    return None if word in ("auto", "max") else _tokens_or_ratio(word, what)


def _seconds(word: str, what: str) -> float:
    return units.parse_seconds(word, what=what)


def _byte_count(word: str, what: str) -> int:
    return units.parse_bytes(word, what=what)


def _port(word: str, what: str) -> int:
    port = _whole(word, what)
    if not 0 <= port <= 65535:
        raise UsageError(f"{what}: {port} is not a port number (0 to 65535)")
    return port


def _percent(word: str, what: str) -> float:
    try:
        ratio = float(word.removesuffix("%")) / 100.0
    except ValueError:
        # Refused below, in the same words as a negative percentage.
        ratio = -1.0
    if not 0.0 <= ratio < float("inf"):
        raise UsageError(f"{what}: {word!r} is not a percentage such as 5%")
    return ratio


def _token_counts(word: str, what: str) -> tuple[int, ...]:
    return _each(word, what, lambda part, what: units.parse_tokens(part, what=what))


def _counts(word: str, what: str) -> tuple[int, ...]:
    return _each(word, what, _count)


def _count(word: str, what: str) -> int:
    # By length first: Python refuses to read thousands of digits, in words of its own.
    if not word.isdecimal() or len(word) > 9 or int(word) < 1:
        raise UsageError(f"{what}: {word!r} is not a whole number from 1")
    return int(word)


def _each(word: str, what: str, convert: Callable[[str, str], int]) -> tuple[int, ...]:
    """Several numbers joined with commas, each once: a benchmark would measure a repeated one twice."""
    return tuple(dict.fromkeys(convert(part.strip(), what) for part in word.split(",")))


def _rates(word: str, what: str) -> tuple[float, ...]:
    return tuple(dict.fromkeys(_number(part.strip(), what) for part in word.split(",")))


def _latency_targets(word: str, what: str) -> dict[str, float]:
    """`ttft=1s,itl=50ms,e2e=20s`: limits in seconds by name, each at most once."""
    targets: dict[str, float] = {}
    for part in word.split(","):
        name, equals, limit = (piece.strip() for piece in part.partition("="))
        if name not in LATENCIES or not equals:
            raise UsageError(f"{what}: {part.strip()!r} is no target; write ttft=1s,itl=50ms,e2e=20s, or some of them")
        if name in targets:
            raise UsageError(f"{what}: {name} is given twice")
        targets[name] = units.parse_seconds(limit, what=f"{what}: {name}")
        DURATION.check(targets[name], f"{what}: {name}")
    return targets


def _list_columns(word: str, what: str) -> tuple[ListColumn, ...]:
    known = get_args(ListColumn)
    names = dict.fromkeys(part.strip().lower() for part in word.split(","))
    for name in names:
        if name not in known:
            raise UsageError(f"{what}: there is no column {name!r} (there are: {', '.join(known)})")
    return tuple(cast("ListColumn", name) for name in names)


SomeText = Annotated[str, Kind("TEXT", _text_of_some_length)]
Tokens = Annotated[int, Kind("N", _positive_tokens), TOKENS]
TokensOrRatio = Annotated[int | float, Kind("N|N%", _tokens_or_ratio), CONTEXT_OR_SHARE]
TokensOrAll = Annotated[int | float | None, Kind("N|N%|auto|max", _all_or_tokens), TOKENS_OR_SHARE]
TokenCounts = Annotated[tuple[int, ...], Kind("N,N,…", _token_counts), COUNT_OR_NONE]
Counts = Annotated[tuple[int, ...], Kind("N,N,…", _counts), SLOTS]
Percent = Annotated[float, Kind("N%", _percent)]
Seconds = Annotated[float, Kind("SECONDS", _seconds), DURATION]
ByteCount = Annotated[int, Kind("BYTES", _byte_count), BYTES]
Port = Annotated[int, Kind("PORT", _port)]
Rates = Annotated[tuple[float, ...], Kind("X,X,…", _rates), RANGES["rates_per_s"]]
LatencyLimits = Annotated[dict[str, float], Kind("NAME=SECONDS,…", _latency_targets)]
ListColumns = Annotated[tuple[ListColumn, ...], Kind("NAME,NAME,…", _list_columns)]
AllModels = Annotated[bool, Flag("all")]

PLAIN_KINDS: Mapping[object, Kind] = {str: Kind("TEXT", read_text), int: Kind("N", _whole), float: Kind("X", _number)}
