"""Read the header of a safetensors file: which tensors it holds and how many bytes they take. Nothing of the tensors.

The format: eight bytes, little-endian, with the length of a JSON object; the object, tensor by tensor its type, shape
and place; the data. Only the first two are read, and whatever they claim is checked against the size of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.ground.errors import MlxError
from lmstrix.ground.regular_files import open_regular
from lmstrix.loaders.file_window import FileChangedError, FileWindow
from lmstrix.loaders.json_objects import parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsLimits:
    """What a header may ask of its reader; real models stay far below."""

    header_bytes: int = 16 * 2**20
    """The 512 experts of a layer, each a tensor of its own, take about 10 MiB in one file; the format allows 100 MB."""
    tensors: int = 262_144
    """As many as a GGUF header may have."""
    dimensions: int = 8
    """Weights have two, experts three, convolutions four or five."""


_LIMITS = SafetensorsLimits()
_DTYPE_BITS = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "BOOL": 8,
    "I8": 8,
    "U8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
"""The format's own list; the size of a type it gains later is not checked."""


class Tensor(NamedTuple):
    """One tensor: the format's name of its type, its shape, and its bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int

    @property
    def n_values(self) -> int:
        """How many values of its type it holds."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsHeader:
    """What one file holds. `missing_bytes` is data that the header announces beyond the end of the file."""

    tensors: Mapping[str, Tensor]
    missing_bytes: int


def read_header(path: Path) -> SafetensorsHeader:
    """Read the header of the file at `path`. Raises `MlxError` for anything that is not a whole, sane header."""
    try:
        with open_regular(path) as file:
            window = FileWindow(file, read_bytes=_LIMITS.header_bytes + 2**20)
            header = _header(path.name, window)
            window.check_unchanged()
    except FileChangedError as exc:
        raise MlxError(
            f"{path.name} changed while it was read; wait until whoever writes it has finished", kind="unreadable"
        ) from exc
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise MlxError(f"{path.name} cannot be read ({reason})", kind="unreadable") from exc
    return header


def _header(name: str, window: FileWindow) -> SafetensorsHeader:
    if not window.size:
        raise MlxError(f"{name} is empty: download it again", kind="empty")
    if window.size < _LENGTH.size:
        raise _fault(name, "is too short for a header")
    length: int = _LENGTH.unpack_from(*window.at(0, _LENGTH.size))[0]
    if length > min(_LIMITS.header_bytes, window.size - _LENGTH.size):
        raise _fault(name, f"announces a header of {length:,} bytes, more than it holds or a model has")
    data, begin = window.at(_LENGTH.size, length) if length else (b"", 0)
    entries = parse_object(data[begin : begin + length], f"the header of {name}")
    entries.pop(_METADATA, None)
    if len(entries) > _LIMITS.tensors:
        raise _fault(name, f"has {len(entries):,} tensors, more than a model has")
    places = {tensor: _place(name, tensor, entry) for tensor, entry in entries.items()}
    data_bytes = _check_places(name, places)
    return SafetensorsHeader(
        tensors={tensor: place.tensor for tensor, place in places.items()},
        missing_bytes=max(0, _LENGTH.size + length + data_bytes - window.size),
    )


class _Place(NamedTuple):
    begin: int
    end: int
    tensor: Tensor


def _place(name: str, tensor: str, entry: object) -> _Place:
    where = f"has no sane entry for tensor {tensor[:80]!r}"
    if not isinstance(entry, dict):
        raise _fault(name, where)
    dtype, shape, offsets = entry.get("dtype"), _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or len(shape) > _LIMITS.dimensions:
        raise _fault(name, where)
    if prod(shape) >= 2**63 or offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _fault(name, where)
    found = Tensor(dtype, shape, offsets[1] - offsets[0])
    bits = _DTYPE_BITS.get(dtype)
    if bits is not None and found.n_values * bits != found.size_bytes * 8:
        raise _fault(name, f"gives tensor {tensor[:80]!r} {found.size_bytes:,} bytes, which its shape contradicts")
    return _Place(*offsets, found)


def _counts(value: object) -> tuple[int, ...] | None:
    """A list of sizes, None for anything else."""
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 2**63 for item in value):
        return None
    return tuple(value)


def _check_places(name: str, places: Mapping[str, _Place]) -> int:
    """The end of the last tensor, once none is seen to lie in another."""
    end = 0
    for place in sorted(places.values(), key=lambda place: place[:2]):
        if place.begin < end:
            raise _fault(name, "has tensors that overlap")
        end = place.end
    return end


def _fault(name: str, what: str) -> MlxError:
    return MlxError(f"{name} {what}; it is damaged or no model: download it again", kind="corrupt")
