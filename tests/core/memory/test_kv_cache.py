"""Properties of the cache formulas that hold for every model."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.memory.kv_cache import cells, kv_cache_bytes, recurrent_state_bytes
from lmstrix.core.memory.shape import CacheLayers, ModelShape
from lmstrix.ground.choices import CacheType
from lmstrix.ground.context_lengths import aligned_up
from tests.support.fleet import fleet, fleet_shapes

CACHE_TYPES = get_args(CacheType)
shapes = st.sampled_from([model.shape for model in fleet()])
lengths = st.integers(1, 300_000)
slot_counts = st.integers(1, 8)
cache_types = st.sampled_from(CACHE_TYPES)


@given(shapes, lengths, st.integers(0, 10_000), cache_types, cache_types, slot_counts, st.booleans(), st.booleans())
def test_a_longer_context_never_takes_less(
    shape: ModelShape,
    length: int,
    more: int,
    k_type: CacheType,
    v_type: CacheType,
    slots: int,
    unified: bool,
    flash_attention: bool,
) -> None:
    def size(context_length: int) -> int:
        return kv_cache_bytes(
            shape,
            context_length,
            k_type=k_type,
            v_type=v_type,
            slots=slots,
            unified=unified,
            flash_attention=flash_attention,
        )

    assert size(length) <= size(length + more)


@given(shapes, lengths)
def test_full_and_sliding_layers_add_up(shape: ModelShape, length: int) -> None:
    only_full = dataclasses.replace(shape, sliding=CacheLayers())
    only_sliding = dataclasses.replace(shape, full=CacheLayers())
    parts = kv_cache_bytes(only_full, length) + kv_cache_bytes(only_sliding, length)
    assert kv_cache_bytes(shape, length) == parts


@given(shapes, lengths, st.integers(2, 4))
def test_twice_the_layers_take_twice_the_memory(shape: ModelShape, length: int, times: int) -> None:
    def repeated(layers: CacheLayers) -> CacheLayers:
        return CacheLayers(count=layers.count * times, k_width=layers.k_width * times, v_width=layers.v_width * times)

    taller = dataclasses.replace(shape, full=repeated(shape.full), sliding=repeated(shape.sliding))
    assert kv_cache_bytes(taller, length) == times * kv_cache_bytes(shape, length)


@given(shapes, lengths)
def test_cache_types_order_by_their_bits(shape: ModelShape, length: int) -> None:
    sizes = [kv_cache_bytes(shape, length, k_type=kind, v_type=kind) for kind in CACHE_TYPES]
    by_type = dict(zip(CACHE_TYPES, sizes, strict=True))
    order = ["f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
    assert [by_type[kind] for kind in order] == sorted((by_type[kind] for kind in order), reverse=True)
    assert by_type["bf16"] == by_type["f16"]
    assert by_type["iq4_nl"] == by_type["q4_0"] < by_type["q8_0"] < by_type["f16"]


@given(shapes, lengths, slot_counts)
def test_slots_of_their_own_take_no_less_than_a_shared_pool_in_full_layers(
    shape: ModelShape, length: int, slots: int
) -> None:
    full = dataclasses.replace(shape, sliding=CacheLayers())
    shared = kv_cache_bytes(full, length, slots=slots, unified=True)
    split = kv_cache_bytes(full, length, slots=slots, unified=False)
    assert shared == kv_cache_bytes(full, length)
    one_cell = full.full.k_width * 2 + full.full.v_width * 2
    assert abs(split - shared) <= slots * 256 * one_cell
    if aligned_up(length) % (slots * 256) == 0:
        assert split == shared


@given(shapes, lengths, slot_counts)
def test_sliding_layers_never_take_more_than_if_they_were_full(shape: ModelShape, length: int, slots: int) -> None:
    dense = dataclasses.replace(
        shape,
        full=CacheLayers(
            count=shape.full.count + shape.sliding.count,
            k_width=shape.full.k_width + shape.sliding.k_width,
            v_width=shape.full.v_width + shape.sliding.v_width,
        ),
        sliding=CacheLayers(),
    )
    for unified in (True, False):
        sliding = kv_cache_bytes(shape, length, slots=slots, unified=unified)
        assert sliding <= kv_cache_bytes(dense, length, slots=slots, unified=unified)


@given(shapes, lengths)
def test_without_flash_attention_values_are_padded_not_shrunk(shape: ModelShape, length: int) -> None:
    assert kv_cache_bytes(shape, length, flash_attention=False) >= kv_cache_bytes(shape, length)


@given(shapes, slot_counts)
def test_recurrent_state_is_one_copy_a_slot(shape: ModelShape, slots: int) -> None:
    assert recurrent_state_bytes(shape, slots=slots) == slots * recurrent_state_bytes(shape)


@pytest.mark.parametrize(("length", "slots", "expected"), [(8_192, 4, 2_048), (8_192, 3, 2_816), (100, 4, 256)])
def test_cells_of_a_slot_of_its_own(length: int, slots: int, expected: int) -> None:
    assert cells(length, slots=slots, unified=False) == expected
    assert cells(length, slots=slots, unified=True) == aligned_up(length)


def test_a_draft_context_has_the_layers_for_multi_token_prediction() -> None:
    shape = fleet_shapes()["GLM-4.5 Air 106B-A12B"]
    one_layer = kv_cache_bytes(shape, 4_096) // shape.full.count
    assert kv_cache_bytes(shape, 4_096, draft=True) == kv_cache_bytes(shape, 4_096) + one_layer
