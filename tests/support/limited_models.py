"""Small models whose cache is most of what they take, one per architecture class: what a memory limit is tested with.

With a cache in f32 a token takes 11 to 16 KiB, so that 256 tokens are far more than what two equal loads differ by,
and a context of 8,192 is read in seconds on one core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.memory.prediction import breakdown
from lmstrix.core.memory.runtime import EMBEDDED
from lmstrix.core.memory.shape import ModelShape, shape_from_metadata
from lmstrix.ground.loads import LoadConfig
from lmstrix.loaders.gguf import read_header
from tests.support.tiny_gguf import TinyShape, write_tiny

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DECLARED = 8192
LOAD = LoadConfig(context_length=None, k_cache_type="f32", v_cache_type="f32")
"""Twice the memory of the default for the same reading time."""
_COMMON = {
    "context_length": DECLARED,
    "vocab_size": 512,
    "n_heads": 4,
    "n_kv_heads": 4,
    "width": 128,
    "feed_forward": 64,
}
CLASSES: dict[str, tuple[str, dict[str, int]]] = {
    "dense": ("llama", {"n_layers": 4, "head_dim": 128}),
    # Every second layer, not every sixth: in so short a context the windows would be most of the cache.
    "sliding window": ("gemma2", {"n_layers": 4, "head_dim": 256, "sliding_window": 256}),
    # All heads share one cache, so each further one would cost time and take no memory.
    "MLA": ("deepseek2", {"n_layers": 5, "n_heads": 1, "head_dim": 64, "kv_lora_rank": 512, "rope_dims": 64}),
    "linear hybrid": ("qwen35", {"n_layers": 4, "head_dim": 512, "state_size": 64}),
    "Mamba2 hybrid": ("granitehybrid", {"n_layers": 2, "head_dim": 512, "state_size": 64}),
}
"""The architecture and the dimensions of each class's model."""


class LimitedModel:
    """One of them in a models directory: its key, its file and what the memory model says of it."""

    def __init__(self, model_key: str, architecture: str, file: Path, path: str) -> None:
        self.model_key = model_key
        self.architecture = architecture
        self.path = path
        self.file_bytes = file.stat().st_size
        header = read_header(file)
        self.shape: ModelShape = shape_from_metadata(
            header.metadata, file_bytes=self.file_bytes, n_vocab=header.vocabulary_size
        )

    def touched_later_bytes(self, length: int) -> int:
        """What of that a load takes only once it is filled."""
        return breakdown(self.shape, length, LOAD, runtime=EMBEDDED).touched_later_bytes

    def predicted_bytes(self, length: int) -> int:
        """What the memory model expects of a load."""
        return breakdown(self.shape, length, LOAD, runtime=EMBEDDED).loaded_bytes


def put_models(models_dir: Path, classes: Iterable[str]) -> dict[str, LimitedModel]:
    """Write the models of these classes where an engine finds them."""
    placed = {}
    for name in classes:
        architecture, dimensions = CLASSES[name]
        path = f"acme/{architecture}-GGUF/{architecture}-f16.gguf"
        file = models_dir / path
        file.parent.mkdir(parents=True)
        shape = TinyShape(**{**_COMMON, **dimensions})
        write_tiny(file, architecture, shape)
        placed[name] = LimitedModel(architecture, architecture, file, path)
    return placed
