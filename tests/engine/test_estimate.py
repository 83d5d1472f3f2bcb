"""The memory limit: well defined, monotone, and worded as clients expect."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.memory.fit import longest_context
from lmstrix.core.memory.kv_cache import kv_cache_bytes
from lmstrix.core.memory.runtime import EMBEDDED
from lmstrix.core.memory.shape import ModelShape, shape_from_metadata
from lmstrix.engine.estimate import default_threads, estimate_load, guardrail_fault
from lmstrix.engine.records import LoadSettings
from lmstrix.ground.headroom import Headroom
from lmstrix.loaders.gguf import read_header
from tests.support.tiny_gguf import tiny_model

MIB = 2**20


@pytest.fixture(scope="module")
def shape() -> ModelShape:
    header = read_header(tiny_model(context_length=131072))
    return shape_from_metadata(header.metadata, file_bytes=header.file_size_bytes, n_vocab=header.vocabulary_size)


def passes(shape: ModelShape, context_length: int, limit_bytes: int, in_use_bytes: int = 0) -> bool:
    settings = LoadSettings(context_length=context_length)
    return estimate_load(shape, settings, limit_bytes=limit_bytes, in_use_bytes=in_use_bytes).passes_guardrails


@given(limit_mib=st.integers(90, 400), more=st.integers(0, 50))
def test_there_is_one_longest_context_and_it_grows_with_the_limit(shape: ModelShape, limit_mib: int, more: int) -> None:
    longest = longest_context(shape, limit_mib * MIB, runtime=EMBEDDED)
    if longest:
        assert passes(shape, longest, limit_mib * MIB)
    if longest < shape.context_length:
        assert not passes(shape, longest + 256, limit_mib * MIB)
    assert longest_context(shape, (limit_mib + more) * MIB, runtime=EMBEDDED) >= longest


@given(short=st.integers(1, 131072), long=st.integers(1, 131072), in_use_mib=st.integers(0, 100))
def test_what_passes_at_a_length_passes_at_every_shorter_one(
    shape: ModelShape, short: int, long: int, in_use_mib: int
) -> None:
    short, long = sorted((short, long))
    if passes(shape, long, 200 * MIB, in_use_mib * MIB):
        assert passes(shape, short, 200 * MIB, in_use_mib * MIB)


def test_the_parts_make_the_whole(shape: ModelShape) -> None:
    estimate = estimate_load(shape, LoadSettings(context_length=4096), limit_bytes=None, in_use_bytes=0)
    assert estimate.total_bytes == estimate.model_bytes + estimate.context_bytes
    assert estimate.confidence == "high"
    quantized = LoadSettings(context_length=4096, k_cache_type="q8_0", v_cache_type="q8_0")
    smaller = estimate_load(shape, quantized, limit_bytes=None, in_use_bytes=0)
    assert smaller.context_bytes < estimate.context_bytes


def test_slots_that_share_no_cache_have_the_whole_context_each(shape: ModelShape) -> None:
    def context_bytes(*, slots: int, unified: bool) -> int:
        settings = LoadSettings(context_length=8192, parallel_slots=slots, unified_kv=unified)
        return estimate_load(shape, settings, limit_bytes=None, in_use_bytes=0).context_bytes

    shared, apart = (context_bytes(slots=4, unified=unified) for unified in (True, False))
    assert apart > shared + 2.9 * kv_cache_bytes(shape, 8192)


def test_without_a_limit_the_host_is_one(shape: ModelShape) -> None:
    monster = LoadSettings(context_length=10**12)
    assert not estimate_load(shape, monster, limit_bytes=None, in_use_bytes=0).passes_guardrails


def test_the_refusal_names_the_memory_needed(shape: ModelShape) -> None:
    estimate = estimate_load(shape, LoadSettings(context_length=131072), limit_bytes=1, in_use_bytes=0)
    fault = guardrail_fault(estimate)
    match = re.search(r"requires approximately (\d+\.\d\d) GB of memory", fault.title)
    assert match is not None
    assert float(match[1]) == pytest.approx(estimate.total_bytes / 1e9, abs=0.01)
    assert fault.kind == "refused"


def test_tiny_models_get_one_thread() -> None:
    assert default_threads(1 * MIB) == 1
    assert default_threads(10**10) >= 1


def test_what_is_to_stay_free_passes_not(shape: ModelShape) -> None:
    def passes_beside(headroom: Headroom) -> bool:
        settings = LoadSettings(context_length=4096)
        needed = estimate_load(shape, settings, limit_bytes=None, in_use_bytes=0).total_bytes
        estimate = estimate_load(shape, settings, limit_bytes=2 * needed, in_use_bytes=0, headroom=headroom)
        return estimate.passes_guardrails

    assert passes_beside(Headroom(free_ratio=0.5))
    assert not passes_beside(Headroom(free_ratio=0.51))
