"""Bytes of the key/value cache and of recurrent state, as llama.cpp allocates them, or MLX takes them. Pure and exact.

Sources: `llama_kv_cache`, `llama_kv_cache_iswa`, `llama_memory_recurrent` and the context-size rounding in
`llama_context` of llama.cpp. Checked against logged allocations and against llama.cpp itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.memory.mlx import window_cells as mlx_window_cells
from lmstrix.ground.context_lengths import aligned_up

if TYPE_CHECKING:
    from lmstrix.core.memory.shape import CacheLayers, ModelShape
    from lmstrix.ground.choices import CacheType

__all__ = ["PHYSICAL_BATCH_TOKENS", "cells", "kv_cache_bytes", "recurrent_state_bytes", "sliding_cells"]

_BYTES_PER_32_ELEMENTS: dict[str, int] = {
    "f32": 128,
    "f16": 64,
    "bf16": 64,
    "q8_0": 34,
    "q5_1": 24,
    "q5_0": 22,
    "q4_1": 20,
    "q4_0": 18,
    "iq4_nl": 18,
}

PHYSICAL_BATCH_TOKENS = 512
"""Tokens computed at once: the default of llama.cpp and of LM Studio (`llm.load.llama.physicalBatchSize`)."""


def cells(context_length: int, *, slots: int = 1, unified: bool = True) -> int:
    """Cells of one stream: all of them in one pool when `unified`, else each slot's share."""
    # llama.cpp rounds the whole context and then each share, so eight slots may cost more than one.
    total = aligned_up(context_length)
    return total if unified or slots <= 1 else aligned_up(total // slots)


def sliding_cells(
    shape: ModelShape, context_length: int, *, slots: int = 1, unified: bool = True, ubatch: int = PHYSICAL_BATCH_TOKENS
) -> int:
    """Cells of one stream in the sliding layers: window * (slots if unified else 1) + ubatch, no more than `cells`."""
    if shape.lazy:
        return mlx_window_cells(shape.sliding_window, context_length)
    # A shared pool must hold every slot's window, and the batch being written beside the cells it still reads.
    reach = shape.sliding_window * (max(1, slots) if unified else 1) + min(ubatch, context_length)
    return aligned_up(min(cells(context_length, slots=slots, unified=unified), reach))


def kv_cache_bytes(
    shape: ModelShape,
    context_length: int,
    *,
    k_type: CacheType = "f16",
    v_type: CacheType = "f16",
    slots: int = 1,
    unified: bool = True,
    ubatch: int = PHYSICAL_BATCH_TOKENS,
    flash_attention: bool = True,
    draft: bool = False,
) -> int:
    """Bytes of keys and values for a context of `context_length` tokens, shared (`unified`) or split between `slots`.

    cells * (K + V of the full layers) + sliding cells * (K + V of the sliding layers), for each stream. Without flash
    attention every value row is padded to the widest one. `draft` adds a draft context of the same length for the
    model's own multi-token prediction layers.
    """
    # Neither the types nor the padding are MLX's to choose.
    if shape.lazy:
        k_type, v_type, flash_attention = "f16", "f16", True
    streams = 1 if unified or slots <= 1 else slots
    stream_cells = cells(context_length, slots=slots, unified=unified)
    k_bytes, v_bytes = _BYTES_PER_32_ELEMENTS[k_type], _BYTES_PER_32_ELEMENTS[v_type]
    # Unfused attention reads values transposed, for which llama.cpp gives every layer the widest row.
    v_pad = 0 if flash_attention else shape.v_width_max
    total = stream_cells * _cell_bytes_32(shape.full, k_bytes, v_bytes, v_pad)
    if draft:
        total += stream_cells * _cell_bytes_32(shape.draft, k_bytes, v_bytes, v_pad)
    if shape.sliding.count:
        window_cells = sliding_cells(shape, context_length, slots=slots, unified=unified, ubatch=ubatch)
        total += window_cells * _cell_bytes_32(shape.sliding, k_bytes, v_bytes, v_pad)
    return streams * total // 32


def _cell_bytes_32(layers: CacheLayers, k_bytes: int, v_bytes: int, v_pad: int) -> int:
    """Bytes of one cell in all `layers`, times 32."""
    v_width = v_pad * layers.count if v_pad and layers.v_width else layers.v_width
    return layers.k_width * k_bytes + v_width * v_bytes


def recurrent_state_bytes(shape: ModelShape, *, slots: int = 1) -> int:
    """Bytes of state in the recurrent layers: always f32, one copy per slot, whatever the context length."""
    return shape.recurrent_state_elements * 4 * max(1, slots)
