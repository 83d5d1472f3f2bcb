"""The metadata and random tensors that make a tiny model of each architecture llama.cpp loads.

One builder per architecture, each the least that its loader asks for. Shapes are written as numpy has them (rows
first), the reverse of ggml's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tests.support.tiny_gguf_tokenizer import TOKEN_TYPE_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable

Tensor = npt.NDArray[np.float16] | npt.NDArray[np.float32]
Metadata = dict[str, int | float | bool | list[int] | list[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """The dimensions of a tiny model; an architecture that lacks one ignores it.

    `vocab_size` None is the smallest vocabulary. `sliding_window` is for gemma2 and gemma3, where every second or sixth
    layer sees everything; hybrids (granitehybrid, lfm2) attend in every second layer.
    """

    context_length: int = 4096
    n_layers: int = 2
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 16
    width: int = 64
    feed_forward: int = 128
    vocab_size: int | None = None
    sliding_window: int = 256
    kv_lora_rank: int = 32
    rope_dims: int = 16
    state_size: int = 16
    seed: int = 0


@dataclass(slots=True)
class TinyModel:
    """What goes into the file. Keys of `metadata` get the architecture's name in front."""

    shape: TinyShape
    n_vocab: int
    metadata: Metadata = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.shape.seed)
        self.metadata |= {
            "context_length": self.shape.context_length,
            "block_count": self.shape.n_layers,
            "embedding_length": self.shape.width,
            "feed_forward_length": self.shape.feed_forward,
            "attention.head_count": self.shape.n_heads,
        }

    def matrix(self, name: str, *dims: int) -> None:
        """A random half-precision tensor, scaled so that what it multiplies keeps its size."""
        values = self.random.standard_normal(dims, dtype=np.float32) / np.sqrt(dims[-1])
        self.tensors[name] = values.astype(np.float16)

    def vector(self, name: str, *dims: int, value: float = 1.0) -> None:
        """A single-precision tensor of one value: a norm's weight (1) or a bias (0)."""
        self.tensors[name] = np.full(dims, value, dtype=np.float32)

    def ends(self, *, norm: str = "output_norm.weight", untied: bool = False) -> None:
        """Token embeddings, last norm and, unless tied, the output matrix."""
        self.matrix("token_embd.weight", self.n_vocab, self.shape.width)
        self.vector(norm, self.shape.width)
        if untied:
            self.matrix("output.weight", self.n_vocab, self.shape.width)

    def attention(self, block: str, *, biases: bool = False, head_norms: bool = False) -> None:
        """Grouped-query attention."""
        shape = self.shape
        query, key = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
        for name, rows in (("attn_q", query), ("attn_k", key), ("attn_v", key)):
            self.matrix(f"{block}{name}.weight", rows, shape.width)
            if biases:
                self.vector(f"{block}{name}.bias", rows, value=0)
        self.matrix(f"{block}attn_output.weight", shape.width, query)
        if head_norms:
            self.vector(f"{block}attn_q_norm.weight", shape.head_dim)
            self.vector(f"{block}attn_k_norm.weight", shape.head_dim)

    def gated_feed_forward(self, block: str) -> None:
        """The gated feed-forward of most models."""
        shape = self.shape
        self.matrix(f"{block}ffn_gate.weight", shape.feed_forward, shape.width)
        self.matrix(f"{block}ffn_up.weight", shape.feed_forward, shape.width)
        self.matrix(f"{block}ffn_down.weight", shape.width, shape.feed_forward)

    def norms(self, block: str, *names: str) -> None:
        """Norms as wide as the model."""
        for name in names:
            self.vector(f"{block}{name}.weight", self.shape.width)

    def blocks(self) -> list[str]:
        """The name prefix of each layer."""
        return [f"blk.{number}." for number in range(self.shape.n_layers)]

    def attends(self, layer: int) -> bool:
        """Whether a layer of a hybrid is one of attention."""
        return layer % 2 == 1

    def hybrid_kv_heads(self) -> list[int]:
        """Key and value heads of each layer of a hybrid; none where it keeps a state instead."""
        return [self.shape.n_kv_heads if self.attends(layer) else 0 for layer in range(self.shape.n_layers)]

    def add_heads(self) -> None:
        """The metadata of grouped-query attention with rotary positions."""
        self.metadata |= {
            "attention.head_count_kv": self.shape.n_kv_heads,
            "attention.key_length": self.shape.head_dim,
            "attention.value_length": self.shape.head_dim,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.dimension_count": self.shape.head_dim,
            "rope.freq_base": 10_000.0,
        }


def llama(model: TinyModel, *, biases: bool = False) -> None:
    """Grouped-query attention in every layer."""
    model.add_heads()
    model.ends(untied=True)
    for block in model.blocks():
        model.norms(block, "attn_norm", "ffn_norm")
        model.attention(block, biases=biases)
        model.gated_feed_forward(block)


def qwen2(model: TinyModel) -> None:
    """As llama, with biases on queries, keys and values."""
    llama(model, biases=True)


def gemma2(model: TinyModel) -> None:
    """Every second layer sees a sliding window only."""
    model.add_heads()
    model.metadata |= {
        "attention.sliding_window": model.shape.sliding_window,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    model.ends()
    for block in model.blocks():
        model.norms(block, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        model.attention(block)
        model.gated_feed_forward(block)


def gemma3(model: TinyModel) -> None:
    """Five of six layers see a sliding window only."""
    model.add_heads()
    model.metadata |= {"attention.sliding_window": model.shape.sliding_window}
    model.ends()
    for block in model.blocks():
        model.norms(block, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        model.attention(block, head_norms=True)
        model.gated_feed_forward(block)


def deepseek2(model: TinyModel) -> None:
    """Multi-head latent attention: one compressed row of `kv_lora_rank` + `rope_dims` values a token and layer."""
    shape = model.shape
    rank, rope, nope = shape.kv_lora_rank, shape.rope_dims, shape.head_dim
    model.metadata |= {
        "attention.head_count_kv": 1,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.q_lora_rank": rank,
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + rope,
        "attention.value_length": rank,
        "attention.key_length_mla": nope + rope,
        "attention.value_length_mla": nope,
        "rope.dimension_count": rope,
        "rope.freq_base": 10_000.0,
        "leading_dense_block_count": shape.n_layers,
        "vocab_size": model.n_vocab,
        "expert_feed_forward_length": shape.feed_forward,
        "expert_count": 0,
        "expert_used_count": 0,
        "expert_shared_count": 1,
        "expert_weights_scale": 1.0,
        "expert_gating_func": 1,
    }
    model.ends(untied=True)
    for block in model.blocks():
        model.norms(block, "attn_norm", "ffn_norm")
        model.vector(f"{block}attn_q_a_norm.weight", rank)
        model.vector(f"{block}attn_kv_a_norm.weight", rank)
        model.matrix(f"{block}attn_q_a.weight", rank, shape.width)
        model.matrix(f"{block}attn_q_b.weight", shape.n_heads * (nope + rope), rank)
        model.matrix(f"{block}attn_kv_a_mqa.weight", rank + rope, shape.width)
        model.matrix(f"{block}attn_k_b.weight", shape.n_heads, rank, nope)
        model.matrix(f"{block}attn_v_b.weight", shape.n_heads, nope, rank)
        model.matrix(f"{block}attn_output.weight", shape.width, shape.n_heads * nope)
        model.gated_feed_forward(block)


def _mamba2_metadata(model: TinyModel) -> None:
    model.metadata |= {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 2 * model.shape.width,
        "ssm.state_size": model.shape.state_size,
        "ssm.time_step_rank": model.shape.n_heads,
        "ssm.group_count": 1,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }


def _mamba2_layer(model: TinyModel, block: str) -> None:
    shape = model.shape
    inner, convolved = 2 * shape.width, 2 * shape.width + 2 * shape.state_size
    model.matrix(f"{block}ssm_in.weight", inner + convolved + shape.n_heads, shape.width)
    model.vector(f"{block}ssm_conv1d.weight", convolved, 4, value=0.25)
    model.vector(f"{block}ssm_conv1d.bias", convolved, value=0)
    model.vector(f"{block}ssm_dt.bias", shape.n_heads, value=0)
    model.vector(f"{block}ssm_a", shape.n_heads, 1, value=-1)
    model.vector(f"{block}ssm_d", shape.n_heads, 1)
    model.vector(f"{block}ssm_norm.weight", 1, inner)
    model.matrix(f"{block}ssm_out.weight", shape.width, inner)


def mamba2(model: TinyModel) -> None:
    """A state of fixed size in every layer, no attention."""
    _mamba2_metadata(model)
    model.metadata |= {"attention.head_count": 0, "feed_forward_length": 0}
    model.ends(untied=True)
    for block in model.blocks():
        model.norms(block, "attn_norm")
        _mamba2_layer(model, block)


def granitehybrid(model: TinyModel) -> None:
    """A Mamba-2 state in even layers, attention in odd ones."""
    model.add_heads()
    _mamba2_metadata(model)
    model.metadata |= {"attention.head_count_kv": model.hybrid_kv_heads()}
    model.ends(untied=True)
    for layer, block in enumerate(model.blocks()):
        model.norms(block, "attn_norm", "ffn_norm")
        if model.attends(layer):
            model.attention(block)
        else:
            _mamba2_layer(model, block)
        model.gated_feed_forward(block)


def lfm2(model: TinyModel) -> None:
    """A short convolution in even layers, attention in odd ones."""
    width, taps = model.shape.width, 3
    model.add_heads()
    model.metadata |= {"attention.head_count_kv": model.hybrid_kv_heads(), "shortconv.l_cache": taps}
    model.ends(norm="token_embd_norm.weight")
    for layer, block in enumerate(model.blocks()):
        model.norms(block, "attn_norm", "ffn_norm")
        if model.attends(layer):
            model.attention(block, head_norms=True)
        else:
            model.vector(f"{block}shortconv.conv.weight", width, taps, value=0.3)
            model.matrix(f"{block}shortconv.in_proj.weight", 3 * width, width)
            model.matrix(f"{block}shortconv.out_proj.weight", width, width)
        model.gated_feed_forward(block)


def qwen35(model: TinyModel) -> None:
    """A gated delta net, which is linear attention with a state of fixed size, in all but every fourth layer."""
    shape, taps = model.shape, 4
    interval = min(4, shape.n_layers)  # llama.cpp runs none without attention
    keys, values = shape.n_kv_heads * shape.state_size, shape.n_heads * shape.state_size
    model.add_heads()
    model.metadata |= {
        "full_attention_interval": interval,
        "rope.dimension_sections": [shape.head_dim // 2 - 2, 1, 1, 0],
        "ssm.conv_kernel": taps,
        "ssm.inner_size": values,
        "ssm.state_size": shape.state_size,
        "ssm.time_step_rank": shape.n_heads,
        "ssm.group_count": shape.n_kv_heads,
    }
    model.ends(untied=True)
    for layer, block in enumerate(model.blocks()):
        model.norms(block, "attn_norm", "post_attention_norm")
        if (layer + 1) % interval == 0:
            model.attention(block, head_norms=True)
            # Half of it gates what the queries find.
            model.matrix(f"{block}attn_q.weight", 2 * shape.n_heads * shape.head_dim, shape.width)
        else:
            model.matrix(f"{block}attn_qkv.weight", 2 * keys + values, shape.width)
            model.matrix(f"{block}attn_gate.weight", values, shape.width)
            model.vector(f"{block}ssm_conv1d.weight", 2 * keys + values, taps, value=0.25)
            model.vector(f"{block}ssm_dt.bias", shape.n_heads, value=0)
            model.vector(f"{block}ssm_a", shape.n_heads, value=-1)
            model.matrix(f"{block}ssm_beta.weight", shape.n_heads, shape.width)
            model.matrix(f"{block}ssm_alpha.weight", shape.n_heads, shape.width)
            model.vector(f"{block}ssm_norm.weight", shape.state_size)
            model.matrix(f"{block}ssm_out.weight", shape.width, values)
        model.gated_feed_forward(block)


def bert(model: TinyModel) -> None:
    """An encoder that pools its outputs (mean) into one embedding."""
    shape = model.shape
    model.metadata |= {"attention.causal": False, "attention.layer_norm_epsilon": 1e-12, "pooling_type": 1}
    model.matrix("token_embd.weight", model.n_vocab, shape.width)
    model.vector("token_types.weight", TOKEN_TYPE_COUNT, shape.width, value=0)
    model.tensors["position_embd.weight"] = 0.1 * model.random.standard_normal(
        (shape.context_length, shape.width), dtype=np.float32
    )
    _norm_with_bias(model, "token_embd_norm")
    for block in model.blocks():
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            _matrix_with_bias(model, f"{block}{name}", shape.width, shape.width)
        _norm_with_bias(model, f"{block}attn_output_norm")
        _matrix_with_bias(model, f"{block}ffn_up", shape.feed_forward, shape.width)
        _matrix_with_bias(model, f"{block}ffn_down", shape.width, shape.feed_forward)
        _norm_with_bias(model, f"{block}layer_output_norm")


def _norm_with_bias(model: TinyModel, name: str) -> None:
    model.vector(f"{name}.weight", model.shape.width)
    model.vector(f"{name}.bias", model.shape.width, value=0)


def _matrix_with_bias(model: TinyModel, name: str, rows: int, columns: int) -> None:
    model.matrix(f"{name}.weight", rows, columns)
    model.vector(f"{name}.bias", rows, value=0)


ARCHITECTURES: dict[str, Callable[[TinyModel], None]] = {
    builder.__name__: builder
    for builder in (llama, qwen2, gemma2, gemma3, deepseek2, mamba2, granitehybrid, lfm2, qwen35, bert)
}
