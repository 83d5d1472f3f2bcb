"""Writes GGUF files that are whole to llama.cpp and nearly nothing on disk: real headers, tensor data left as a hole.

What llama.cpp allocates for a model depends on its header alone, so models of true width can be loaded here; what they
would say is noise. Weights are IQ1_S (1.6 bits per value, no repacking), everything with one dimension F32.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Value = int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str]
Tensors = Mapping[str, tuple[int, ...]]

_ALIGNMENT = 32
_F32, _F16, _IQ1_S = 0, 1, 19
_BLOCK_VALUES = {_F32: 1, _F16: 1, _IQ1_S: 256}
_BLOCK_BYTES = {_F32: 4, _F16: 2, _IQ1_S: 50}
_ALWAYS_F32 = (".bias", ".ssm_a", ".ssm_d", ".ssm_conv1d.weight", ".ssm_norm.weight", ".shortconv.conv.weight")


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(_text(str(item)) for item in value)
    if value and isinstance(value[0], bool):
        return struct.pack(f"<IIQ{len(value)}?", 9, 7, len(value), *value)
    if value and isinstance(value[0], float):
        return struct.pack(f"<IIQ{len(value)}f", 9, 6, len(value), *value)
    return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def _tensor_type(name: str, dimensions: tuple[int, ...]) -> int:
    if len(dimensions) == 1 or name.endswith(_ALWAYS_F32):
        return _F32
    return _IQ1_S if dimensions[0] % 256 == 0 else _F16


def write_hollow_gguf(path: Path, metadata: Mapping[str, Value], tensors: Tensors) -> Path:
    """Write `metadata` and `tensors` (dimensions, fastest first) to `path`; the data reads as zeros."""
    header = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    header += [_text(key) + _value(value) for key, value in metadata.items()]
    offset = 0
    for name, dimensions in tensors.items():
        kind = _tensor_type(name, dimensions)
        header.append(_text(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions))
        header.append(struct.pack("<IQ", kind, offset))
        size = prod(dimensions) // _BLOCK_VALUES[kind] * _BLOCK_BYTES[kind]
        offset += -(-size // _ALIGNMENT) * _ALIGNMENT
    raw = b"".join(header)
    with path.open("wb") as file:
        file.write(raw)
        file.truncate(-(-len(raw) // _ALIGNMENT) * _ALIGNMENT + offset)
    return path


def vocabulary(n_vocab: int) -> dict[str, Value]:
    """The keys of a SentencePiece vocabulary of `n_vocab` tokens."""
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": specials + [f"t{index}" for index in range(n_vocab - len(specials))],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * (n_vocab - len(specials)),
        "tokenizer.ggml.scores": [0.0] * n_vocab,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
