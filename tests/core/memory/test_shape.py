"""Which layers cache what, read from metadata; damaged and unknown metadata; shapes without a header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.memory.fit import load_bytes, longest_context
from lmstrix.core.memory.kv_cache import kv_cache_bytes
from lmstrix.core.memory.shape import CacheLayers, ModelShape, shape_from_listing, shape_from_metadata
from tests.support.fleet import fleet


def _shape(architecture: str, **keys: object) -> ModelShape:
    defaults: dict[str, object] = {
        "block_count": 12,
        "embedding_length": 1024,
        "context_length": 32_768,
        "vocab_size": 32_000,
        "attention.head_count": 16,
        "attention.head_count_kv": 4,
    }
    given_keys = {key.replace("__", "."): value for key, value in keys.items()}
    metadata = {f"{architecture}.{key}": value for key, value in (defaults | given_keys).items()}
    return shape_from_metadata({"general.architecture": architecture, **metadata}, file_bytes=10**9)


@pytest.mark.parametrize(
    ("architecture", "keys", "full", "sliding", "window"),
    [
        ("llama", {"attention__sliding_window": 4096}, 12, 0, 0),
        ("phi3", {"attention__sliding_window": 2047}, 12, 0, 0),
        ("gemma2", {}, 6, 6, 4096),
        ("gemma3", {"attention__sliding_window": 512}, 2, 10, 512),
        ("gemma3", {}, 12, 0, 0),
        ("gpt-oss", {"attention__sliding_window": 128}, 6, 6, 128),
        ("cohere2", {"attention__sliding_window": 4096}, 3, 9, 4096),
        ("llama4", {}, 3, 9, 8192),
        ("llama4", {"attention__sliding_window": 0}, 12, 0, 0),
        ("smallthinker", {"attention__sliding_window": 1000}, 3, 9, 4096),
        ("exaone4", {"attention__sliding_window": 4096}, 12, 0, 0),
        ("mimo2", {"attention__sliding_window": 128, "attention__sliding_window_pattern": [True] * 9}, 3, 9, 128),
        ("gemma3", {"attention__sliding_window": 512, "attention__sliding_window_pattern": 3}, 4, 8, 512),
        ("glm4moe", {"nextn_predict_layers": 1}, 11, 0, 0),
        ("gemma4", {"attention__sliding_window": 512, "attention__shared_kv_layers": 4}, 0, 8, 512),
    ],
)
def test_which_layers_slide(architecture: str, keys: dict[str, object], full: int, sliding: int, window: int) -> None:
    shape = _shape(architecture, **keys)
    assert (shape.full.count, shape.sliding.count, shape.sliding_window) == (full, sliding, window)


@pytest.mark.parametrize(
    ("architecture", "keys", "attending", "recurrent"),
    [
        ("mamba2", {"ssm__inner_size": 2048, "ssm__state_size": 128}, 0, 12),
        ("rwkv7", {"wkv__head_size": 64}, 0, 12),
        ("qwen3next", {"ssm__inner_size": 2048, "ssm__state_size": 128}, 3, 9),
        ("qwen35", {"full_attention_interval": 6}, 2, 10),
        ("qwen35", {"attention__recurrent_layers": [True, True, False] * 4}, 4, 8),
        ("jamba", {"attention__head_count_kv": [0, 0, 0, 4] * 3}, 3, 9),
        ("falcon-h1", {"ssm__inner_size": 2048, "ssm__state_size": 128}, 12, 12),
        ("nemotron_h", {"attention__head_count_kv": [0, 4, 0] * 4, "feed_forward_length": [0, 0, 9] * 4}, 4, 4),
        ("lfm2", {"attention__head_count_kv": [0, 0, 4] * 4, "shortconv__l_cache": 3}, 4, 8),
        ("bert", {}, 0, 0),
    ],
)
def test_which_layers_attend(architecture: str, keys: dict[str, object], attending: int, recurrent: int) -> None:
    shape = _shape(architecture, **keys)
    assert (shape.full.count, shape.n_recurrent_layers) == (attending, recurrent)


def test_widths_come_from_the_file_or_the_embedding() -> None:
    assert _shape("llama").full == CacheLayers(count=12, k_width=12 * 4 * 64, v_width=12 * 4 * 64)
    own = _shape("llama", attention__key_length=128, attention__value_length=96)
    assert own.full == CacheLayers(count=12, k_width=12 * 4 * 128, v_width=12 * 4 * 96)


def test_latent_attention_keeps_one_row_and_no_values() -> None:
    latent = _shape(
        "deepseek2",
        attention__head_count_kv=1,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
    )
    assert latent.full == CacheLayers(count=12, k_width=12 * 576, v_width=0)
    expanded = _shape("deepseek2", attention__head_count_kv=16, attention__key_length=192, attention__value_length=128)
    assert expanded.full == CacheLayers(count=12, k_width=12 * 16 * 192, v_width=12 * 16 * 128)


def test_a_sparse_indexer_keeps_keys_of_its_own() -> None:
    keys = {"attention__key_length_mla": 192, "attention__key_length": 576, "attention__head_count_kv": 1}
    plain, indexed = _shape("deepseek2", **keys), _shape("deepseek32", **keys, attention__indexer__key_length=128)
    assert indexed.full.k_width == plain.full.k_width + 12 * 128


def test_the_vocabulary_is_counted_when_it_was_read() -> None:
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.embedding_length": 64,
        "tokenizer.ggml.tokens": ("a", "b", "c"),
    }
    assert shape_from_metadata(metadata, file_bytes=1).n_vocab == 3
    assert shape_from_metadata(metadata, file_bytes=1, n_vocab=5).n_vocab == 5


def test_what_is_not_known_is_said() -> None:
    assert shape_from_metadata({}, file_bytes=1).approximate
    assert _shape("deepseek4").approximate
    assert not _shape("an architecture of tomorrow").approximate


values = st.one_of(st.integers(-(2**63), 2**64), st.floats(), st.booleans(), st.text(), st.lists(st.integers(-5, 5)))


@given(
    st.sampled_from(["llama", "gemma3", "gemma4", "qwen35", "nemotron_h", "lfm2", "deepseek32", "rwkv7", ""]),
    st.dictionaries(
        st.sampled_from(
            [
                "block_count",
                "embedding_length",
                "nextn_predict_layers",
                "attention.head_count",
                "attention.head_count_kv",
                "attention.sliding_window",
                "attention.sliding_window_pattern",
                "attention.shared_kv_layers",
                "full_attention_interval",
                "feed_forward_length",
                "ssm.inner_size",
            ]
        ),
        values,
    ),
)
def test_no_metadata_makes_it_fail(architecture: str, keys: dict[str, object]) -> None:
    metadata = {"general.architecture": architecture, **{f"{architecture}.{key}": keys[key] for key in keys}}
    shape = shape_from_metadata(metadata, file_bytes=1_000)
    assert 0 <= shape.n_layers <= 1024
    assert load_bytes(shape, 4_096) >= 1_000
    assert kv_cache_bytes(shape, 4_096) >= 0
    assert longest_context(shape, 10**9, ceiling=8_192) >= 0


def test_a_listing_alone_gives_a_wide_guess() -> None:
    """Over the fleet: never under 2/5 of the true cache, and above it for 19 models of 20."""
    ratios = []
    for model in fleet():
        guess = shape_from_listing(size_bytes=model.shape.file_bytes, max_context_length=model.context_length)
        assert guess.approximate
        assert guess.context_length == model.context_length
        ratios.append(kv_cache_bytes(guess, 32_768) / kv_cache_bytes(model.shape, 32_768))
    assert min(ratios) > 0.4
    assert sum(ratio >= 1 for ratio in ratios) >= 0.95 * len(ratios)
