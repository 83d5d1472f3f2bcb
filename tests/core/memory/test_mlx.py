"""What MLX takes, against what LM Studio's MLX engine logged (tests/data/mlx/logged.json)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmstrix.core.memory.fit import LoadBreakdown, load_breakdown, longest_context
from lmstrix.core.memory.kv_cache import kv_cache_bytes, recurrent_state_bytes
from lmstrix.core.memory.mlx import prefill_bytes, window_cells
from lmstrix.core.memory.prediction import kv_bytes_per_token
from lmstrix.core.memory.runtime import LM_STUDIO
from lmstrix.core.memory.shape import ModelShape, shape_from_listing, shape_from_metadata
from lmstrix.ground.loads import DEFAULT_LOAD
from lmstrix.loaders.mlx import read_model

MODELS = Path(__file__).parents[2] / "data" / "mlx"
_DATA = json.loads((MODELS / "logged.json").read_text(encoding="utf-8"))
LOGGED: list[dict[str, Any]] = _DATA["models"]
_GIB = 2**30


def shape_at(path: str) -> ModelShape:
    found = read_model(MODELS / path)
    return shape_from_metadata(found.metadata, file_bytes=found.file_size_bytes, n_vocab=found.vocabulary_size)


def ids(item: dict[str, Any]) -> str:
    return str(item["path"]).rpartition("/")[2]


@pytest.mark.parametrize("item", LOGGED, ids=ids)
def test_bytes_per_token_are_those_logged(item: dict[str, Any]) -> None:
    shape = shape_at(item["path"])
    assert kv_bytes_per_token(shape, 32_768, DEFAULT_LOAD) == item["full_kv"]
    if "attention" in item:
        more = prefill_bytes(shape, 65_536) - prefill_bytes(shape, 32_768)
        assert more / 32_768 == item["prompt_inputs"] + item["attention"]


def test_recurrent_state_is_what_was_logged() -> None:
    (item,) = [item for item in LOGGED if "fixed_ssm_gib" in item]
    assert round(recurrent_state_bytes(shape_at(item["path"])) / _GIB, 2) == item["fixed_ssm_gib"]


@pytest.mark.parametrize("item", [item for item in LOGGED if "fitted" in item], ids=ids)
def test_lm_studios_own_fit_follows(item: dict[str, Any]) -> None:
    """Within what the log's two decimals of a GiB leave open."""
    shape = shape_at(item["path"])
    # Its baseline is what the process takes once loaded, which we reckon as weights and runtime.
    loaded = shape.file_bytes + load_breakdown(shape, 1024).runtime_overhead_bytes
    room = (item["working_set_gib"] - item["reserve_gib"] - item["baseline_gib"]) * _GIB
    tokens = longest_context(shape, int(room + loaded), ceiling=262_144)
    assert tokens == pytest.approx(item["fitted"], rel=0.005)


def test_measured_peaks_grow_as_predicted() -> None:
    """Seven steps from 8k to 192k tokens on a Mac: 88.6 KB a token, and nothing that jumps."""
    shape = shape_at("unsloth/Qwen3.6-35B-A3B-UD-MLX-4bit")
    peaks = {int(thousands) * 1000: gb for thousands, gb in _DATA["peaks"]["gb_by_thousand_tokens"].items()}
    first = min(peaks)

    def context_gb(tokens: int) -> float:
        return load_breakdown(shape, tokens).context_bytes / 1e9

    for tokens, gb in peaks.items():
        assert context_gb(tokens) - context_gb(first) == pytest.approx(gb - peaks[first], rel=0.12, abs=0.1)


def test_a_sliding_layer_holds_its_window_and_the_step_being_read() -> None:
    assert window_cells(1024, 100_000) == 1024 + 2048 - 1
    assert window_cells(1024, 1000) == 1024
    shape = shape_at("lmstudio-community/gemma-4-26B-A4B-it-MLX-4bit")
    full, sliding = 20_480 * 131_072, 25 * 8 * 256 * 2 * 2 * (1024 + 2048 - 1)
    assert kv_cache_bytes(shape, 131_072) == full + sliding


def test_heads_of_the_usual_widths_are_read_without_their_scores() -> None:
    shape = shape_at("lmstudio-community/Qwen3-4B-MLX-4bit")
    assert prefill_bytes(shape, 10_000) == 10_000 * 2 * 2560


def test_nothing_of_the_context_is_taken_by_the_load() -> None:
    parts: LoadBreakdown = load_breakdown(
        shape_at("lmstudio-community/Qwen3.8-27B-MLX-4bit"), 32_768, runtime=LM_STUDIO
    )
    assert parts.lazy
    assert parts.touched_later_bytes == parts.context_bytes
    assert parts.checkpoint_bytes == 0


def test_the_types_of_a_cache_are_not_llama_cpps_to_choose() -> None:
    shape = shape_at("lmstudio-community/Qwen3-4B-MLX-4bit")
    asked = replace(DEFAULT_LOAD, k_cache_type="q8_0", v_cache_type="q8_0")
    assert kv_bytes_per_token(shape, 8192, asked) == kv_bytes_per_token(shape, 8192, DEFAULT_LOAD)


def test_a_guess_by_size_was_several_times_too_high() -> None:
    guess = shape_from_listing(size_bytes=16_080_000_000, max_context_length=262_144, lazy=True)
    told = shape_at("lmstudio-community/Qwen3.8-27B-MLX-4bit")
    assert kv_bytes_per_token(guess, 8192, DEFAULT_LOAD) > 4 * kv_bytes_per_token(told, 8192, DEFAULT_LOAD)
