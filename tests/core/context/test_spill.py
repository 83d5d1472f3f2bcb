"""A cliff in speed is told from the fall that every model has with its context."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.context.spill import SpeedReading, find_spill
from lmstrix.core.memory.decode_work import decode_work_bytes
from lmstrix.core.memory.shape import CacheLayers, ModelShape, shape_from_listing, shape_from_metadata
from tests.support.fleet import fleet_shapes

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
GIB = 2**30
_BANDWIDTH = 400e9


def readings(seconds: dict[int, float]) -> list[SpeedReading]:
    return [SpeedReading(length, 1 / seconds[length]) for length in seconds]


def spills(seconds: dict[int, float], shape: ModelShape) -> bool:
    """Whether any length shows a spill beside those before it."""
    speeds = readings(seconds)
    return any(
        find_spill(speed, speeds[:index], lambda n: decode_work_bytes(shape, n)) is not None
        for index, speed in enumerate(speeds)
    )


@given(
    name=st.sampled_from(sorted(fleet_shapes())),
    overhead_s=st.floats(0, 0.5),
    attention_ratio=st.floats(0.5, 20),
    noise=st.lists(st.floats(0.85, 1.15), min_size=len(LENGTHS), max_size=len(LENGTHS)),
)
def test_what_attention_costs_is_no_spill(
    name: str, overhead_s: float, attention_ratio: float, noise: list[float]
) -> None:
    """However slow attention is beside reading weights, within reason, and whether or not heads share reads."""
    shape = fleet_shapes()[name]
    weights = decode_work_bytes(shape, 0)
    seconds = {
        n: factor * (overhead_s + (weights + (decode_work_bytes(shape, n) - weights) / attention_ratio) / _BANDWIDTH)
        for n, factor in zip(LENGTHS, noise, strict=True)
    }
    assert not spills(seconds, shape)


@given(
    slope_s=st.floats(0, 1),
    constant_s=st.floats(1e-4, 1),
    size=st.integers(10**6, 10**12),
)
def test_of_a_guessed_model_no_fall_in_proportion_to_the_length_is_one(
    slope_s: float, constant_s: float, size: int
) -> None:
    guessed = shape_from_listing(size_bytes=size, max_context_length=131072)
    assert not spills({n: constant_s + slope_s * n for n in LENGTHS}, guessed)


@given(cliff=st.sampled_from(LENGTHS[2:]), slower=st.floats(15, 500), name=st.sampled_from(sorted(fleet_shapes())))
def test_a_cliff_is_found_at_its_length(cliff: int, slower: float, name: str) -> None:
    """Swapping: from one length to the next, tokens take many times as long."""
    shape = fleet_shapes()[name]
    seconds = {n: decode_work_bytes(shape, n) / _BANDWIDTH * (slower if n >= cliff else 1) for n in LENGTHS}
    speeds = readings(seconds)
    found = [
        speed.prompt_tokens
        for index, speed in enumerate(speeds)
        if find_spill(speed, speeds[:index], lambda n: decode_work_bytes(shape, n))
    ]
    assert found == [n for n in LENGTHS if n >= cliff]


def test_a_cache_behind_the_bus_is_found() -> None:
    """An 8B model of 5 GB whose cache lies in main memory: 400 GB/s for the weights, 12 GB/s for the cache."""
    shape = fleet_shapes()["Llama 3.1 8B Instruct"]
    shared = 2 * (shape.full.k_width + shape.full.v_width)
    seconds = {n: shape.file_bytes / _BANDWIDTH + shared * n / 12e9 for n in LENGTHS}
    assert spills(seconds, shape)
    assert not spills({n: (shape.file_bytes + shared * n) / _BANDWIDTH for n in LENGTHS}, shape)


def test_the_words_name_both_lengths() -> None:
    fast, slow = SpeedReading(2048, 40.0), SpeedReading(32768, 2.13)
    spill = find_spill(slow, [SpeedReading(4096, 20.0), fast], lambda _: 1.0)
    assert str(spill) == "memory spilled: 2.13 tokens/s at 32,768 instead of 40 at 2,048"


@pytest.mark.parametrize("fast", [SpeedReading(65536, 100.0), SpeedReading(32768, 100.0)])
def test_only_shorter_lengths_say_what_to_expect(fast: SpeedReading) -> None:
    assert find_spill(SpeedReading(32768, 1.0), [fast], lambda _: 1.0) is None
    assert find_spill(SpeedReading(32768, 1.0), [], lambda _: 1.0) is None


def test_experts_that_a_token_does_not_pass_are_not_read() -> None:
    dense = ModelShape(
        architecture="x",
        n_layers=2,
        n_embd=64,
        n_vocab=100,
        n_head=4,
        context_length=8192,
        full=CacheLayers(count=2, k_width=64, v_width=64),
        attention_width=128,
        file_bytes=GIB,
    )
    assert decode_work_bytes(dense, 1000) == GIB + 2 * 2 * 128 * 1000
    assert decode_work_bytes(replace(dense, expert_share=8 / 256), 0) == GIB / 32


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        ({}, 1.0),
        ({"expert_count": 256, "expert_used_count": 8}, 8 / 256),
        ({"expert_count": 8}, 1 / 8),
        ({"expert_count": 4, "expert_used_count": 9}, 1.0),
        ({"expert_used_count": 8}, 0.0),
    ],
)
def test_the_share_of_experts_is_read_from_the_header(counts: dict[str, int], share: float) -> None:
    metadata = {"general.architecture": "qwen3moe", **{f"qwen3moe.{key}": value for key, value in counts.items()}}
    assert shape_from_metadata(metadata, file_bytes=GIB).expert_share == share
