"""What a load with given settings will take, and which length fits: the memory formulas for a LoadConfig."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from lmstrix.core.memory.fit import LoadBreakdown, LoadTerms, load_breakdown, longest_context
from lmstrix.core.memory.kv_cache import PHYSICAL_BATCH_TOKENS, kv_cache_bytes
from lmstrix.core.memory.runtime import LM_STUDIO, Runtime
from lmstrix.core.memory.shape import ModelShape, shape_from_listing, shape_from_metadata
from lmstrix.ground.context_lengths import ALIGNMENT_TOKENS, UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import GgufError, MlxError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.loads import LoadConfig

_STEP_TOKENS = 16 * ALIGNMENT_TOKENS


class ShapeHeader(Protocol):
    """What a shape needs of a parsed header, of a GGUF file or of a folder with an MLX model."""

    @property
    def metadata(self) -> Mapping[str, object]: ...
    @property
    def file_size_bytes(self) -> int: ...
    @property
    def vocabulary_size(self) -> int | None: ...


def shape_of(path: Path, record: ModelRecord, read_header: Callable[[Path], ShapeHeader]) -> ModelShape:
    """The model's shape from its file or folder at `path`, else a cautious one from what the registry knows."""
    # What we cannot read may still load: the server knows formats we do not.
    with suppress(GgufError, MlxError):
        if path.is_file():
            header = read_header(path)
            # The record counts all files of a split model, the header only the first.
            file_bytes = record.size_bytes or header.file_size_bytes
            return _shape(header, file_bytes, mmproj_bytes=record.projector_bytes or 0)
        if path.is_dir():
            header = read_header(path)
            shape = _shape(header, header.file_size_bytes)
            # A config.json may say nothing of the layers, and then a guess by size says more.
            if shape.n_layers and shape.n_embd:
                return shape
    return shape_from_listing(
        size_bytes=record.size_bytes or 0,
        max_context_length=record.max_context_length or UNKNOWN_DECLARED_TOKENS,
        architecture=record.architecture,
        lazy=record.format != "gguf",
    )


def _shape(header: ShapeHeader, file_bytes: int, *, mmproj_bytes: int = 0) -> ModelShape:
    return shape_from_metadata(
        header.metadata, file_bytes=file_bytes, mmproj_bytes=mmproj_bytes, n_vocab=header.vocabulary_size
    )


def breakdown(
    shape: ModelShape, context_length: int, load: LoadConfig, *, runtime: Runtime = LM_STUDIO
) -> LoadBreakdown:
    """What a load with these settings takes on a server of this `runtime`, part by part."""
    return load_breakdown(shape, context_length, **_options(load, runtime))


def predicted_limit(
    shape: ModelShape, budget_bytes: int, ceiling: int, load: LoadConfig, *, runtime: Runtime = LM_STUDIO
) -> int:
    """The longest context up to `ceiling` that these settings fit into `budget_bytes`."""
    return longest_context(shape, budget_bytes, ceiling=ceiling, **_options(load, runtime))


def kv_bytes_per_token(shape: ModelShape, context_length: int, load: LoadConfig) -> float:
    """By how much the cache grows with each token beyond `context_length`."""
    k_type, v_type = load.k_cache_type or "f16", load.v_cache_type or "f16"
    # Over several steps, because the cache grows by whole steps and not by tokens.
    longer = kv_cache_bytes(shape, context_length + _STEP_TOKENS, k_type=k_type, v_type=v_type)
    return (longer - kv_cache_bytes(shape, context_length, k_type=k_type, v_type=v_type)) / _STEP_TOKENS


def _options(load: LoadConfig, runtime: Runtime) -> LoadTerms:
    """The settings that memory depends on. What is left to the server counts as what LM Studio does on its own."""
    return {
        "k_type": load.k_cache_type or "f16",
        "v_type": load.v_cache_type or "f16",
        "slots": load.parallel_slots,
        "unified": load.unified_kv is not False,
        # The buffer is for the tokens computed at once: a longer batch is read in pieces of that size.
        "ubatch": min(load.eval_batch_size or PHYSICAL_BATCH_TOKENS, PHYSICAL_BATCH_TOKENS),
        "flash_attention": load.flash_attention is not False,
        "runtime": runtime,
    }
