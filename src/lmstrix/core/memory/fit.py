"""What a load takes in total and by part, and the longest context that fits a budget. Pure.

Weights, cache and state are exact; the compute buffer and the runtime's own memory are estimates (the residuals are in
the docstrings), which is why the context search treats the sum as a belief and not as a fact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

from lmstrix.core.memory.kv_cache import (
    PHYSICAL_BATCH_TOKENS,
    cells,
    kv_cache_bytes,
    recurrent_state_bytes,
    sliding_cells,
)
from lmstrix.core.memory.mlx import prefill_bytes
from lmstrix.core.memory.runtime import LLAMA_CPP, Runtime
from lmstrix.ground.context_lengths import longest_aligned_below

if TYPE_CHECKING:
    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.ground.choices import CacheType

__all__ = [
    "LoadBreakdown",
    "LoadTerms",
    "compute_buffer_bytes",
    "load_breakdown",
    "load_bytes",
    "longest_context",
]

_INPUT_ELEMENTS = 11
"""Token, position and cache index of each token of a batch, in f32 elements."""
_CONVOLUTION_WINDOW = 3
"""Earlier inputs that a convolution over four tokens keeps for each sequence."""
_DELTA_NET_ROOM = 8
"""The widest inputs, over the width of the model, for which the third set fits into rows that are free."""
_PROJECTOR_RUNTIME_FACTOR = 1.35
"""A projector's memory over its file size: weights and the buffers of one image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBreakdown:
    """What a load takes, in bytes. `checkpoint_bytes` come only with use, in main memory whatever holds the rest.

    Of all the other parts together, `touched_later_bytes` are only taken once a long prompt is read; a `lazy` cache
    means all that comes with the context.
    """

    weights_bytes: int
    kv_cache_bytes: int
    recurrent_state_bytes: int
    compute_buffer_bytes: int
    projector_bytes: int
    runtime_overhead_bytes: int
    checkpoint_bytes: int = 0
    touched_later_bytes: int = 0
    approximate: bool = False
    lazy: bool = False

    @property
    def context_bytes(self) -> int:
        """The part that comes with the context: cache, state and compute buffer."""
        return self.kv_cache_bytes + self.recurrent_state_bytes + self.compute_buffer_bytes

    @property
    def loaded_bytes(self) -> int:
        """What the model takes with its context full, before checkpoints have piled up."""
        return self.weights_bytes + self.projector_bytes + self.runtime_overhead_bytes + self.context_bytes

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.loaded_bytes + self.checkpoint_bytes


def compute_buffer_bytes(
    shape: ModelShape,
    context_length: int,
    *,
    ubatch: int = PHYSICAL_BATCH_TOKENS,
    slots: int = 1,
    flash_attention: bool = True,
    unified: bool = True,
    outputs: int | None = None,
) -> int:
    """Bytes of scratch memory that llama.cpp reserves for one batch of `ubatch` tokens at full context.

    For each token of the batch, in f32 elements: the residual stream (5 * n_embd), the attention mask (half an
    element per cell), and the widest step of a layer (queries, feed-forward, experts, recurrent state). Without flash
    attention the mask is twice that and the scores of every head (n_head * cells) are a step too. `outputs` tokens get
    logits: one per slot unless the caller wants more.

    Source: fitted to the buffers llama.cpp (build 11549) reports on a CPU, over twelve classes of architecture, the
    true widths of 27 models, 1k to 32k cells, batches of 64 to 2048 and 1 to 8 slots. With flash attention within 0.3 %
    for dense, sliding and expert layers, 13 % elsewhere and then high rather than low; without it within 7 % (16 % low
    for latent attention in batches under 256). Delta nets: within 1 % for one sequence in batches of 512. On a GPU
    about the same lies in device memory.
    """
    if shape.lazy:
        return prefill_bytes(shape, context_length)
    batch = min(ubatch, context_length)  # llama.cpp never reserves for more tokens than the context holds
    attended = cells(context_length, slots=slots, unified=unified) if shape.full.count else 0
    masked = attended
    if shape.sliding.count:
        window_cells = sliding_cells(shape, context_length, slots=slots, unified=unified, ubatch=ubatch)
        attended, masked = max(attended, window_cells), masked + window_cells
    # Encoders attend to the batch itself.
    if not shape.has_cache:
        attended = masked = batch
    slots = max(1, slots)
    # Of the residual stream's five rows one is left when logits are made.
    largest = (slots if outputs is None else outputs) * shape.n_vocab - 4 * batch * shape.n_embd
    for step in shape.steps:
        largest = max(largest, batch * step.per_token + slots * step.per_sequence)
    largest = max(largest, _delta_net_elements(shape, batch, slots))
    per_token = shape.residual_width + _INPUT_ELEMENTS
    # Elements are f32, 4 bytes; only the mask of flash attention is f16.
    if flash_attention:
        return 4 * (max(largest, batch * shape.attention_width) + batch * per_token) + 2 * batch * masked
    largest = max(largest, batch * (shape.unfused_attention_width + shape.n_head * attended))
    return 4 * (largest + batch * (per_token + 2 * shape.v_width_max + masked))


def _delta_net_elements(shape: ModelShape, batch: int, slots: int) -> int:
    """What the widest step of a gated delta net holds at once, in elements, beside the residual stream.

    Three sets of convolved inputs; or two and the state of each sequence, when the rows of the residual stream that are
    free by then have room for the rest. In batches too small for either the state dominates, with its copies.
    """
    if shape.delta_net is None:
        return 0
    convolved, states = batch * shape.delta_net.convolved, slots * shape.delta_net.state
    if batch * shape.n_embd >= max(convolved // _DELTA_NET_ROOM, states):
        return 2 * convolved + states
    windows = slots * _CONVOLUTION_WINDOW * shape.delta_net.convolved
    if 2 * states <= convolved:
        return 3 * convolved + windows
    return 2 * convolved + 3 * states + windows


class LoadTerms(TypedDict, total=False):
    """How a model is loaded, as far as memory is concerned; the defaults are those of `load_breakdown`."""

    k_type: CacheType
    v_type: CacheType
    slots: int
    unified: bool
    ubatch: int
    flash_attention: bool
    draft: bool
    runtime: Runtime


def load_breakdown(
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
    runtime: Runtime = LLAMA_CPP,
) -> LoadBreakdown:
    """What loading `shape` at `context_length` takes in a process of `runtime`, part by part."""
    state_bytes = recurrent_state_bytes(shape, slots=slots)
    compute_bytes = compute_buffer_bytes(
        shape, context_length, ubatch=ubatch, slots=slots, unified=unified, flash_attention=flash_attention
    )
    cache_bytes = kv_cache_bytes(
        shape,
        context_length,
        k_type=k_type,
        v_type=v_type,
        slots=slots,
        unified=unified,
        ubatch=ubatch,
        flash_attention=flash_attention,
        draft=draft,
    )
    batch = min(ubatch, context_length)
    touched_later_bytes = runtime.touched_later_bytes(shape, compute_bytes, batch=batch)
    return LoadBreakdown(
        weights_bytes=shape.file_bytes,
        kv_cache_bytes=cache_bytes,
        recurrent_state_bytes=state_bytes,
        compute_buffer_bytes=compute_bytes,
        projector_bytes=int(shape.mmproj_bytes * _PROJECTOR_RUNTIME_FACTOR),
        runtime_overhead_bytes=runtime.overhead_bytes(shape, batch=batch),
        # Copies of the state are llama.cpp's.
        checkpoint_bytes=0 if shape.lazy else runtime.context_checkpoints * state_bytes,
        touched_later_bytes=cache_bytes + state_bytes + compute_bytes if shape.lazy else touched_later_bytes,
        approximate=shape.approximate,
        lazy=shape.lazy,
    )


def load_bytes(shape: ModelShape, context_length: int, **options: Unpack[LoadTerms]) -> int:
    """Bytes a load takes: weights, cache, state, compute buffer, projector, the runtime's own; no checkpoints yet."""
    return load_breakdown(shape, context_length, **options).loaded_bytes


def longest_context(
    shape: ModelShape, budget_bytes: int, *, ceiling: int | None = None, **options: Unpack[LoadTerms]
) -> int:
    """The longest context, a multiple of 256 or `ceiling` itself, whose `load_bytes` stays within `budget_bytes`.

    `ceiling` defaults to the declared context length. 0 when not even 256 tokens fit.
    """
    ceiling = shape.context_length if ceiling is None else ceiling

    def fits(length: int) -> bool:
        return load_bytes(shape, length, **options) <= budget_bytes

    # The ceiling itself first: it may be used although it is not a multiple of 256.
    if ceiling > 0 and fits(ceiling):
        return ceiling
    return longest_aligned_below(ceiling, fits)
