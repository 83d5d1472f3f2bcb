"""Read the header of a GGUF file, and nothing of the rest, in milliseconds.

The file is read once, front to back, a stretch at a time. Long arrays (the vocabulary, its scores and merges) are
stepped over unless asked for, so the cost is one length field per token. Everything a length field claims is checked
against the bytes that are there before anything is allocated, and the strings stepped over, the bytes copied and the
bytes read have a ceiling, so that no file, however hostile, costs more than about a second or a few hundred megabytes.

A file that is shortened or rewritten meanwhile is refused like a damaged one. It is never mapped: a mapping would end
this process then (SIGBUS). Traded away: format version 1, which nothing has written since 2023.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from lmstrix.ground.errors import GgufError
from lmstrix.ground.regular_files import open_regular
from lmstrix.loaders.file_window import FileChangedError, FileWindow, TooMuchReadError
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
    read_bytes: int = 256 * 2**20
    """Everything read from the file, stepped over or not; the largest vocabularies take some 20 MiB."""
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
        with open_regular(path) as file:
            return _read_whole(path, FileWindow(file, read_bytes=_LIMITS.read_bytes), with_arrays)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        raise GgufError(f"{path}: cannot be read ({reason}); check the path and its permissions") from exc


def _read_whole(path: Path, window: FileWindow, with_arrays: bool | Collection[str]) -> GgufHeader:
    try:
        header = _HeaderReader(path, window, with_arrays).header()
        # What was read in part before and in part after a change is no header of either.
        window.check_unchanged()
    except FileChangedError as exc:
        raise GgufError(f"{path}: changed while it was read; wait until whoever writes it has finished") from exc
    except TooMuchReadError as exc:
        raise GgufError(
            f"{path}: its header is longer than {_LIMITS.read_bytes // 2**20} MiB; the file is no model: "
            "download it again"
        ) from exc
    return header


class _HeaderReader:
    """A cursor over the file; every method reads at `offset` and moves it on."""

    def __init__(self, path: Path, window: FileWindow, with_arrays: bool | Collection[str]) -> None:
        self.path = path
        self.window = window
        self.size = window.size
        self.with_arrays = with_arrays
        self.offset = 0
        self.strings_left = _LIMITS.strings
        self.bytes_left = _LIMITS.copied_bytes
        self.byte_order: Literal["little", "big"] = "little"
        self.order = "<"

    def fault(self, what: str, at: int | None = None) -> GgufError:
        where = self.offset if at is None else at
        return GgufError(f"{self.path}: byte {where}: {what}; the file is damaged or no model: download it again")

    def header(self) -> GgufHeader:
        self._magic()
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

    def _magic(self) -> None:
        if self.size < len(_MAGIC) or self._take(len(_MAGIC), "its first word") != _MAGIC:
            raise GgufError(
                f"{self.path}: byte 0: does not start with {_MAGIC.decode()}, so it is no GGUF file; download it again"
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
        value: Scalar = struct.unpack(self.order + value_type.code, self._take(value_type.size, value_type.name))[0]
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
        return struct.unpack(f"{self.order}{count}{value_type.code}", self._take(count * value_type.size, "an array"))

    def _skip_strings(self, count: int) -> ArrayInfo:
        offset, left, length_at = self.offset, count, struct.Struct(self.order + "Q").unpack_from
        while left:
            if offset + 8 > self.size:
                raise self._past_end(count)
            data, begin = self.window.at(offset, 8)
            at = begin
            # One unpacking per string and nothing else: this loop is most of the time that a header takes.
            try:
                for still in range(left, 0, -1):
                    left = still
                    at += length_at(data, at)[0] + 8
                left = 0
            # The end of this stretch, or a length beyond all; the next turn finds out which.
            except (struct.error, OverflowError):
                pass
            offset += at - begin
        if offset > self.size:
            raise self._past_end(count)
        info = ArrayInfo(element_type="string", count=count, offset=self.offset)
        self.offset = offset
        return info

    def _strings(self, count: int) -> tuple[str, ...]:
        strings, length_of = [], struct.Struct(self.order + "Q").unpack
        for _ in range(count):
            if self.size - self.offset < 8:
                raise self._past_end(count)
            length = length_of(self._take(8, "a length"))[0]
            # Here the bytes are copied, so each end is checked against what the ceiling leaves first.
            if length > min(self.size - self.offset, self.bytes_left):
                raise self._past_end(count)
            self._spend_copied(length)
            raw = self._take(length, "a text")
            try:
                strings.append(raw.decode())
            except UnicodeDecodeError:  # byte-level vocabularies have entries that are parts of characters
                strings.append(raw.decode("utf-8", "surrogateescape"))
        return tuple(strings)

    def _past_end(self, count: int) -> GgufError:
        return self.fault(f"an array of {count:,} strings reaches past the end or is longer than a vocabulary")

    def _text(self, what: str, max_bytes: int) -> str:
        at = self.offset
        length = self._unpack("Q", 8)
        if length > max_bytes:
            raise self.fault(f"a {what} of {length:,} bytes", at=at)
        self._require(length, what)
        self._spend_copied(length)
        raw = self._take(length, what)
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
        value: int = struct.unpack(self.order + code, self._take(size, "a number"))[0]
        return value

    def _take(self, size: int, what: str) -> bytes:
        """The next `size` bytes."""
        self._require(size, what)
        data, begin = self.window.at(self.offset, size)
        self.offset += size
        return data[begin : begin + size]

    def _require(self, size: int, what: str) -> None:
        if size > self.size - self.offset:
            raise self.fault(f"the file ends inside {what}")

    def _spend_copied(self, size: int) -> None:
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise self.fault(f"more than {_LIMITS.copied_bytes // 2**20} MiB of metadata")
