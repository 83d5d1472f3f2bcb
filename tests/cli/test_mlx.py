"""A folder of MLX models on the command line: found, estimated, ranked, planned, and not loaded by our own engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstrix.engine import EmbeddedEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ran

MODELS = Path(__file__).parents[1] / "data" / "mlx"


@pytest.fixture(autouse=True)
def scanned(cli: Callable[..., Ran], home: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """The registry holds the models of tests/data/mlx, and nothing serves them."""
    assert not home.exists()
    monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(MODELS))
    return cli("scan").ok()


def test_a_scan_finds_the_models_and_names_what_is_none(scanned: Ran) -> None:
    assert "14 models" in scanned.out
    assert "mlx-community/clip-vit-base-patch32: clip is not a language model" in scanned.lines


def test_a_second_scan_reads_nothing_and_changes_nothing(cli: Callable[..., Ran]) -> None:
    assert "registry unchanged" in cli("scan").ok().out


def test_the_list_tells_kinds_lengths_and_true_bits(cli: Callable[..., Ran]) -> None:
    listed = {model["model_key"]: model for model in cli("list", "--json").ok().json["models"]}
    told = listed["gemma-3-4b-it-4bit"]
    assert (told["kind"], told["format"], told["vision"]) == ("llm", "safetensors", True)
    assert (told["max_context_length"], told["quantization"], told["bits_per_weight"]) == (131_072, "4bit", 5.18)
    assert listed["text-embedding-answerdotai-modernbert-base-bf16"]["kind"] == "embedding"
    assert listed["mamba-2.8b-hf-f16"]["max_context_length"] is None


def test_an_estimate_is_of_the_models_own_shape(cli: Callable[..., Ran]) -> None:
    told = cli("estimate", "qwen3.8-27b", "--ctx", "32768", "--json").ok().json
    assert (told["kv_bytes_per_token"], told["kv_cache_bytes"]) == (65_536, 65_536 * 32_768)
    assert told["lazy"]
    assert not told["approximate"]
    assert "64.0 KiB a token, taken as the prompt grows" in cli("estimate", "qwen3.8-27b").ok().out


def test_the_order_by_risk_and_the_advice_follow_the_same_shapes(cli: Callable[..., Ran]) -> None:
    planned = cli("test", "--all", "--dry-run", "--json").ok().json["models"]
    needs = [model["model_key"] for model in planned]
    assert needs.index("gpt-oss-20b-mlx-mxfp4") < needs.index("qwen3-4b-mlx-4bit") < needs.index("qwen3.8-27b-mlx-4bit")
    advised = {model["model_key"]: model for model in cli("recommend", "--json").ok().json["models"]}
    # 8,192 tokens in 8 full layers, a window and the step being read in 40 others, and the scores of that step.
    cache_bytes = 8192 * 16_384 + (1024 + 2048 - 1) * 40 * 8192
    scores_bytes = 8192 * 2 * (3840 + 16 * 2048)
    assert advised["gemma-4-12b-it-mlx-4bit"]["memory_bytes"] == pytest.approx(cache_bytes + scores_bytes, rel=0.1)


def test_the_embedded_engine_refuses_an_mlx_model_with_one_line(cli: Callable[..., Ran]) -> None:
    shown = cli("infer", "hi", "--model", "qwen3-4b-mlx-4bit")
    assert shown.code == 1
    assert shown.out == ""
    reasons = [line for line in shown.lines if line.startswith("lmstrix: ")]
    assert len(reasons) == 1
    assert "is an MLX model and the embedded engine loads GGUF files only" in reasons[0]


def test_what_the_embedded_engine_cannot_load_is_passed_over(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "qwen3-4b-mlx-4bit"
    reason = (
        "MLX model and the embedded engine loads GGUF files only: load it in LM Studio on a Mac, or download it as GGUF"
    )
    with EmbeddedEngine(MODELS) as engine:
        monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
        one = cli("test", key)
        assert (one.code, one.out, one.lines) == (1, "", [f"lmstrix: {key} is an {reason}"])
        ran = cli("test", "--all", "--fast").ok()
        assert ran.err.count(reason) == 1
        (check,) = [each for each in cli("doctor", key, "--json").json["checks"] if each["name"] == "server"]
    assert check["state"] == "note"
    assert check["found"].endswith(f"cannot load it: an {reason}")
    # Nothing was tried, so there is nothing to be remembered of it.
    assert cli("history", key).ok().out == ""
