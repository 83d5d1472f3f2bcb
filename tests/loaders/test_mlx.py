"""MLX models read from their folders: those of tests/data/mlx, whose configs are as published, and broken ones."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.memory.shape import shape_from_metadata
from lmstrix.ground.errors import MlxError
from lmstrix.loaders.mlx import MlxModel, read_model
from tests.support.safetensors import Tensors, data_bytes, header_bytes, write_safetensors

MODELS = Path(__file__).parents[1] / "data" / "mlx"

QUANTIZED: Tensors = {
    "model.layers.0.mlp.down_proj.weight": ("U32", [2560, 1216]),
    "model.layers.0.mlp.down_proj.scales": ("BF16", [2560, 152]),
    "model.layers.0.mlp.down_proj.biases": ("BF16", [2560, 152]),
    "model.norm.weight": ("BF16", [2560]),
}
QWEN3 = {"model_type": "qwen3", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}


def model(folder: Path, config: object, tensors: Tensors | None = None, **files: object) -> Path:
    """Write a model with this config; `files` by name, with __ for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text)
    write_safetensors(folder / "model.safetensors", QUANTIZED if tensors is None else tensors)
    return folder


def read(folder: Path, config: object, tensors: Tensors | None = None, **files: object) -> MlxModel:
    return read_model(model(folder, config, tensors, **files))


def problem(folder: Path) -> MlxError:
    with pytest.raises(MlxError) as failure:
        read_model(folder)
    assert "\n" not in str(failure.value)
    return failure.value


@pytest.mark.parametrize(
    ("path", "length", "layers", "full", "sliding", "recurrent", "window"),
    [
        ("mlx-community/gemma-3-4b-it-4bit", 131_072, 34, 5, 29, 0, 1024),
        ("mlx-community/gemma-3-1b-it-4bit", 32_768, 26, 4, 22, 0, 512),
        ("lmstudio-community/gpt-oss-20b-MLX-MXFP4", 131_072, 24, 12, 12, 0, 128),
        ("lmstudio-community/Qwen3-4B-MLX-4bit", 40_960, 36, 36, 0, 0, 0),
        ("mlx-community/Qwen3-30B-A3B-8bit", 40_960, 48, 48, 0, 0, 0),
        ("lmstudio-community/Qwen3.8-27B-MLX-4bit", 262_144, 64, 16, 0, 48, 0),
        ("unsloth/Qwen3.6-35B-A3B-UD-MLX-4bit", 262_144, 40, 10, 0, 30, 0),
        ("lmstudio-community/gemma-4-26B-A4B-it-MLX-4bit", 262_144, 30, 5, 25, 0, 1024),
        ("lmstudio-community/gemma-4-12B-it-MLX-4bit", 262_144, 48, 8, 40, 0, 1024),
        ("mlx-community/Llama-4-Scout-17B-16E-Instruct-4bit", 10_485_760, 48, 12, 36, 0, 8192),
        ("mlx-community/InternVL3-8B-4bit", 32_768, 28, 28, 0, 0, 0),
        ("mlx-community/falcon-mamba-7b-instruct-4bit", None, 64, 0, 0, 64, 0),
        ("mlx-community/mamba-2.8b-hf-f16", None, 64, 0, 0, 64, 0),
        ("mlx-community/answerdotai-ModernBERT-base-bf16", 8192, 22, 22, 0, 0, 0),
    ],
)
def test_published_models_have_the_layers_that_mlx_gives_them(
    path: str, length: int | None, layers: int, full: int, sliding: int, recurrent: int, window: int
) -> None:
    found = read_model(MODELS / path)
    shape = shape_from_metadata(found.metadata, file_bytes=found.file_size_bytes, n_vocab=found.vocabulary_size)
    assert found.context_length == length
    assert (shape.n_layers, shape.full.count, shape.sliding.count) == (layers, full, sliding)
    assert (shape.n_recurrent_layers, shape.sliding_window) == (recurrent, window)
    assert shape.lazy
    assert not shape.approximate


@pytest.mark.parametrize(
    ("path", "kind", "vision", "tools", "quantization", "bits"),
    [
        ("mlx-community/gemma-3-4b-it-4bit", "llm", True, False, "4bit", 4),
        ("lmstudio-community/gpt-oss-20b-MLX-MXFP4", "llm", False, True, "MXFP4", 4),
        ("mlx-community/Qwen3-30B-A3B-8bit", "llm", False, True, "8bit", 8),
        ("unsloth/Qwen3.6-35B-A3B-UD-MLX-4bit", "llm", True, True, "4bit", 4),
        ("mlx-community/InternVL3-8B-4bit", "llm", True, False, "4bit", 4),
        ("mlx-community/mamba-2.8b-hf-f16", "llm", False, False, "F16", 16),
        ("mlx-community/answerdotai-ModernBERT-base-bf16", "embedding", False, False, "BF16", 16),
    ],
)
def test_what_a_model_is_for(path: str, kind: str, vision: bool, tools: bool, quantization: str, bits: int) -> None:
    found = read_model(MODELS / path)
    assert (found.kind, found.vision, found.trained_for_tool_use) == (kind, vision, tools)
    assert (found.quantization, found.bits) == (quantization, bits)


def test_what_is_no_language_model_is_named_as_such() -> None:
    failure = problem(MODELS / "mlx-community" / "clip-vit-base-patch32")
    assert (failure.kind, str(failure)) == ("not a model", "clip is not a language model")


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}, None),
        ({"model_type": "modernbert", "architectures": ["ModernBertForSequenceClassification"]}, None),
        ({"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]}, "embedding"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "embedding"),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, "llm"),
        ({"model_type": "a-family-of-tomorrow"}, "llm"),
    ],
)
def test_kinds_by_architecture(tmp_path: Path, config: dict[str, object], kind: str | None) -> None:
    if kind is None:
        assert problem(model(tmp_path, config)).kind == "not a model"
    else:
        assert read(tmp_path, config).kind == kind


def test_a_classifier_is_told_from_a_language_model(tmp_path: Path) -> None:
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForSequenceClassification"]}
    assert "ForSequenceClassification neither writes nor embeds" in str(problem(model(tmp_path, config)))


def test_a_decoder_that_pools_embeds(tmp_path: Path) -> None:
    assert read(tmp_path / "x", QWEN3, modules__json=[]).kind == "embedding"
    assert read(tmp_path / "Qwen3-Embedding-0.6B-4bit", QWEN3).kind == "embedding"


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"model_type": "gpt2", "n_positions": 2048}, 2048),
        ({"model_type": "mpt", "max_seq_len": 8192}, 8192),
        ({"model_type": "x", "max_sequence_length": 4096}, 4096),
        ({"model_type": "x", "seq_length": 32_768}, 32_768),
        ({"model_type": "kimi_linear", "model_max_length": 1_048_576}, 1_048_576),
        ({"model_type": "x", "llm_config": {"max_position_embeddings": 512}}, 512),
        ({"model_type": "x", "language_config": {"max_position_embeddings": 512}}, 512),
        ({"model_type": "x", "thinker_config": {"text_config": {"max_position_embeddings": 512}}}, 512),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, 131_072),
        ({"model_type": "gemma3", "text_config": {}}, 131_072),
        ({"model_type": "x"}, None),
        ({"model_type": "qwen3", "max_position_embeddings": None}, None),
        ({"model_type": "x", "max_position_embeddings": True}, None),
        ({"model_type": "x", "max_position_embeddings": -5}, None),
    ],
)
def test_the_declared_length_goes_by_many_names(tmp_path: Path, config: dict[str, object], length: int | None) -> None:
    assert read(tmp_path, config).context_length == length


@pytest.mark.parametrize(
    ("declared", "scaling", "length"),
    [
        (32_768, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}, 131_072),
        (32_768, {"type": "yarn", "factor": 4.0}, 131_072),
        (131_072, {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096}, 131_072),
        (131_072, {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 131_072),
        (131_072, {"rope_type": "linear", "factor": 8.0}, 131_072),
        (32_768, {"rope_type": "yarn", "factor": float("inf"), "original_max_position_embeddings": 4096}, 32_768),
        (
            32_768,
            {"full_attention": {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 32_768}},
            65_536,
        ),
    ],
)
def test_yarn_stretches_what_the_positions_do_not_hold_already(
    tmp_path: Path, declared: int, scaling: dict[str, object], length: int
) -> None:
    for name in ("rope_scaling", "rope_parameters"):
        config = QWEN3 | {"max_position_embeddings": declared, name: scaling}
        assert read(tmp_path / name, config).context_length == length


def test_weights_are_the_sum_of_the_tensors_of_all_parts(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", QWEN3 | {"quantization": {"bits": 4, "group_size": 64}})
    (folder / "model.safetensors").unlink()
    halves = (dict(list(QUANTIZED.items())[:2]), dict(list(QUANTIZED.items())[2:]))
    for number, tensors in enumerate(halves, 1):
        write_safetensors(folder / f"model-{number:05d}-of-00002.safetensors", tensors)
    write_safetensors(folder / "consolidated.safetensors", QUANTIZED)
    assert read_model(folder).file_size_bytes == data_bytes(QUANTIZED)


@pytest.mark.parametrize("with_index", [True, False])
def test_missing_parts_are_counted(tmp_path: Path, with_index: bool) -> None:
    folder = model(tmp_path / "m", QWEN3)
    (folder / "model.safetensors").unlink()
    names = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    for name in names[:2]:
        write_safetensors(folder / name, {name: ("F16", [4])})
    if with_index:
        index = {"weight_map": {name: name for name in names}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    failure = problem(folder)
    assert (failure.kind, str(failure)) == ("incomplete", "2 of 3 parts are there: download the others")


def test_an_index_left_over_from_the_original_counts_for_nothing(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00009.safetensors", "b": "../../etc/passwd"}}
    found = read(tmp_path, QWEN3, model__safetensors__index__json=index)
    assert found.file_size_bytes == data_bytes(QUANTIZED)


def test_a_file_cut_short_is_damaged(tmp_path: Path) -> None:
    folder = model(tmp_path, QWEN3)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 7)
    assert problem(folder).kind == "corrupt"
    assert "7 bytes are missing at the end of model.safetensors" in str(problem(folder))


@pytest.mark.parametrize(
    ("quantization", "columns", "groups", "bits"),
    [({"bits": 4, "group_size": 64}, 1216, 152, 4.5), ({"bits": 8, "group_size": 32}, 2432, 304, 9.0)],
)
def test_true_bits_count_the_scales(
    tmp_path: Path, quantization: dict[str, int], columns: int, groups: int, bits: float
) -> None:
    tensors: Tensors = {
        "layer.weight": ("U32", [2560, columns]),
        "layer.scales": ("BF16", [2560, groups]),
        "layer.biases": ("BF16", [2560, groups]),
    }
    found = read(tmp_path, QWEN3 | {"quantization": quantization}, tensors)
    assert found.weights.parameters == 2560 * 9728
    assert found.bits_per_weight == bits
    assert found.size_label == "25M"


def test_layers_quantized_otherwise_count_with_their_own_groups(tmp_path: Path) -> None:
    tensors: Tensors = {
        "a.weight": ("U32", [64, 8]),
        "a.scales": ("BF16", [64, 1]),
        "b.weight": ("U32", [64, 16]),
        "b.scales": ("BF16", [64, 2]),
        "b.biases": ("BF16", [64, 2]),
    }
    quantization = {"bits": 4, "group_size": 64, "b": {"bits": 8, "group_size": 32}, "c": False}
    found = read(tmp_path, QWEN3 | {"quantization": quantization}, tensors)
    assert found.weights.parameters == 2 * 64 * 64
    assert found.quantization == "4bit"
    assert found.bits_per_weight == round(8 * data_bytes(tensors) / (2 * 64 * 64), 2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", "{% if tools %}"),
        ("chat_template.json", '{"chat_template": "{% if tools %}"}'),
        ("tokenizer_config.json", '{"chat_template": "{% if tools %}"}'),
        ("tokenizer_config.json", '{"chat_template": [{"name": "tool_use", "template": "{% if tools %}"}]}'),
    ],
)
def test_tool_use_is_told_by_the_template_wherever_it_stands(tmp_path: Path, name: str, content: str) -> None:
    assert not read(tmp_path, QWEN3).trained_for_tool_use
    (tmp_path / name).write_text(content)
    assert read_model(tmp_path).trained_for_tool_use


def test_a_template_that_cannot_be_read_costs_no_model(tmp_path: Path) -> None:
    assert not read(tmp_path, QWEN3, tokenizer_config__json="{").trained_for_tool_use


def keys(config: dict[str, Any], tmp_path: Path) -> dict[str, object]:
    return {name.removeprefix("mlx."): value for name, value in read(tmp_path, config).metadata.items()}


def test_latent_attention_keeps_one_row_for_all_heads(tmp_path: Path) -> None:
    found = read(tmp_path, {"model_type": "deepseek_v3", "vocab_size": 10})
    shape = shape_from_metadata(found.metadata, file_bytes=1)
    assert (shape.full.count, shape.full.k_width, shape.full.v_width) == (61, 61 * 576, 0)


def test_the_last_layers_of_gemma_3n_keep_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, {"model_type": "gemma3n", "text_config": {"model_type": "gemma3n_text"}})
    shape = shape_from_metadata(found.metadata, file_bytes=1)
    assert (shape.n_layers, shape.full.count, shape.sliding.count) == (35, 4, 16)


def test_a_pattern_of_letters_lists_the_layers(tmp_path: Path) -> None:
    nemotron = {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-E", "num_hidden_layers": 6}
    found = keys(nemotron | {"num_key_value_heads": 8}, tmp_path)
    assert found["attention.head_count_kv"] == [0, 0, 0, 8, 0, 0]
    assert found["attention.recurrent_layers"] == [True, False, True, False, False, False]


_SMALL = st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=5)
_VALUES = st.recursive(
    _SMALL,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_NAMES = [
    *("model_type", "architectures", "text_config", "llm_config", "vision_config", "quantization", "vocab_size"),
    *("max_position_embeddings", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "layer_types", "sliding_window", "sliding_window_pattern", "rope_scaling", "rope_parameters"),
    *("full_attention_interval", "linear_attn_config", "linear_num_value_heads", "kv_lora_rank", "num_experts"),
    *("attn_layer_period", "attn_layer_offset", "num_kv_shared_layers", "hybrid_override_pattern", "mamba_expand"),
    *("hybrid_layer_pattern", "full_attn_idxs", "layer_group_size", "quantization_config"),
]
_TYPES = st.sampled_from(["qwen3_5", "gemma3", "mamba", "falcon_h1", "deepseek_v3", "llama4", "nemotron_h", "clip"])
_CONFIGS = st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=8)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(config=st.tuples(_CONFIGS, _TYPES, _CONFIGS), text=st.none() | st.text(max_size=30))
def test_no_config_raises_anything_but_a_problem(
    tmp_path_factory: pytest.TempPathFactory,
    config: tuple[dict[str, object], str, dict[str, object]],
    text: str | None,
) -> None:
    outer, model_type, inner = config
    folder = tmp_path_factory.mktemp("fuzz")
    written = json.dumps({"model_type": model_type, **outer} | ({"text_config": inner} if inner else {}))
    (folder / "config.json").write_text(text if text is not None else written, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(header_bytes({}))
    with suppress(MlxError):
        found = read_model(folder)
        shape = shape_from_metadata(found.metadata, file_bytes=found.file_size_bytes, n_vocab=found.vocabulary_size)
        assert shape.n_layers <= 1024
