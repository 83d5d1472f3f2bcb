"""Safetensors files small enough to write in a test: a header, and as many zeros as it announces."""

from __future__ import annotations

import json
import struct
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_BYTES = {"U32": 4, "F32": 4, "BF16": 2, "F16": 2, "U8": 1}

Tensors = dict[str, tuple[str, list[int]]]


def header_bytes(entries: Mapping[str, object] | str) -> bytes:
    """A header with these entries, or of this text, and its length."""
    text = (entries if isinstance(entries, str) else json.dumps(entries)).encode()
    return struct.pack("<Q", len(text)) + text


def data_bytes(tensors: Tensors) -> int:
    """What these tensors take together."""
    return sum(_BYTES[dtype] * prod(shape) for dtype, shape in tensors.values())


def write_safetensors(path: Path, tensors: Tensors) -> int:
    """Write a file with these tensors; their data is a hole, which takes no space on the disk. Returns its size."""
    entries: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + _BYTES[dtype] * prod(shape)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    head = header_bytes(entries)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + end)
    return len(head) + end
