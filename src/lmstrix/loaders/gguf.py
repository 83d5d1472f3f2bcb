"""Read the header of a GGUF file, and nothing of the rest, in milliseconds.

The file is mapped and read once, front to back. Long arrays (the vocabulary, its scores and merges) are stepped over
unless asked for, so the cost is one length field per token. Everything a length field claims is checked against the
bytes that are there before anything is allocated, and the strings stepped over and the bytes copied have a ceiling, so
that no file, however hostile, costs more than about a second or a few hundred megabytes.

Traded away: a file that another process shortens while it is being read ends this process (SIGBUS), as with any
mapping; and format version 1, which nothing has written since 2023.
"""

from __future__ import annotations

import mmap
import stat
import struct
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

from lmstrix.ground.errors import GgufError
from lmstrix.loaders.gguf_header import ArrayInfo, GgufHeader, GgufValue, Scalar, TensorInfo

if TYPE_CHECKING:
    from collections.abc import Collection

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufLimits:
    """What a header may ask of its reader; real models stay far below."""

    dimensions: int = 4
    """GGML_MAX_DIMS of ggml."""
    inline_array_count: int = 1024
    """Numeric arrays up to this long (one value per layer, or per section) are always read."""
    metadata_entries: int = 65_536
    """Models have some dozens."""
    tensors: int = 262_144
    """The largest mixtures of experts have some thousands."""
    name_bytes: int = 65_535
    """What the format allows for a key."""
    text_bytes: int = 16 * 2**20
    """One text, such as a chat template: they have some kilobytes."""
    strings: int = 2_000_000
    """Strings in all arrays, 0.2 s to step over; the largest vocabularies have under a million with their merges."""
    copied_bytes: int = 128 * 2**20
    """Everything read into memory together."""
    number_bytes: int = 32
    """What one number of an array takes as a Python object, counted against `copied_bytes`."""


_LIMITS = GgufLimits()


class _ValueType(NamedTuple):
    name: str
    code: str
    size: int


_VALUE_TYPES = {
    0: _ValueType("uint8", "B", 1),
    1: _ValueType("int8", "b", 1),
    2: _ValueType("uint16", "H", 2),
    3: _ValueType("int16", "h", 2),
    4: _ValueType("uint32", "I", 4),
    5: _ValueType("int32", "i", 4),
    6: _ValueType("float32", "f", 4),
    7: _ValueType("bool", "?", 1),
    10: _ValueType("uint64", "Q", 8),
    11: _ValueType("int64", "q", 8),
    12: _ValueType("float64", "d", 8),
}


def read_header(path: Path | str, *, with_arrays: bool | Collection[str] = False) -> GgufHeader:
    """Read the header of the GGUF file at `path`.

    `with_arrays` names the keys whose arrays are read even when long or made of strings (True: all of them); the others
    stay an `ArrayInfo`. Vocabulary entries that are not UTF-8 keep their bytes as surrogates (`surrogateescape`).
    Raises `GgufError`, naming the file, the offset and the fault, for anything that is not a whole, sane header.
    """
    path = Path(path)
    try:
        # Before opening: opening a pipe would wait for somebody to write into it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise GgufError(f"{path}: not a regular file; give the path of a .gguf file")
        with path.open("rb") as file:
            return _read_mapped(path, file, with_arrays)
    except (OSError, ValueError) as exc:
        raise GgufError(f"{path}: cannot be read ({exc}); check the path and its permissions") from exc


def _read_mapped(path: Path, file: BinaryIO, with_arrays: bool | Collection[str]) -> GgufHeader:
    # Before mapping, which refuses an empty file with a message of its own.
    if file.read(len(_MAGIC)) != _MAGIC:
        raise GgufError(
            f"{path}: byte 0: does not start with {_MAGIC.decode()}, so it is no GGUF file; download it again"
        )
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _HeaderReader(path, data, with_arrays).header()


class _HeaderReader:
    """A cursor over the mapped file; every method reads at `offset` and moves it on."""

    def __init__(self, path: Path, data: mmap.mmap, with_arrays: bool | Collection[str]) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.with_arrays = with_arrays
        self.offset = len(_MAGIC)
        self.strings_left = _LIMITS.strings
        self.bytes_left = _LIMITS.copied_bytes
        self.byte_order: Literal["little", "big"] = "little"
        self.order = "<"

    def fault(self, what: str, at: int | None = None) -> GgufError:
        where = self.offset if at is None else at
        return GgufError(f"{self.path}: byte {where}: {what}; the file is damaged or no model: download it again")

    def header(self) -> GgufHeader:
        version = self._version()
        tensor_count = self._count("tensors", _LIMITS.tensors)
        metadata_count = self._count("metadata entries", _LIMITS.metadata_entries)
        metadata = self._metadata(metadata_count)
        alignment = self._alignment(metadata)
        tensors = self._tensors(tensor_count)
        return GgufHeader(
            path=self.path,
            file_size_bytes=self.size,
            version=version,
            byte_order=self.byte_order,
            alignment=alignment,
            data_offset=-(-self.offset // alignment) * alignment,
            metadata=metadata,
            tensors=tensors,
        )

    def _version(self) -> int:
        version = self._unpack("I", 4)
        # A small number whose low bytes are zero was written the other way round, by a big-endian machine.
        if version & 0xFFFF == 0 and version:
            self.byte_order, self.order = "big", ">"
            self.offset -= 4
            version = self._unpack("I", 4)
        if version == 1:
            raise GgufError(f"{self.path}: byte 4: GGUF version 1 is not supported; convert the model again")
        if version not in _VERSIONS:
            raise self.fault(f"unknown GGUF version {version}", at=4)
        return version

    def _metadata(self, count: int) -> dict[str, GgufValue]:
        metadata: dict[str, GgufValue] = {}
        for _ in range(count):
            at = self.offset
            key = self._text("key", _LIMITS.name_bytes)
            if key in metadata:
                raise self.fault(f"metadata key {key[:80]!r} appears twice", at=at)
            metadata[key] = self._value(key)
        return metadata

    def _alignment(self, metadata: dict[str, GgufValue]) -> int:
        # The start of the tensor data is rounded up to it, so a zero or a wild value is refused here.
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**31 or alignment & (alignment - 1):
            raise self.fault(f"general.alignment is {str(alignment)[:40]}, not a power of two")
        return alignment

    def _tensors(self, count: int) -> tuple[TensorInfo, ...]:
        tensors: dict[str, TensorInfo] = {}
        for _ in range(count):
            at = self.offset
            name = self._text("tensor name", _LIMITS.name_bytes)
            if name in tensors:
                raise self.fault(f"tensor {name[:80]!r} appears twice", at=at)
            dimensions = self._unpack("I", 4)
            if dimensions > _LIMITS.dimensions:
                raise self.fault(f"tensor {name[:80]!r} has {dimensions} dimensions", at=at)
            shape = tuple(self._unpack("Q", 8) for _ in range(dimensions))
            tensors[name] = TensorInfo(
                name=name, shape=shape, type_id=self._unpack("I", 4), offset=self._unpack("Q", 8)
            )
        return tuple(tensors.values())

    def _value(self, key: str) -> GgufValue:
        type_id = self._unpack("I", 4)
        if type_id == _STRING:
            return self._text("text", _LIMITS.text_bytes)
        if type_id == _ARRAY:
            return self._array(key)
        return self._scalar(self._value_type(type_id))

    def _value_type(self, type_id: int) -> _ValueType:
        value_type = _VALUE_TYPES.get(type_id)
        if value_type is None:
            raise self.fault(f"unknown value type {type_id}", at=self.offset - 4)
        return value_type

    def _scalar(self, value_type: _ValueType) -> Scalar:
        self._require(value_type.size, value_type.name)
        value: Scalar = struct.unpack_from(self.order + value_type.code, self.data, self.offset)[0]
        self.offset += value_type.size
        return value

    def _array(self, key: str) -> GgufValue:
        type_id = self._unpack("I", 4)
        if type_id == _ARRAY:
            # No writer makes them, and reading them would need a recursion that a file could make deep.
            raise self.fault("an array of arrays", at=self.offset - 4)
        wanted = self.with_arrays if isinstance(self.with_arrays, bool) else key in self.with_arrays
        if type_id == _STRING:
            count = self._count("strings", self.strings_left, each_bytes=8)
            self.strings_left -= count
            return self._strings(count) if wanted else self._skip_strings(count)
        value_type = self._value_type(type_id)
        count = self._count(f"values of type {value_type.name}", self.size, each_bytes=value_type.size)
        if not wanted and count > _LIMITS.inline_array_count:
            info = ArrayInfo(element_type=value_type.name, count=count, offset=self.offset)
            self.offset += count * value_type.size
            return info
        return self._numbers(value_type, count)

    def _numbers(self, value_type: _ValueType, count: int) -> tuple[Scalar, ...]:
        # Before unpacking: a byte in the file becomes an object of many in memory.
        self._spend_copied(count * _LIMITS.number_bytes)
        values = struct.unpack_from(f"{self.order}{count}{value_type.code}", self.data, self.offset)
        self.offset += count * value_type.size
        return values

    def _skip_strings(self, count: int) -> ArrayInfo:
        # One unpacking per string and nothing else: this loop is most of the time that a header takes.
        offset, data, length_at = self.offset, self.data, struct.Struct(self.order + "Q").unpack_from
        try:
            for _ in repeat(None, count):
                offset += length_at(data, offset)[0] + 8
        # A length beyond the end is noticed by the next unpacking, so the loop itself needs no check.
        except (struct.error, OverflowError):
            offset = self.size + 1
        if offset > self.size:
            raise self.fault(f"an array of {count:,} strings reaches past the end")
        info = ArrayInfo(element_type="string", count=count, offset=self.offset)
        self.offset = offset
        return info

    def _strings(self, count: int) -> tuple[str, ...]:
        data, length_at = self.data, struct.Struct(self.order + "Q").unpack_from
        # Here the bytes are copied, so each end is checked against what the ceiling leaves before its string is made.
        strings, offset, room = [], self.offset, min(self.size, self.offset + self.bytes_left)
        for _ in repeat(None, count):
            begin = offset + 8
            if begin > room or (offset := begin + length_at(data, offset)[0]) > room:
                raise self.fault(f"an array of {count:,} strings reaches past the end or is longer than a vocabulary")
            try:
                strings.append(data[begin:offset].decode())
            except UnicodeDecodeError:  # byte-level vocabularies have entries that are parts of characters
                strings.append(data[begin:offset].decode("utf-8", "surrogateescape"))
        self._spend_copied(offset - self.offset)
        self.offset = offset
        return tuple(strings)

    def _text(self, what: str, max_bytes: int) -> str:
        at = self.offset
        length = self._unpack("Q", 8)
        if length > max_bytes:
            raise self.fault(f"a {what} of {length:,} bytes", at=at)
        self._require(length, what)
        self._spend_copied(length)
        raw = self.data[self.offset : self.offset + length]
        self.offset += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise self.fault(f"a {what} that is not UTF-8", at=at) from exc

    def _count(self, what: str, ceiling: int, *, each_bytes: int = 12) -> int:
        """A count of things of at least `each_bytes`, refused when there is no room for them."""
        at = self.offset
        count = self._unpack("Q", 8)
        if count > ceiling or count * each_bytes > self.size - self.offset:
            raise self.fault(f"{count:,} {what} announced, more than the file can hold or a model has", at=at)
        return count

    def _unpack(self, code: str, size: int) -> int:
        self._require(size, "a number")
        value: int = struct.unpack_from(self.order + code, self.data, self.offset)[0]
        self.offset += size
        return value

    def _require(self, size: int, what: str) -> None:
        if size > self.size - self.offset:
            raise self.fault(f"the file ends inside {what}")

    def _spend_copied(self, size: int) -> None:
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise self.fault(f"more than {_LIMITS.copied_bytes // 2**20} MiB of metadata")
