"""What a load takes in all, by part, and the longest context that fits a budget. Pure.

Weights, cache and state are exact; the compute buffer and the runtime's own memory are estimates (the residuals are in
the docstrings), which is why the context search treats the sum as a belief and not as a fact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.memory.kv_cache import CELL_PADDING, cells, kv_cache_bytes, padded, recurrent_state_bytes

if TYPE_CHECKING:
    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.types import CacheType

__all__ = ["LoadBreakdown", "compute_buffer_bytes", "load_breakdown", "load_bytes", "longest_context"]

RUNTIME_OVERHEAD_BYTES = 96 * 2**20
"""What a process that has loaded a model holds beside weights, cache and buffers: code, stacks, vocabulary, arenas."""
_PROJECTOR_RUNTIME_FACTOR = 1.35
"""A projector's memory over its file size: weights and the buffers of one image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBreakdown:
    """What a load takes, in bytes."""

    weights_bytes: int
    kv_cache_bytes: int
    recurrent_state_bytes: int
    compute_buffer_bytes: int
    projector_bytes: int
    runtime_overhead_bytes: int
    approximate: bool = False

    @property
    def context_bytes(self) -> int:
        """The part that comes with the context: cache, state and compute buffer."""
        return self.kv_cache_bytes + self.recurrent_state_bytes + self.compute_buffer_bytes

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.projector_bytes + self.runtime_overhead_bytes + self.context_bytes


def compute_buffer_bytes(
    shape: ModelShape,
    context_length: int,
    *,
    ubatch: int = 512,
    slots: int = 1,
    flash_attention: bool = True,
    unified: bool = True,
) -> int:
    """Bytes of scratch memory for one batch of `ubatch` tokens at full context.

    Activations 16 * n_embd * ubatch, logits 4 * n_vocab * ubatch, attention mask 2 * N * ubatch; without flash
    attention the scores as well, 4 * N * ubatch * n_head.
    """
    n_cells = cells(context_length, slots=slots, unified=unified)
    batch = min(ubatch, padded(context_length))
    per_token = 16 * shape.n_embd + 4 * shape.n_vocab + 2 * n_cells
    if not flash_attention:
        per_token += 4 * n_cells * (shape.n_head + 1) - 2 * n_cells
    return batch * per_token


def load_breakdown(
    shape: ModelShape,
    context_length: int,
    *,
    k_type: CacheType = "f16",
    v_type: CacheType = "f16",
    slots: int = 1,
    unified: bool = True,
    ubatch: int = 512,
    flash_attention: bool = True,
    runtime_overhead_bytes: int = RUNTIME_OVERHEAD_BYTES,
) -> LoadBreakdown:
    """What loading `shape` at `context_length` takes, part by part."""
    return LoadBreakdown(
        weights_bytes=shape.file_bytes,
        kv_cache_bytes=kv_cache_bytes(
            shape,
            context_length,
            k_type=k_type,
            v_type=v_type,
            slots=slots,
            unified=unified,
            ubatch=ubatch,
            flash_attention=flash_attention,
        ),
        recurrent_state_bytes=recurrent_state_bytes(shape, slots=slots),
        compute_buffer_bytes=compute_buffer_bytes(
            shape, context_length, ubatch=ubatch, slots=slots, unified=unified, flash_attention=flash_attention
        ),
        projector_bytes=int(shape.mmproj_bytes * _PROJECTOR_RUNTIME_FACTOR),
        runtime_overhead_bytes=runtime_overhead_bytes,
        approximate=shape.approximate,
    )


def load_bytes(
    shape: ModelShape,
    context_length: int,
    *,
    k_type: CacheType = "f16",
    v_type: CacheType = "f16",
    slots: int = 1,
    unified: bool = True,
    ubatch: int = 512,
    flash_attention: bool = True,
    runtime_overhead_bytes: int = RUNTIME_OVERHEAD_BYTES,
) -> int:
    """Bytes a load takes in all: weights, cache, state, compute buffer, projector and the runtime's own."""
    return load_breakdown(
        shape,
        context_length,
        k_type=k_type,
        v_type=v_type,
        slots=slots,
        unified=unified,
        ubatch=ubatch,
        flash_attention=flash_attention,
        runtime_overhead_bytes=runtime_overhead_bytes,
    ).total_bytes


def longest_context(
    shape: ModelShape,
    budget_bytes: int,
    *,
    ceiling: int | None = None,
    k_type: CacheType = "f16",
    v_type: CacheType = "f16",
    slots: int = 1,
    unified: bool = True,
    ubatch: int = 512,
    flash_attention: bool = True,
    runtime_overhead_bytes: int = RUNTIME_OVERHEAD_BYTES,
) -> int:
    """The longest context, a multiple of 256 or `ceiling` itself, whose `load_bytes` stays within `budget_bytes`.

    `ceiling` defaults to the declared context length. 0 when not even 256 tokens fit.
    """
    ceiling = shape.context_length if ceiling is None else ceiling

    def fits(context_length: int) -> bool:
        return (
            load_bytes(
                shape,
                context_length,
                k_type=k_type,
                v_type=v_type,
                slots=slots,
                unified=unified,
                ubatch=ubatch,
                flash_attention=flash_attention,
                runtime_overhead_bytes=runtime_overhead_bytes,
            )
            <= budget_bytes
        )

    if ceiling > 0 and fits(ceiling):
        return ceiling
    good, bad = 0, -(-ceiling // CELL_PADDING)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle * CELL_PADDING) else (good, middle)
    return good * CELL_PADDING
