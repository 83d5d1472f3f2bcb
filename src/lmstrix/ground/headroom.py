"""How much memory is to stay free beside models: a number of bytes, or a share of what models might take."""

from __future__ import annotations

from dataclasses import dataclass

from lmstrix.ground.errors import UsageError
from lmstrix.ground.units import format_bytes, parse_bytes

NAME = "safety.headroom"
_EXAMPLE = "bytes such as 2GB, or a share such as 10%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """What stays free. Bytes and share add up; only one of them is ever given."""

    free_bytes: int = 0
    free_ratio: float = 0.0

    def of(self, available_bytes: int) -> int:
        """How many bytes of those that models might take stay free."""
        return min(available_bytes, self.free_bytes + int(self.free_ratio * available_bytes))

    @property
    def word(self) -> str:
        """As a setting says it."""
        return f"{100 * self.free_ratio:g}%" if self.free_ratio else str(self.free_bytes)

    def __str__(self) -> str:
        return self.word if self.free_ratio else format_bytes(self.free_bytes)


NO_HEADROOM = Headroom()


def parse_headroom(value: str | int | None) -> Headroom:
    """What a setting says; none for None. Raises UsageError."""
    if value is None:
        return NO_HEADROOM
    text = str(value).strip()
    if not text.endswith("%"):
        free_bytes = parse_bytes(text, what=NAME)
        if free_bytes < 0 or free_bytes > 2**60:
            raise UsageError(f"{NAME}: {text} is out of range; give {_EXAMPLE}")
        return Headroom(free_bytes=free_bytes)
    try:
        percent = float(text[:-1])
    except ValueError:
        raise UsageError(f"{NAME}: {text!r} is not {_EXAMPLE}") from None
    # With all of it kept free nothing could ever be loaded.
    if not 0 <= percent < 100:
        raise UsageError(f"{NAME}: {text} is not at least 0% and below 100%")
    return Headroom(free_ratio=percent / 100)
