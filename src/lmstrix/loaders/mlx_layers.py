"""What each layer of an MLX model keeps for a prompt, and how wide, in the keys that `core.memory.shape` reads.

The rules are those of mlx-lm (0.32): which of its models make a cache that rotates, which keep a state, and what the
attention of each puts into its cache. Every layer is listed, so nothing is left to an architecture's own rule; the
architecture is therefore given as `mlx`.

Traded away: models whose attention is of a kind of its own (two attentions in a layer, caches that are pooled) are
described as if it were plain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lmstrix.loaders.mlx_config import EXPERTS, HEADS, KV_HEADS, LAYERS, VOCABULARY, WIDTH, numbers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.loaders.mlx_config import MlxConfig

LayerKind = Literal["full", "sliding", "state", "state and full", "nothing"]

_MAX_LAYERS = 1024
_KINDS: dict[str, LayerKind] = {
    "full_attention": "full",
    "global_attention": "full",
    "attention": "full",
    "hybrid": "state and full",
    "*": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "sliding",
    "local_attention": "sliding",
    "linear_attention": "state",
    "mamba": "state",
    "mamba2": "state",
    "recurrent": "state",
    "conv": "state",
    "M": "state",
    "mlp": "nothing",
    "moe": "nothing",
    "-": "nothing",
    "E": "nothing",
}
"""What the files call their layers; the letters are those of nemotron_h."""
_LISTS = ("layer_types", "layers_block_type", "block_types", "_block_types", "hybrid_override_pattern")
_STATE_ONLY = {"mamba", "mamba2", "falcon_mamba", "rwkv", "rwkv6", "rwkv7"}
_STATE_AND_ATTENTION = {"falcon_h1"}
_FULL_EACH = {"qwen3_next": 4, "qwen3_5_text": 4, "qwen3_5_moe_text": 4, "qwen3_6_text": 4, "qwen3_6_moe_text": 4}
"""One layer in so many attends; the others are linear."""
_SLIDING_EACH = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone4": 4,
    "exaone_moe": 4,
    "gemma3_text": 6,
    "gemma3n_text": 5,
    "gemma4_text": 6,
    "gemma4_unified_text": 6,
    "gpt_oss": 2,
    "llama4_text": 4,
    "olmo3": 4,
}
"""One layer in so many sees everything where the file does not list them; the others slide."""
_KEEPS_ALL = {"gemma2", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi3", "mixtral"}
"""Families with a window whose caches mlx-lm does not cut to it."""
_EXPANDED_LATENT = {"deepseek_v2", "minicpm3", "youtu_llm"}
"""Families with latent attention whose caches hold the keys and values made from the latent row."""


def layer_keys(config: MlxConfig) -> dict[str, object]:
    """Metadata that describes the model to `shape_from_metadata`."""
    kinds = layer_kinds(config)
    window = _window(config) if "sliding" in kinds else 0
    keys: dict[str, object] = {
        "block_count": len(kinds),
        "embedding_length": config.number(*WIDTH),
        "vocab_size": config.number(*VOCABULARY),
        "expert_count": config.number(*EXPERTS),
        "attention.head_count": config.number(*HEADS),
        "attention.recurrent_layers": [kind in ("state", "state and full") for kind in kinds],
        "attention.sliding_window": window,
        "attention.sliding_window_pattern": [kind == "sliding" for kind in kinds] if window else None,
        **_row_keys(config, kinds),
        **_state_keys(config),
    }
    known = {f"mlx.{key}": value for key, value in keys.items() if value not in (None, 0)}
    return {"general.architecture": "mlx", **known}


def layer_kinds(config: MlxConfig) -> list[LayerKind]:
    """What each layer keeps."""
    family, n_layers = config.text_type, min(config.number(*LAYERS), _MAX_LAYERS)
    if family in _STATE_ONLY:
        return ["state"] * n_layers
    if family in _STATE_AND_ATTENTION:
        return ["state and full"] * n_layers
    listed = _listed(config)
    # Some files of nemotron_h list their layers and do not count them.
    n_layers = n_layers or len(listed)
    kinds = (listed * n_layers)[:n_layers] if listed else _by_rule(config, n_layers)
    window = _window(config)
    kinds = ["full" if kind == "sliding" and not window else kind for kind in kinds]
    # The last layers of some read the cache of an earlier one.
    shared = min(config.number("num_kv_shared_layers"), n_layers)
    own = len(kinds) - shared
    return [kind if layer < own else "nothing" for layer, kind in enumerate(kinds)]


def _listed(config: MlxConfig) -> list[LayerKind]:
    for name in _LISTS:
        value = config.value(name)
        items = list(value) if isinstance(value, str | list) else []
        kinds = [_KINDS.get(item, "full") if isinstance(item, str) else "full" for item in items[:_MAX_LAYERS]]
        if kinds:
            return kinds
    return []


def _by_rule(config: MlxConfig, n_layers: int) -> list[LayerKind]:
    """The layers of a file that does not list them by name."""
    attending = _attending_layers(config, n_layers)
    if attending is not None:
        return ["full" if layer in attending else "state" for layer in range(n_layers)]
    marks = numbers_of(config.value("hybrid_layer_pattern"))
    if marks:
        return ["sliding" if mark else "full" for mark in (marks * n_layers)[:n_layers]]
    pattern = config.value("sliding_window_pattern", "_sliding_window_pattern")
    if isinstance(pattern, str) and pattern:
        return ["sliding" if letter == "L" else "full" for letter in (pattern * n_layers)[:n_layers]]
    period = max(numbers_of(pattern), default=_SLIDING_EACH.get(config.text_type, 0))
    return ["sliding" if period and (layer + 1) % period else "full" for layer in range(n_layers)]


def _attending_layers(config: MlxConfig, n_layers: int) -> set[int] | None:
    """The layers that attend in a model whose others keep a state; None where all attend."""
    if each := config.number("full_attention_interval") or _FULL_EACH.get(config.text_type, 0):
        return set(range(each - 1, n_layers, each))
    if counted_from_one := numbers_of(config.table("linear_attn_config").get("full_attn_layers", [])):
        return {layer - 1 for layer in counted_from_one}
    for name in ("full_attn_idxs", "full_attention_idx", "attn_layer_indices"):
        if indices := numbers_of(config.value(name)):
            return set(indices)
    if marks := numbers_of(config.value("attn_type_list")):
        return {layer for layer, mark in enumerate(marks) if mark}
    if period := config.number("attn_layer_period"):
        return {layer for layer in range(n_layers) if layer % period == config.number("attn_layer_offset") % period}
    if group := config.number("layer_group_size"):
        # A last group that is not whole attends throughout.
        return {layer for layer in range(n_layers) if (layer + 1) % group == 0 or layer >= n_layers // group * group}
    return None


def _window(config: MlxConfig) -> int:
    if config.text_type in _KEEPS_ALL or config.value("use_sliding_window") is False:
        return 0
    if config.text_type == "llama4_text":
        return config.number("attention_chunk_size")
    return config.number("sliding_window", "sliding_window_size", "attention_window_size")


def _row_keys(config: MlxConfig, kinds: Sequence[LayerKind]) -> dict[str, object]:
    """How wide the keys and values of each layer are."""
    heads = config.number(*HEADS)
    if rank := config.number("kv_lora_rank"):
        return _latent_keys(config, kinds, rank, heads)
    head_dim = config.number("head_dim", "attention_head_dim", "hidden_size_per_head")
    head_dim = head_dim or (config.number(*WIDTH) // heads if heads else 0)
    value_dim = config.number("v_head_dim") or head_dim
    keys: dict[str, object] = {
        "attention.head_count_kv": _kv_heads(config, kinds, heads),
        "attention.key_length": config.number("global_head_dim") or head_dim,
        "attention.value_length": config.number("global_head_dim") or value_dim,
    }
    if "sliding" in kinds:
        sliding_dim = config.number("swa_head_dim") or head_dim
        keys["attention.key_length_swa"] = sliding_dim
        keys["attention.value_length_swa"] = config.number("swa_v_head_dim") or (
            sliding_dim if value_dim == head_dim else value_dim
        )
    return keys


def _kv_heads(config: MlxConfig, kinds: Sequence[LayerKind], heads: int) -> list[int]:
    """Heads with keys and values of their own, layer by layer: 0 in those that keep none."""
    told = numbers_of(config.value(*KV_HEADS))
    if config.flag("multi_query"):
        told = [1]
    told = told or [heads]
    full = told
    # Gemma 4 gives its full layers heads of another number where their keys serve as values too.
    if config.flag("attention_k_eq_v") and (of_full := config.number("num_global_key_value_heads")):
        full = [of_full]
    sliding = numbers_of(config.value("swa_num_key_value_heads")) or told
    by_kind = {"full": full, "state and full": full, "sliding": sliding}
    return [of_kind[layer % len(of_kind)] if (of_kind := by_kind.get(kind)) else 0 for layer, kind in enumerate(kinds)]


def _latent_keys(config: MlxConfig, kinds: Sequence[LayerKind], rank: int, heads: int) -> dict[str, object]:
    """Latent attention: one row for all heads, the latent one beside the rotated part of the keys."""
    rotated = config.number("qk_rope_head_dim")
    attends = [kind in ("full", "sliding", "state and full") for kind in kinds]
    if config.text_type in _EXPANDED_LATENT:
        own = config.number("qk_nope_head_dim")
        return {
            "attention.head_count_kv": [heads * attending for attending in attends],
            "attention.key_length": own + rotated,
            "attention.value_length": config.number("v_head_dim") or own,
        }
    row = rank + rotated + config.number("index_head_dim")
    return {
        "attention.head_count_kv": [int(attending) for attending in attends],
        "attention.key_length": row,
        "attention.value_length": row,
        "attention.key_length_mla": row,
    }


def _state_keys(config: MlxConfig) -> dict[str, object]:
    """What a layer without keys keeps: the inputs its convolution still needs, and its state."""
    if config.text_type.startswith("rwkv"):
        return {"wkv.head_size": config.number("head_dim", "head_size", default=64)}
    if window := config.number("conv_L_cache"):
        return {"shortconv.l_cache": window}
    kimi = config.table("linear_attn_config")
    if kimi_heads := max(numbers_of(kimi.get("num_heads")), default=0):
        head_dim = max(numbers_of(kimi.get("head_dim")), default=0)
        convolution = max(numbers_of(kimi.get("short_conv_kernel_size")), default=4)
        return _ssm(convolution, kimi_heads * head_dim, head_dim, kimi_heads)
    if value_heads := config.number("linear_num_value_heads"):
        return _ssm(
            config.number("linear_conv_kernel_dim"),
            value_heads * config.number("linear_value_head_dim"),
            config.number("linear_key_head_dim"),
            config.number("linear_num_key_heads"),
        )
    if width := config.number("lru_width"):
        return _ssm(config.number("conv1d_width"), width, 1, 0)
    return _ssm(
        config.number("mamba_d_conv", "conv_kernel", "d_conv"),
        _mamba_width(config),
        config.number("ssm_state_size", "mamba_d_state", "state_size", "d_state"),
        config.number("mamba_n_groups", "n_groups"),
    )


def _mamba_width(config: MlxConfig) -> int:
    """How wide the inner stream of a Mamba layer is, which its files say in one of five ways."""
    if width := config.number("mamba_d_ssm"):
        return width
    for heads, head_dim in (("mamba_num_heads", "mamba_head_dim"), ("mamba_n_heads", "mamba_d_head")):
        if config.number(heads) and config.number(head_dim):
            return config.number(heads) * config.number(head_dim)
    if config.text_type == "mamba2":
        return config.number("num_heads") * config.number("head_dim")
    # Only in a model of nothing else is the width of its feed-forward layers that of its state layers.
    if config.text_type in _STATE_ONLY and (width := config.number("intermediate_size", "d_inner")):
        return width
    return config.number("mamba_expand", "expand") * config.number(*WIDTH)


def _ssm(convolution: int, inner: int, state: int, groups: int) -> dict[str, object]:
    return {
        "ssm.conv_kernel": convolution,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.group_count": groups,
    }
