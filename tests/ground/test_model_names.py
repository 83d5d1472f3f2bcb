"""Keys, quantizations and names found from what people type."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.ground.model_names import (
    NamedModel,
    bits_of,
    is_mmproj,
    match_names,
    model_key_for,
    parse_shard,
    quantization_of,
    unique_keys,
)


@pytest.mark.parametrize(
    ("path", "key", "quantization"),
    [
        (
            "lmstudio-community/Qwen2.5-7B-Instruct-GGUF/Qwen2.5-7B-Instruct-Q4_K_M.gguf",
            "qwen2.5-7b-instruct",
            "Q4_K_M",
        ),
        ("nomic-ai/nomic-embed-text-v1.5-GGUF/nomic-embed-text-v1.5.Q8_0.gguf", "nomic-embed-text-v1.5", "Q8_0"),
        ("me/Llama-3-GGUF/ggml-model-f16.gguf", "llama-3", "F16"),
        ("me/Llama-3-GGUF/ggml-model-Q4_0.gguf", "llama-3", "Q4_0"),
        ("me/Llama-3-GGUF/model.gguf", "llama-3", None),
        ("me/Mistral-GGUF/Q5_K_S.gguf", "mistral", "Q5_K_S"),
        ("me/r/modelfile-x-IQ2_XXS.gguf", "modelfile-x", "IQ2_XXS"),
        ("u/Qwen3-4B-GGUF/Qwen3-4B-UD-Q4_K_XL-00001-of-00002.gguf", "qwen3-4b", "UD-Q4_K_XL"),
        ("ggml-org/gpt-oss-20b-GGUF/gpt-oss-20b-mxfp4.gguf", "gpt-oss-20b", "MXFP4"),
        ("a/b/bitnet-2b-TQ2_0.gguf", "bitnet-2b", "TQ2_0"),
        ("a/b/phi-fp16.gguf", "phi", "F16"),
        ("a/b/seq2seq.gguf", "seq2seq", None),
        ("mlx-community/Qwen2.5-7B-Instruct-4bit", "qwen2.5-7b-instruct-4bit", None),
        ("loose.gguf", "loose", None),
        ("a/b/Модель-Q4_0.gguf", "модель", "Q4_0"),
    ],
)
def test_key_and_quantization_come_from_the_path(path: str, key: str, quantization: str | None) -> None:
    assert model_key_for(path) == key
    assert quantization_of(path) == quantization


def test_embedding_models_are_prefixed_once() -> None:
    assert model_key_for("n/r/nomic-embed-Q4_0.gguf", "embedding") == "text-embedding-nomic-embed"
    assert model_key_for("n/r/text-embedding-3-Q4_0.gguf", "embedding") == "text-embedding-3"
    assert model_key_for("n/r/embedded-coder-7b-Q4_0.gguf") == "embedded-coder-7b"


@pytest.mark.parametrize(("name", "bits"), [("Q4_K_M", 4), ("IQ1_S", 1), ("BF16", 16), ("8bit", 8), (None, None)])
def test_bits(name: str | None, bits: int | None) -> None:
    assert bits_of(name) == bits


def test_parts_of_a_split_model() -> None:
    assert parse_shard("a/b/big-Q4_0-00002-of-00003.gguf") == ("big-Q4_0", 2, 3)
    assert parse_shard("a/b/big-00004-of-00003.gguf") is None
    assert parse_shard("a/b/big-00000-of-00003.gguf") is None
    assert parse_shard("a/b/big.gguf") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mmproj-model-f16.gguf", True), ("gemma-mmproj-f16.gguf", True), ("mmproj.gguf", True), ("xmmprojy.gguf", False)],
)
def test_projectors_are_known_by_name(name: str, expected: bool) -> None:
    assert is_mmproj(f"a/b/{name}") is expected


def test_shared_keys_are_told_apart_whatever_the_order() -> None:
    models = [
        NamedModel("a/x-GGUF/x-Q4_K_M.gguf"),
        NamedModel("a/x-GGUF/x-Q8_0.gguf"),
        NamedModel("b/x-GGUF/x-Q8_0.gguf"),
        NamedModel("b/x-other-GGUF/x-Q8_0.gguf"),
        NamedModel("a/y-GGUF/y-Q8_0.gguf"),
    ]
    expected = {
        "a/x-GGUF/x-Q4_K_M.gguf": "x@q4_k_m",
        "a/x-GGUF/x-Q8_0.gguf": "a/x@q8_0",
        "b/x-GGUF/x-Q8_0.gguf": "b/x-gguf/x-q8_0",
        "b/x-other-GGUF/x-Q8_0.gguf": "b/x-other-gguf/x-q8_0",
        "a/y-GGUF/y-Q8_0.gguf": "y",
    }
    assert unique_keys(models) == expected
    assert unique_keys(reversed(models)) == expected


_part = st.sampled_from(["a", "B", "b", "x-Q4_0", "X", "ggml-model", "x@q4_0"])


@settings(deadline=None)
@given(st.sets(st.tuples(_part, _part, _part), max_size=12))
def test_every_path_gets_a_key_of_its_own(parts: set[tuple[str, str, str]]) -> None:
    paths = ["/".join(part) + ".gguf" for part in parts]
    keys = unique_keys(NamedModel(path) for path in paths)
    assert set(keys) == set(paths)
    assert len(set(keys.values())) == len(paths)


NAMES = [
    ("x/llama-3-merge/codellama-34b-Q4_0.gguf", "codellama-34b"),
    ("hugging-quants/Llama-3.2-1B-Instruct-Q8_0-GGUF/llama-3.2-1b-instruct-q8_0.gguf", "llama-3.2-1b-instruct"),
    ("a/q-GGUF/q-Q4_0.gguf", "q@q4_0"),
    ("a/q-GGUF/q-Q8_0.gguf", "q@q8_0"),
    ("a/qq-GGUF/qq-Q8_0.gguf", "qq"),
]
CODELLAMA, LLAMA, Q4, Q8, QQ = (path for path, _ in NAMES)


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        (CODELLAMA, [CODELLAMA]),
        ("codellama-34b", [CODELLAMA]),
        ("CodeLlama-34B", [CODELLAMA]),
        ("llama-3", [LLAMA]),  # a beginning, never a piece from the middle of another model's path
        ("hugging-quants/llama-3.2-1b-instruct", [LLAMA]),
        ("llama-3.2-1b-instruct-q8_0.gguf", [LLAMA]),
        ("q", [Q4, Q8]),  # not qq, which merely begins with it
        ("q@q8_0", [Q8]),
        ("a/q-gguf/q-q4_0", [Q4]),
        ("a/q", [Q4, Q8, QQ]),
        ("34b", []),
        ("", []),
    ],
)
def test_names_are_matched_by_the_strictest_rule(query: str, paths: list[str]) -> None:
    assert match_names(query, NAMES) == paths


@settings(deadline=None)
@given(st.sampled_from(NAMES))
def test_a_key_and_a_path_always_find_their_model(name: tuple[str, str]) -> None:
    assert match_names(name[0], NAMES) == [name[0]]
    assert match_names(name[1], NAMES) == [name[0]]
