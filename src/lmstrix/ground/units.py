"""Numbers as people write them: "32k" tokens, "50%" of something, "3.2 GiB", "90s". Pure."""

from __future__ import annotations

import re

from lmstrix.ground.errors import UsageError

# Context lengths are powers of two: 32k means 32,768 tokens.
_TOKEN_FACTORS = {"": 1, "k": 1024, "m": 1024 * 1024}
_BYTE_FACTORS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
    "t": 2**40,
}
_SECOND_FACTORS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z%]*)\s*")


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if not match and _NUMBER.fullmatch(text.strip().removeprefix("-")):
        raise UsageError(f"{what}: {text} is below 0; give a number such as {example}")
    if not match:
        raise UsageError(f"{what}: {text!r} is not a number such as {example}")
    # Both separators people write: 32_768 and 32,768.
    number = float(match[1].replace("_", "").replace(",", ""))
    # Hundreds of digits are infinite to a float, and infinity has no whole number.
    if number == float("inf"):
        raise UsageError(f"{what}: that number is too long; give one such as {example}")
    return number, match[2].lower()


def parse_tokens(text: str, *, what: str = "tokens", minimum: int = 0) -> int:
    """A token count: "4096", "32k" (times 1024), "1M". Raises UsageError below `minimum` or when not whole."""
    number, unit = _split(text, what, "4096 or 32k")
    if unit not in _TOKEN_FACTORS:
        raise UsageError(f"{what}: unknown unit in {text!r}; write a number such as 4096 or 32k")
    tokens = number * _TOKEN_FACTORS[unit]
    if tokens != int(tokens):
        raise UsageError(f"{what}: {text!r} is not a whole number of tokens")
    if tokens < minimum:
        raise UsageError(f"{what}: {text} is below the smallest allowed value, {minimum}")
    return int(tokens)


def parse_tokens_or_ratio(text: str, *, what: str = "tokens", minimum: int = 0) -> int | float:
    """A token count as int, or a percentage ("50%") as a float ratio in 0..1."""
    if not text.strip().endswith("%"):
        return parse_tokens(text, what=what, minimum=minimum)
    number, unit = _split(text, what, "50%")
    if unit != "%" or not 0 < number <= 100:
        raise UsageError(f"{what}: {text} is out of range (more than 0%, at most 100%)")
    return number / 100.0  # always a float: callers tell 1.0, the whole, from 1, a token, by the type


def parse_bytes(text: str, *, what: str = "bytes") -> int:
    """A byte count: "2GiB", "800 MB", "1.5g" (a bare letter is binary)."""
    number, unit = _split(text, what, "2GiB or 800MB")
    if unit not in _BYTE_FACTORS:
        raise UsageError(f"{what}: unknown unit in {text!r}; write a number such as 2GiB or 800MB")
    return int(number * _BYTE_FACTORS[unit])


def parse_seconds(text: str, *, what: str = "seconds") -> float:
    """A duration in seconds: "90", "1.5", "500ms", "10m", "2h"."""
    number, unit = _split(text, what, "90, 500ms or 10m")
    if unit not in _SECOND_FACTORS:
        raise UsageError(f"{what}: unknown unit in {text!r}; write a number such as 90, 500ms or 10m")
    return number * _SECOND_FACTORS[unit]


def format_bytes(count: float) -> str:
    """Bytes in binary units with three digits: "3.20 GiB", "512 B"."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            break
        value /= 1024
    if unit == "B":
        return f"{value:.0f} B"
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"


def format_tokens(count: int | None) -> str:
    """Tokens with thousands separators, "-" when unknown."""
    return "-" if count is None else f"{count:,}"


def counted(count: int, noun: str) -> str:
    """A count with its noun, which takes an "s" unless there is one: "1 model", "1,200 models", "no models"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s" if count else f"no {noun}s"


def format_seconds(seconds: float | None) -> str:
    """A duration for people: "0.42 s", "38 s", "3 m 20 s", "2 h 05 m"."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m"


def format_about(seconds: float) -> str:
    """A predicted duration, no finer than a prediction is: "a few seconds", "about 40 s", "about 3 min"."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 55:
        return f"about {10 * round(seconds / 10)} s"
    minutes = seconds / 60
    if minutes < 9.5:
        return f"about {max(round(minutes), 1)} min"
    if minutes < 57.5:
        return f"about {5 * round(minutes / 5)} min"
    hours = minutes / 60
    return f"about {round(2 * hours) / 2:g} h" if hours < 5 else f"about {round(hours)} h"
