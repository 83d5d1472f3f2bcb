"""What a GGUF header says, as records, and the facts that others ask of it. Pure; `gguf.read_header` fills them.

Facts are properties that answer None where the file is silent or holds another type than the key promises: a header
comes from anywhere, and one odd key must not hide the rest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

from lmstrix.ground.errors import GgufError
from lmstrix.loaders.gguf_tables import (
    EMBEDDING_ARCHITECTURES,
    FILE_TYPE_GUESSED,
    FILE_TYPES,
    PROJECTOR_ARCHITECTURES,
    TENSOR_TYPES,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MAX_LAYERS = 65_536
_GENERATES_TEXT = 0
"""The pooling type of a model that does not pool its outputs into an embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayInfo:
    """An array that was stepped over, not read. `offset` is where its first element starts in the file."""

    element_type: str
    count: int
    offset: int


Scalar = int | float | bool | str
GgufValue = Scalar | tuple[Scalar, ...] | ArrayInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor. `shape` is in ggml's order (fastest first); `offset` counts from the start of the tensor data."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int

    @property
    def type_name(self) -> str | None:
        """ "Q4_K", …; None for a type this version does not know."""
        known = TENSOR_TYPES.get(self.type_id)
        return known.name if known else None

    @property
    def size_bytes(self) -> int | None:
        """Bytes of data; None for a type this version does not know."""
        known = TENSOR_TYPES.get(self.type_id)
        return prod(self.shape) // known.block_values * known.block_bytes if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """A parsed header. `metadata` keeps the file's order; `data_offset` is where the tensor data starts."""

    path: Path
    file_size_bytes: int
    version: int
    byte_order: Literal["little", "big"]
    alignment: int
    data_offset: int
    metadata: Mapping[str, GgufValue]
    tensors: tuple[TensorInfo, ...]

    def text(self, key: str) -> str | None:
        """The string under `key`."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def integer(self, key: str) -> int | None:
        """The integer under `key`."""
        return _integer(self.metadata.get(key))

    def number(self, key: str) -> float | None:
        """The integer or float under `key`."""
        value = self.metadata.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def arch_key(self, suffix: str) -> str:
        """The full name of one of the architecture's own keys: "context_length" -> "llama.context_length"."""
        return f"{self.architecture}.{suffix}"

    def per_layer(self, suffix: str) -> tuple[int, ...] | None:
        """An architecture key that holds one integer (or bool) per layer, or one for all, spelled out per layer."""
        value = self.metadata.get(self.arch_key(suffix))
        if isinstance(value, tuple):  # models whose layers differ, such as hybrids, have an entry per layer
            return tuple(int(item) for item in value if isinstance(item, int))
        # The layer count comes from the file too: a wild one must not make a tuple of billions.
        every, layers = _integer(value), self.block_count
        if every is None or layers is None or not 0 <= layers <= _MAX_LAYERS:
            return None
        return (every,) * layers

    @property
    def architecture(self) -> str | None:
        """ "llama", "qwen2", …"""
        return self.text("general.architecture")

    @property
    def name(self) -> str | None:
        """The name its maker gave the model."""
        return self.text("general.name")

    @property
    def size_label(self) -> str | None:
        """ "7B", "8x7B", …, as its maker says."""
        return self.text("general.size_label")

    @property
    def context_length(self) -> int | None:
        """The declared context length, in tokens."""
        return self.integer(self.arch_key("context_length"))

    @property
    def block_count(self) -> int | None:
        """Number of layers."""
        return self.integer(self.arch_key("block_count"))

    @property
    def embedding_length(self) -> int | None:
        """Width of the model."""
        return self.integer(self.arch_key("embedding_length"))

    @property
    def vocabulary_size(self) -> int | None:
        """Number of tokens."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, ArrayInfo):
            return tokens.count
        return len(tokens) if isinstance(tokens, tuple) else self.integer(self.arch_key("vocab_size"))

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that turns messages into a prompt."""
        return self.text("tokenizer.chat_template")

    @property
    def quantization(self) -> str | None:
        """ "Q4_K_M", …: as the file says, else the tensor type that holds the most values."""
        file_type = self.integer("general.file_type")
        if file_type is not None and (declared := FILE_TYPES.get(file_type & ~FILE_TYPE_GUESSED)):
            return declared
        # By values, not by tensors: the many small norms of a quantized model are F32.
        values: Counter[str] = Counter()
        for tensor in self.tensors:
            values[tensor.type_name or ""] += prod(tensor.shape)
        return (values.most_common(1)[0][0] or None) if values else None

    @property
    def parameter_count(self) -> int:
        """Values in this file's tensors; a shard counts its own only."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def is_embedding(self) -> bool:
        """Whether it makes embeddings, not text: by architecture, or because it pools its outputs."""
        # Some decoders were converted to embed; only their pooling type tells them from those that write.
        pooling = self.integer(self.arch_key("pooling_type"))
        return self.architecture in EMBEDDING_ARCHITECTURES or (pooling is not None and pooling > _GENERATES_TEXT)

    @property
    def is_projector(self) -> bool:
        """Whether it is a vision or audio companion (mmproj) of another model."""
        return self.architecture in PROJECTOR_ARCHITECTURES or self.text("general.type") == "mmproj"

    @property
    def shard_count(self) -> int:
        """How many files the model is split into, by the header."""
        return max(1, self.integer("split.count") or 1)

    @property
    def tensor_data_bytes(self) -> int:
        """Bytes from `data_offset` to the end of the last tensor whose size is known."""
        return max((tensor.offset + (tensor.size_bytes or 0) for tensor in self.tensors), default=0)

    @property
    def missing_bytes(self) -> int:
        """How much tensor data the header announces beyond the end of the file; 0 for a complete file."""
        return max(0, self.data_offset + self.tensor_data_bytes - self.file_size_bytes) if self.tensors else 0

    def check_tensor_data(self) -> None:
        """Raise `GgufError` when the file ends before its tensor data does."""
        if self.missing_bytes:
            raise GgufError(
                f"{self.path}: {self.missing_bytes:,} bytes of tensor data are missing after byte "
                f"{self.file_size_bytes}: the file is incomplete; download it again"
            )


def _integer(value: GgufValue | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
