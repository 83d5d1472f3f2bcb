"""What is unusual about a load: a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from lmstrix.core.answers.unusual_load import unusual
from lmstrix.ground.loads import DEFAULT_LOAD, LoadConfig

AS_USUAL = LoadConfig(
    context_length=4096,
    gpu_ratio=1.0,
    k_cache_type="f16",
    flash_attention=True,
    unified_kv=True,
    eval_batch_size=512,
    offload_kv_cache=True,
    rope_frequency_base=0.0,
    mmap=True,
    keep_in_memory=False,
    threads=4,
)


@pytest.mark.parametrize("load", [DEFAULT_LOAD, AS_USUAL, replace(AS_USUAL, context_length=256, eval_batch_size=256)])
def test_nothing_is_unusual_about_a_load_that_asks_for_nothing(load: LoadConfig) -> None:
    assert unusual(load, engine="embedded") == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"k_cache_type": "q8_0", "v_cache_type": "q4_0"}, ("K cache q8_0", "V cache q4_0")),
        ({"v_cache_type": "f32"}, ("V cache f32",)),
        ({"gpu_ratio": 0.5}, ("GPU share 50%",)),
        ({"gpu_ratio": 0.0}, ("GPU share 0%",)),
        ({"offload_kv_cache": False}, ("KV cache kept off the GPU",)),
        ({"eval_batch_size": 64}, ("batch of 64 tokens",)),
        ({"eval_batch_size": 2048}, ()),
        ({"parallel_slots": 4}, ()),
        ({"parallel_slots": 4, "unified_kv": False}, ("4 slots that divide its context",)),
        ({"rope_frequency_base": 10_000.0, "rope_frequency_scale": 0.5}, ("RoPE base 10000", "RoPE scale 0.5")),
        ({"threads": 1, "keep_in_memory": True, "mmap": False}, ()),
    ],
)
def test_what_differs_is_told(given: dict[str, Any], words: tuple[str, ...]) -> None:
    assert unusual(replace(AS_USUAL, **given), engine="lmstudio") == words


@pytest.mark.parametrize(("engine", "words"), [("embedded", ("no flash attention",)), ("lmstudio", ())])
def test_flash_attention_is_usual_on_the_embedded_engine(
    engine: Literal["lmstudio", "embedded"], words: tuple[str, ...]
) -> None:
    assert unusual(replace(AS_USUAL, flash_attention=False), engine=engine) == words
