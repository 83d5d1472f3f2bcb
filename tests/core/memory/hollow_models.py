"""Metadata and tensors of small models of every class of cache, for `hollow_gguf`. Widths are arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.core.memory.hollow_gguf import Value, vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

Dimensions = tuple[int, ...]


class HollowModel(NamedTuple):
    """A header: its metadata, and the name and dimensions of each tensor."""

    metadata: dict[str, Value]
    tensors: dict[str, Dimensions]


class Widths(NamedTuple):
    """The sizes that matter for memory."""

    n_layers: int = 4
    n_embd: int = 512
    n_head: int = 8
    n_head_kv: int = 2
    head_dim: int = 64
    n_ff: int = 1024
    n_vocab: int = 1024
    context_length: int = 131_072


def _base(architecture: str, w: Widths, extra: Mapping[str, Value]) -> dict[str, Value]:
    keys: dict[str, Value] = {
        "block_count": w.n_layers,
        "context_length": w.context_length,
        "embedding_length": w.n_embd,
        "feed_forward_length": w.n_ff,
        "attention.head_count": w.n_head,
        "attention.head_count_kv": w.n_head_kv,
        "attention.key_length": w.head_dim,
        "attention.value_length": w.head_dim,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": w.head_dim,
        **extra,
    }
    return {
        "general.architecture": architecture,
        **{f"{architecture}.{key}": value for key, value in keys.items()},
        **vocabulary(w.n_vocab),
    }


def _ends(w: Widths, *, tied: bool = False) -> dict[str, Dimensions]:
    tensors: dict[str, Dimensions] = {"token_embd.weight": (w.n_embd, w.n_vocab), "output_norm.weight": (w.n_embd,)}
    return tensors if tied else {**tensors, "output.weight": (w.n_embd, w.n_vocab)}


def _attention(il: int, w: Widths, *, norms: bool = False, gated: bool = False) -> dict[str, Dimensions]:
    q = w.n_head * w.head_dim
    kv = w.n_head_kv * w.head_dim
    tensors: dict[str, Dimensions] = {
        f"blk.{il}.attn_q.weight": (w.n_embd, q * (2 if gated else 1)),
        f"blk.{il}.attn_k.weight": (w.n_embd, kv),
        f"blk.{il}.attn_v.weight": (w.n_embd, kv),
        f"blk.{il}.attn_output.weight": (q, w.n_embd),
    }
    if norms:
        tensors[f"blk.{il}.attn_q_norm.weight"] = tensors[f"blk.{il}.attn_k_norm.weight"] = (w.head_dim,)
    return tensors


def _feed_forward(il: int, w: Widths) -> dict[str, Dimensions]:
    return {
        f"blk.{il}.ffn_gate.weight": (w.n_embd, w.n_ff),
        f"blk.{il}.ffn_up.weight": (w.n_embd, w.n_ff),
        f"blk.{il}.ffn_down.weight": (w.n_ff, w.n_embd),
    }


def _norms(il: int, w: Widths, *names: str) -> dict[str, Dimensions]:
    return {f"blk.{il}.{name}.weight": (w.n_embd,) for name in names}


def _experts(il: int, w: Widths, n_expert: int, n_ff: int) -> dict[str, Dimensions]:
    return {
        f"blk.{il}.ffn_gate_inp.weight": (w.n_embd, n_expert),
        f"blk.{il}.ffn_gate_exps.weight": (w.n_embd, n_ff, n_expert),
        f"blk.{il}.ffn_up_exps.weight": (w.n_embd, n_ff, n_expert),
        f"blk.{il}.ffn_down_exps.weight": (n_ff, w.n_embd, n_expert),
    }


def _mamba(il: int, w: Widths, *, inner: int, state: int, groups: int, heads: int) -> dict[str, Dimensions]:
    convolved = inner + 2 * groups * state
    return {
        f"blk.{il}.ssm_in.weight": (w.n_embd, inner + convolved + heads),
        f"blk.{il}.ssm_conv1d.weight": (4, convolved),
        f"blk.{il}.ssm_conv1d.bias": (convolved,),
        f"blk.{il}.ssm_dt.bias": (heads,),
        f"blk.{il}.ssm_a": (1, heads),
        f"blk.{il}.ssm_d": (1, heads),
        f"blk.{il}.ssm_norm.weight": (inner // groups, groups),
        f"blk.{il}.ssm_out.weight": (inner, w.n_embd),
    }


def dense(w: Widths) -> HollowModel:
    """llama: every layer keeps everything."""
    tensors = _ends(w)
    for il in range(w.n_layers):
        tensors |= _norms(il, w, "attn_norm", "ffn_norm") | _attention(il, w) | _feed_forward(il, w)
    return HollowModel(_base("llama", w, {}), tensors)


def mixture(w: Widths, *, n_expert: int = 8, n_used: int = 2) -> HollowModel:
    """qwen3moe: as dense, with experts."""
    tensors = _ends(w)
    for il in range(w.n_layers):
        tensors |= _norms(il, w, "attn_norm", "ffn_norm") | _attention(il, w, norms=True)
        tensors |= _experts(il, w, n_expert, w.n_ff)
    extra = {"expert_count": n_expert, "expert_used_count": n_used, "expert_feed_forward_length": w.n_ff}
    return HollowModel(_base("qwen3moe", w, extra), tensors)


def sliding(w: Widths, *, window: int = 1024) -> HollowModel:
    """gemma3: five of six layers see a window."""
    tensors = _ends(w, tied=True)
    for il in range(w.n_layers):
        tensors |= _norms(il, w, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        tensors |= _attention(il, w, norms=True) | _feed_forward(il, w)
    return HollowModel(_base("gemma3", w, {"attention.sliding_window": window}), tensors)


def sliding_mixture(w: Widths, *, window: int = 128, n_expert: int = 8, n_used: int = 4) -> HollowModel:
    """gpt-oss: every other layer sees a window, experts, attention sinks."""
    tensors = _ends(w)
    for il in range(w.n_layers):
        tensors |= _norms(il, w, "attn_norm", "post_attention_norm")
        tensors |= _attention(il, w) | _experts(il, w, n_expert, w.n_ff)
        tensors |= {
            f"blk.{il}.attn_sinks.weight": (w.n_head,),
            f"blk.{il}.attn_output.bias": (w.n_embd,),
            f"blk.{il}.ffn_gate_inp.bias": (n_expert,),
            f"blk.{il}.ffn_gate_exps.bias": (w.n_ff, n_expert),
            f"blk.{il}.ffn_up_exps.bias": (w.n_ff, n_expert),
            f"blk.{il}.ffn_down_exps.bias": (w.n_embd, n_expert),
        }
    extra: dict[str, Value] = {
        "attention.sliding_window": window,
        "expert_count": n_expert,
        "expert_used_count": n_used,
        "expert_feed_forward_length": w.n_ff,
    }
    return HollowModel(_base("gpt-oss", w, extra), tensors)


def latent(w: Widths, *, rank: int = 256, rope_dim: int = 64, n_expert: int = 4) -> HollowModel:
    """deepseek2: the keys of all heads in one latent row, no values."""
    nope, q_rank = w.head_dim, 256
    extra: dict[str, Value] = {
        "attention.head_count_kv": 1,
        "attention.key_length": rank + rope_dim,
        "attention.value_length": rank,
        "attention.key_length_mla": nope + rope_dim,
        "attention.value_length_mla": w.head_dim,
        "attention.kv_lora_rank": rank,
        "attention.q_lora_rank": q_rank,
        "rope.dimension_count": rope_dim,
        "leading_dense_block_count": 1,
        "expert_count": n_expert,
        "expert_used_count": 2,
        "expert_shared_count": 1,
        "expert_feed_forward_length": 256,
        "expert_weights_scale": 1.0,
    }
    tensors = _ends(w)
    for il in range(w.n_layers):
        tensors |= _norms(il, w, "attn_norm", "ffn_norm")
        tensors |= {
            f"blk.{il}.attn_q_a_norm.weight": (q_rank,),
            f"blk.{il}.attn_kv_a_norm.weight": (rank,),
            f"blk.{il}.attn_q_a.weight": (w.n_embd, q_rank),
            f"blk.{il}.attn_q_b.weight": (q_rank, w.n_head * (nope + rope_dim)),
            f"blk.{il}.attn_kv_a_mqa.weight": (w.n_embd, rank + rope_dim),
            f"blk.{il}.attn_k_b.weight": (nope, rank, w.n_head),
            f"blk.{il}.attn_v_b.weight": (rank, w.head_dim, w.n_head),
            f"blk.{il}.attn_output.weight": (w.n_head * w.head_dim, w.n_embd),
        }
        if il == 0:
            tensors |= _feed_forward(il, w)
            continue
        tensors |= _experts(il, w, n_expert, 256)
        for name in ("gate", "up"):
            tensors[f"blk.{il}.ffn_{name}_shexp.weight"] = (w.n_embd, 256)
        tensors[f"blk.{il}.ffn_down_shexp.weight"] = (256, w.n_embd)
    return HollowModel(_base("deepseek2", w, extra), tensors)


def linear_hybrid(w: Widths, *, state: int = 128, groups: int = 4, value_heads: int = 8) -> HollowModel:
    """qwen35: three of four layers keep a fixed state (gated delta net)."""
    inner = state * value_heads
    convolved = 2 * state * groups + inner
    extra: dict[str, Value] = {
        "full_attention_interval": 4,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.group_count": groups,
        "ssm.time_step_rank": value_heads,
        "rope.dimension_sections": [11, 11, 10, 0],
    }
    tensors = _ends(w)
    for il in range(w.n_layers):
        tensors |= _norms(il, w, "attn_norm", "post_attention_norm") | _feed_forward(il, w)
        if (il + 1) % 4 == 0:
            tensors |= _attention(il, w, norms=True, gated=True)
            continue
        tensors |= {
            f"blk.{il}.attn_qkv.weight": (w.n_embd, convolved),
            f"blk.{il}.attn_gate.weight": (w.n_embd, inner),
            f"blk.{il}.ssm_conv1d.weight": (4, convolved),
            f"blk.{il}.ssm_dt.bias": (value_heads,),
            f"blk.{il}.ssm_a": (value_heads,),
            f"blk.{il}.ssm_beta.weight": (w.n_embd, value_heads),
            f"blk.{il}.ssm_alpha.weight": (w.n_embd, value_heads),
            f"blk.{il}.ssm_norm.weight": (state,),
            f"blk.{il}.ssm_out.weight": (inner, w.n_embd),
        }
    return HollowModel(_base("qwen35", w, extra), tensors)


def mamba_hybrid(w: Widths, *, state: int = 128, heads: int = 16) -> HollowModel:
    """granitehybrid: only the last layer attends, the others are Mamba 2."""
    inner = 2 * w.n_embd
    extra: dict[str, Value] = {
        "attention.head_count_kv": [0] * (w.n_layers - 1) + [w.n_head_kv],
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.group_count": 1,
        "ssm.time_step_rank": heads,
    }
    tensors = _ends(w)
    for il in range(w.n_layers):
        tensors |= _norms(il, w, "attn_norm", "ffn_norm") | _feed_forward(il, w)
        if il == w.n_layers - 1:
            tensors |= _attention(il, w)
            continue
        tensors |= _mamba(il, w, inner=inner, state=state, groups=1, heads=heads)
    return HollowModel(_base("granitehybrid", w, extra), tensors)


def convolution_hybrid(w: Widths) -> HollowModel:
    """lfm2: short convolutions, attention in every third layer."""
    kv_heads = [w.n_head_kv if il % 3 == 2 else 0 for il in range(w.n_layers)]
    tensors = _ends(w, tied=True)
    del tensors["output_norm.weight"]
    tensors["token_embd_norm.weight"] = (w.n_embd,)
    for il in range(w.n_layers):
        tensors |= _norms(il, w, "attn_norm", "ffn_norm") | _feed_forward(il, w)
        if kv_heads[il]:
            tensors |= _attention(il, w, norms=True)
            continue
        tensors |= {
            f"blk.{il}.shortconv.conv.weight": (3, w.n_embd),
            f"blk.{il}.shortconv.in_proj.weight": (w.n_embd, 3 * w.n_embd),
            f"blk.{il}.shortconv.out_proj.weight": (w.n_embd, w.n_embd),
        }
    extra: dict[str, Value] = {"attention.head_count_kv": kv_heads, "shortconv.l_cache": 3}
    return HollowModel(_base("lfm2", w, extra), tensors)


def shared(w: Widths, *, window: int = 512, per_layer: int = 256) -> HollowModel:
    """gemma4: two kinds of layers of different widths, layers after the sixth reuse the cache of earlier ones."""
    slides = [il % 6 != 5 for il in range(w.n_layers)]
    extra: dict[str, Value] = {
        "attention.sliding_window": window,
        "attention.sliding_window_pattern": slides,
        "attention.shared_kv_layers": w.n_layers - 6,
        "attention.key_length": 2 * w.head_dim,
        "attention.value_length": 2 * w.head_dim,
        "attention.key_length_swa": w.head_dim,
        "attention.value_length_swa": w.head_dim,
        "rope.dimension_count": 2 * w.head_dim,
        "rope.dimension_count_swa": w.head_dim,
        "embedding_length_per_layer_input": per_layer,
    }
    tensors = _ends(w, tied=True)
    tensors |= {
        "per_layer_token_embd.weight": (per_layer * w.n_layers, w.n_vocab),
        "per_layer_model_proj.weight": (w.n_embd, per_layer * w.n_layers),
        "per_layer_proj_norm.weight": (per_layer,),
        "rope_freqs.weight": (w.head_dim,),
    }
    for il, slid in enumerate(slides):
        of_kind = w if slid else w._replace(head_dim=2 * w.head_dim)
        tensors |= _norms(il, w, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "post_norm")
        tensors |= _attention(il, of_kind, norms=True) | _feed_forward(il, w)
        tensors |= {f"blk.{il}.inp_gate.weight": (w.n_embd, per_layer), f"blk.{il}.proj.weight": (per_layer, w.n_embd)}
    return HollowModel(_base("gemma4", w, extra), tensors)


def mixed_layers(w: Widths, *, state: int = 128, groups: int = 2, heads: int = 16) -> HollowModel:
    """nemotron_h: each layer is one of Mamba 2, feed-forward or attention."""
    inner = 2 * w.n_embd
    kinds = ["state", "feed forward", "attention"]
    kind_of = [kinds[il % 3] for il in range(w.n_layers)]
    extra: dict[str, Value] = {
        "attention.head_count_kv": [w.n_head_kv if kind == "attention" else 0 for kind in kind_of],
        "feed_forward_length": [w.n_ff if kind == "feed forward" else 0 for kind in kind_of],
        "attention.layer_norm_epsilon": 1e-5,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.group_count": groups,
        "ssm.time_step_rank": heads,
    }
    tensors = _ends(w)
    for il, kind in enumerate(kind_of):
        tensors |= _norms(il, w, "attn_norm")
        if kind == "attention":
            tensors |= _attention(il, w)
        elif kind == "state":
            tensors |= _mamba(il, w, inner=inner, state=state, groups=groups, heads=heads)
        else:
            tensors |= {
                f"blk.{il}.ffn_up.weight": (w.n_embd, w.n_ff),
                f"blk.{il}.ffn_down.weight": (w.n_ff, w.n_embd),
            }
    return HollowModel(_base("nemotron_h", w, extra), tensors)


def parallel_hybrid(w: Widths, *, state: int = 64, heads: int = 16) -> HollowModel:
    """falcon-h1: attention and Mamba 2 side by side in every layer."""
    inner = w.n_embd
    extra: dict[str, Value] = {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.group_count": 1,
        "ssm.time_step_rank": heads,
    }
    tensors = _ends(w)
    for il in range(w.n_layers):
        tensors |= _norms(il, w, "attn_norm") | _attention(il, w) | _feed_forward(il, w)
        tensors |= _mamba(il, w, inner=inner, state=state, groups=1, heads=heads)
        tensors[f"blk.{il}.ffn_norm"] = (w.n_embd,)
    return HollowModel(_base("falcon-h1", w, extra), tensors)


def chunked(w: Widths, *, n_expert: int = 4) -> HollowModel:
    """llama4: three of four layers attend within chunks of 8192 tokens; experts and a shared one in every layer."""
    extra: dict[str, Value] = {
        "expert_count": n_expert,
        "expert_used_count": 1,
        "expert_feed_forward_length": w.n_ff,
        "interleave_moe_layer_step": 1,
    }
    tensors = _ends(w)
    for il in range(w.n_layers):
        tensors |= _norms(il, w, "attn_norm", "ffn_norm") | _attention(il, w) | _experts(il, w, n_expert, w.n_ff)
        for name in ("gate", "up"):
            tensors[f"blk.{il}.ffn_{name}_shexp.weight"] = (w.n_embd, w.n_ff)
        tensors[f"blk.{il}.ffn_down_shexp.weight"] = (w.n_ff, w.n_embd)
    return HollowModel(_base("llama4", w, extra), tensors)


CLASSES = {
    "dense": dense,
    "mixture": mixture,
    "sliding": sliding,
    "sliding_mixture": sliding_mixture,
    "latent": latent,
    "linear_hybrid": linear_hybrid,
    "mamba_hybrid": mamba_hybrid,
    "convolution_hybrid": convolution_hybrid,
    "shared": shared,
    "mixed_layers": mixed_layers,
    "parallel_hybrid": parallel_hybrid,
    "chunked": chunked,
}
