"""What a load will take and how long a context fits, by arithmetic, beside what the server itself estimates."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lmstrix.core.memory.estimate import EstimateReport
from lmstrix.core.memory.fit import LoadBreakdown, load_breakdown, longest_context
from lmstrix.core.memory.host import read_host_memory
from lmstrix.core.memory.kv_cache import kv_cache_bytes
from lmstrix.core.memory.shape import ModelShape, shape_from_listing, shape_from_metadata
from lmstrix.ground.context_lengths import ALIGNMENT_TOKENS, UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import GgufError, LMStrixError, UsageError
from lmstrix.loaders.gguf import read_header

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.registry.registry import ModelRecord
    from lmstrix.ground.types import LoadConfig
    from lmstrix.service.facade import LMStrixService


def estimate(service: LMStrixService, model: str, load: LoadConfig) -> EstimateReport:
    """Bytes by part at `load.context_length` (default: declared), the limit that fits, the server's own estimate."""
    from dataclasses import replace

    record = service.find(model)
    declared = record.max_context_length or UNKNOWN_DECLARED_TOKENS
    length = load.context_length or declared
    if length > declared:
        raise UsageError(f"{record.model_key} declares {declared:,} tokens; --ctx {length:,} is beyond that")
    shape = shape_of(service.models_dir, record)
    budget = read_host_memory().model_budget_bytes
    server_name = server_estimate = None
    with suppress(LMStrixError):
        connection = service.running_connection()
        server_name = connection.name
        server_estimate = connection.backend.estimate(record.model_key, replace(load, context_length=length))
    step = 16 * ALIGNMENT_TOKENS
    return EstimateReport(
        record=record,
        context_length=length,
        breakdown=breakdown(shape, length, load),
        budget_bytes=budget,
        predicted_limit=predicted_limit(shape, budget, declared, load),
        kv_bytes_per_token=(_kv(shape, length + step, load) - _kv(shape, length, load)) / step,
        server_name=server_name,
        server_estimate=server_estimate,
    )


def breakdown(shape: ModelShape, context_length: int, load: LoadConfig) -> LoadBreakdown:
    """What a load with these settings takes, part by part."""
    return load_breakdown(
        shape,
        context_length,
        k_type=load.k_cache_type or "f16",
        v_type=load.v_cache_type or "f16",
        slots=load.parallel_slots,
        unified=load.unified_kv is not False,
        flash_attention=load.flash_attention is not False,
    )


def predicted_limit(shape: ModelShape, budget_bytes: int, ceiling: int, load: LoadConfig) -> int:
    """The longest context up to `ceiling` that these settings fit into `budget_bytes`."""
    return longest_context(
        shape,
        budget_bytes,
        ceiling=ceiling,
        k_type=load.k_cache_type or "f16",
        v_type=load.v_cache_type or "f16",
        slots=load.parallel_slots,
        unified=load.unified_kv is not False,
        flash_attention=load.flash_attention is not False,
    )


def shape_of(models_dir: Path, record: ModelRecord) -> ModelShape:
    """The model's shape from its file where we can read it, else a cautious one from what the server tells."""
    file = models_dir / record.file
    if file.is_file():
        with suppress(GgufError):
            header = read_header(file)
            file_bytes = record.size_bytes or header.file_size_bytes
            return shape_from_metadata(header.metadata, file_bytes=file_bytes, n_vocab=header.vocabulary_size)
    return shape_from_listing(
        size_bytes=record.size_bytes or 0,
        max_context_length=record.max_context_length or UNKNOWN_DECLARED_TOKENS,
        architecture=record.architecture,
    )


def _kv(shape: ModelShape, context_length: int, load: LoadConfig) -> int:
    return kv_cache_bytes(shape, context_length, k_type=load.k_cache_type or "f16", v_type=load.v_cache_type or "f16")
