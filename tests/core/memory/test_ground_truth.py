"""The formulas against allocations that users of llama.cpp, LM Studio and Ollama logged (`ground_truth.json`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmstrix.core.memory.fit import compute_buffer_bytes, load_bytes, longest_context
from lmstrix.core.memory.kv_cache import kv_cache_bytes, recurrent_state_bytes
from tests.support.fleet import fleet, fleet_shapes

_MIB = 2**20
_ITEMS = {
    item["id"]: item
    for item in json.loads((Path(__file__).parents[2] / "data" / "ground_truth.json").read_text(encoding="utf-8"))[
        "items"
    ]
}


def test_qwen36_27b_keys_and_values_are_exact() -> None:
    shape = fleet_shapes()["Qwen3.6 27B"]
    assert shape.full.count == 16
    assert kv_cache_bytes(shape, 262_144) == _ITEMS["qwen3.6-27b-kv"]["value_mib"] * _MIB


def test_qwen35_35b_keys_and_values_in_f32_are_exact() -> None:
    shape = fleet_shapes()["Qwen3.5 35B-A3B"]
    logged = _ITEMS["qwen3.5-35b-kv"]["value_mib"] * _MIB
    assert kv_cache_bytes(shape, 18_176, k_type="f32", v_type="f32") == logged


def test_qwen35_35b_recurrent_state_is_exact() -> None:
    state = recurrent_state_bytes(fleet_shapes()["Qwen3.5 35B-A3B"])
    assert round(state / _MIB, 2) == _ITEMS["qwen3.5-35b-rs"]["value_mib"]


def test_gemma3_4b_full_and_sliding_layers_are_exact() -> None:
    shape = fleet_shapes()["Gemma 3 4B it"]
    assert kv_cache_bytes(shape, 131_072) == _ITEMS["gemma3-4b-kv"]["value_mib"] * _MIB


def test_qwen35_35b_compute_buffer_with_all_outputs_is_within_5_percent() -> None:
    shape = fleet_shapes()["Qwen3.5 35B-A3B"]
    logged = _ITEMS["qwen3.5-35b-compute"]["value_mib"] * _MIB
    assert compute_buffer_bytes(shape, 18_176, outputs=512) == pytest.approx(logged, rel=0.05)


def test_qwen35_9b_takes_what_it_took_and_not_what_was_estimated() -> None:
    item = _ITEMS["qwen3.5-9b-lms-estimate"]
    predicted = load_bytes(fleet_shapes()["Qwen3.5 9B"], 110_000) / 1e9
    assert predicted == pytest.approx(item["actual_gb"], rel=0.20)
    assert predicted < 0.7 * item["value_gb"]


def test_mlx_fit_of_qwen36_35b_follows_from_its_bytes_per_token() -> None:
    """MLX keeps the same cache a token: 20,480 bytes; its fit then follows from the reserve it names."""
    shape = fleet_shapes()["Qwen3.6 35B-A3B"]
    per_token = (kv_cache_bytes(shape, 2_560) - kv_cache_bytes(shape, 1_280)) // 1_280
    room = (36.00 - 3.00 - 20.15) * 2**30 - recurrent_state_bytes(shape)
    tokens = room / (per_token + 4096 + 65_536)
    assert per_token == 20_480
    assert -(-tokens // 256) * 256 == pytest.approx(_ITEMS["mlx-fit-2191"]["value_tokens"], rel=0.005)


@pytest.mark.parametrize(
    ("name", "kib_per_token"),
    [
        ("Phi-3.5 mini instruct", 384),
        ("Mistral Large 2411", 352),
        ("Llama 3.3 70B Instruct", 320),
        ("Qwen3 32B", 256),
        ("Llama 3.1 8B Instruct", 128),
        ("Qwen3 30B-A3B", 96),
        ("Qwen3.5 27B", 64),
        ("GLM-4.7 Flash 30B-A3B", 52.875),
        ("gpt-oss 20B", 24),
        ("Qwen3.5 35B-A3B", 20),
        ("Gemma 4 12B it", 16),
        ("Granite 4.0 H Tiny 7B-A1B", 8),
        ("Nemotron 3 Nano 30B-A3B", 6),
    ],
)
def test_bytes_of_one_more_token(name: str, kib_per_token: float) -> None:
    shape = fleet_shapes()[name]
    assert (kv_cache_bytes(shape, 65_536) - kv_cache_bytes(shape, 32_768)) / 32_768 / 1024 == kib_per_token


def test_every_model_of_the_fleet_has_a_shape_and_a_limit_on_a_large_machine() -> None:
    assert len(fleet()) == 77
    for model in fleet():
        assert not model.shape.approximate, model.name
        assert longest_context(model.shape, 2**42) == model.context_length
