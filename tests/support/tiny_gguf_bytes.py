"""GGUF headers byte by byte: any version, either byte order, and every way of being wrong."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

CODES = {
    "uint8": (0, "B"),
    "int8": (1, "b"),
    "uint16": (2, "H"),
    "int16": (3, "h"),
    "uint32": (4, "I"),
    "int32": (5, "i"),
    "float32": (6, "f"),
    "bool": (7, "?"),
    "uint64": (10, "Q"),
    "int64": (11, "q"),
    "float64": (12, "d"),
}
STRING, ARRAY = 8, 9


@dataclass(slots=True)
class HeaderBytes:
    """Builds a file from the front; `data` is what was written so far."""

    version: int = 3
    order: Literal["<", ">"] = "<"
    data: bytearray = field(default_factory=lambda: bytearray(b"GGUF"))

    def start(self, *, tensors: int = 0, metadata: int = 0) -> HeaderBytes:
        """Version and counts."""
        return self.number("I", self.version).number("Q", tensors).number("Q", metadata)

    def number(self, code: str, *values: float) -> HeaderBytes:
        """Numbers in struct's notation."""
        self.data += struct.pack(f"{self.order}{len(values)}{code}", *values)
        return self

    def text(self, text: str | bytes, *, length: int | None = None) -> HeaderBytes:
        """A string; `length` is what it claims to be."""
        raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        self.number("Q", len(raw) if length is None else length)
        self.data += raw
        return self

    def scalar(self, key: str, type_name: str, value: float | str) -> HeaderBytes:
        """A metadata entry with one value; `type_name` is a key of `CODES` or "string"."""
        self.text(key)
        if isinstance(value, str):
            return self.number("I", STRING).text(value)
        type_id, code = CODES[type_name]
        return self.number("I", type_id).number(code, value)

    def array(
        self, key: str, type_name: str, values: Sequence[float | str], *, count: int | None = None
    ) -> HeaderBytes:
        """A metadata entry with an array; `count` is what it claims to hold."""
        type_id, code = (STRING, "") if type_name == "string" else CODES[type_name]
        self.text(key).number("I", ARRAY, type_id).number("Q", len(values) if count is None else count)
        if type_name != "string":
            return self.number(code, *(value for value in values if not isinstance(value, str)))
        for value in values:
            self.text(str(value))
        return self

    def tensor(self, name: str, shape: tuple[int, ...], *, type_id: int = 0, offset: int = 0) -> HeaderBytes:
        """A tensor's description."""
        return self.text(name).number("I", len(shape)).number("Q", *shape).number("I", type_id).number("Q", offset)
