"""Sums and inverses: what a load takes in all, and the longest context that fits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from hypothesis import assume, given
from hypothesis import strategies as st

from lmstrix.core.memory.fit import (
    compute_buffer_bytes,
    load_breakdown,
    load_bytes,
    longest_context,
)
from lmstrix.core.memory.kv_cache import kv_cache_bytes, recurrent_state_bytes
from lmstrix.core.memory.runtime import EMBEDDED, EMBEDDED_ADDRESS_SPACE, LLAMA_CPP, LM_STUDIO
from tests.support.fleet import fleet, fleet_shapes

if TYPE_CHECKING:
    from lmstrix.core.memory.shape import ModelShape

shapes = st.sampled_from([model.shape for model in fleet()])
lengths = st.integers(1, 300_000)
slot_counts = st.integers(1, 4)


@given(shapes, lengths, slot_counts, st.booleans(), st.booleans())
def test_the_parts_are_the_formulas_and_add_up(
    shape: ModelShape, length: int, slots: int, unified: bool, flash_attention: bool
) -> None:
    parts = load_breakdown(shape, length, slots=slots, unified=unified, flash_attention=flash_attention)
    assert parts.weights_bytes == shape.file_bytes
    assert parts.kv_cache_bytes == kv_cache_bytes(
        shape, length, slots=slots, unified=unified, flash_attention=flash_attention
    )
    assert parts.recurrent_state_bytes == recurrent_state_bytes(shape, slots=slots)
    assert parts.compute_buffer_bytes == compute_buffer_bytes(
        shape, length, slots=slots, unified=unified, flash_attention=flash_attention
    )
    assert parts.runtime_overhead_bytes == LLAMA_CPP.overhead_bytes(shape, batch=min(512, length))
    assert parts.checkpoint_bytes == 0
    whole = load_bytes(shape, length, slots=slots, unified=unified, flash_attention=flash_attention)
    assert parts.total_bytes == whole > shape.file_bytes + parts.context_bytes


@given(shapes, lengths, st.integers(1, 10_000), slot_counts, st.booleans())
def test_a_longer_context_never_takes_less(
    shape: ModelShape, length: int, more: int, slots: int, flash_attention: bool
) -> None:
    shorter = load_bytes(shape, length, slots=slots, flash_attention=flash_attention)
    assert shorter <= load_bytes(shape, length + more, slots=slots, flash_attention=flash_attention)


@given(shapes, st.floats(0.5, 3.0), slot_counts, st.booleans())
def test_longest_context_is_the_inverse_of_load_bytes(
    shape: ModelShape, room: float, slots: int, unified: bool
) -> None:
    budget = int(shape.file_bytes * room)
    longest = longest_context(shape, budget, slots=slots, unified=unified)
    assert 0 <= longest <= shape.context_length
    if longest:
        assert load_bytes(shape, longest, slots=slots, unified=unified) <= budget
    if longest < shape.context_length:
        assert longest % 256 == 0
        one_step_more = min(longest + 256, shape.context_length)
        assert load_bytes(shape, one_step_more, slots=slots, unified=unified) > budget


@given(shapes, st.integers(1, 200_000))
def test_longest_context_respects_a_ceiling(shape: ModelShape, ceiling: int) -> None:
    assert longest_context(shape, 2**50, ceiling=ceiling) == ceiling
    assert longest_context(shape, 0, ceiling=ceiling) == 0


@given(shapes, lengths)
def test_quantized_caches_leave_room_for_longer_contexts(shape: ModelShape, length: int) -> None:
    assume(length < shape.context_length)
    budget = load_bytes(shape, length)
    assert longest_context(shape, budget, k_type="q8_0", v_type="q8_0") >= longest_context(shape, budget)


def test_each_server_takes_what_its_own_process_takes() -> None:
    shape = fleet_shapes()["Llama 3.1 8B Instruct"]
    embedded = load_bytes(shape, 4_096, runtime=EMBEDDED)
    assert load_bytes(shape, 4_096) - embedded == LLAMA_CPP.base_bytes - EMBEDDED.base_bytes > 0


def test_the_graph_of_a_delta_net_grows_with_the_batch() -> None:
    shape = fleet_shapes()["Qwen3.5 9B"]
    half, whole = (EMBEDDED_ADDRESS_SPACE.overhead_bytes(shape, batch=batch) for batch in (512, 1024))
    assert whole - half == 40 * 512 * EMBEDDED_ADDRESS_SPACE.bytes_per_graph_node
    dense = fleet_shapes()["Llama 3.1 8B Instruct"]
    assert EMBEDDED.overhead_bytes(dense, batch=512) == EMBEDDED.overhead_bytes(dense, batch=1024)


def test_checkpoints_are_kept_of_recurrent_state_alone_and_for_every_slot() -> None:
    hybrid, dense = fleet_shapes()["Qwen3.5 35B-A3B"], fleet_shapes()["Llama 3.1 8B Instruct"]
    for slots in (1, 4):
        parts = load_breakdown(hybrid, 8_192, slots=slots, runtime=LM_STUDIO)
        assert parts.checkpoint_bytes == 32 * recurrent_state_bytes(hybrid) * slots
        assert parts.total_bytes == parts.loaded_bytes + parts.checkpoint_bytes
    assert load_breakdown(dense, 8_192, runtime=LM_STUDIO).checkpoint_bytes == 0


def test_flash_attention_spares_the_scores() -> None:
    shape = fleet_shapes()["Llama 3.3 70B Instruct"]
    fused = compute_buffer_bytes(shape, 131_072)
    assert fused < 2**29
    assert compute_buffer_bytes(shape, 131_072, flash_attention=False) > fused + 15 * 2**30


def test_a_projector_counts_more_than_its_file() -> None:
    shape = fleet_shapes()["Qwen3 VL 8B Instruct"]
    with_eyes = dataclasses.replace(shape, mmproj_bytes=1_100_000_000)
    assert load_bytes(with_eyes, 4_096) - load_bytes(shape, 4_096) == 1_485_000_000
