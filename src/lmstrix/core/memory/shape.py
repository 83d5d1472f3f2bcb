"""What the memory formulas need to know of a model, read from a GGUF header's metadata or guessed from a listing.

A model's cache is described by sums over its layers, because that is all the formulas use: how many layers keep every
cell and how many only a sliding window, and how wide their keys and values are together. Which layer is which follows
llama.cpp's own rules, architecture by architecture (its `src/models/*.cpp` and `llama_model::create_memory`).

Traded away: architectures that pool or index their cache in a way of their own (deepseek4, minimax-m3, …) are described
as if they did not, and flagged `approximate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CacheLayers", "ComputeStep", "DeltaNet", "ModelShape", "shape_from_listing", "shape_from_metadata"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayers:
    """Layers that keep keys and values alike. Widths are elements per cell, summed over the layers."""

    count: int = 0
    k_width: int = 0
    v_width: int = 0


class ComputeStep(NamedTuple):
    """A step of the computation that may be the largest: f32 elements it holds for each token and for each sequence."""

    per_token: int
    per_sequence: int = 0


class DeltaNet(NamedTuple):
    """One layer of a gated delta net, in elements: its convolved inputs for each token, its state for each sequence."""

    convolved: int
    state: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A model as the memory formulas see it.

    `full` layers keep every cell, `sliding` layers about `sliding_window` of them, `draft` layers (for multi-token
    prediction, not counted in `n_layers`) every cell of a draft context, if there is one. `v_width_max` is the widest
    value row of any layer, to which a cache without flash attention pads the others. `recurrent_state_elements` is the
    state of all recurrent layers for one sequence. `has_cache` is False for encoders, which keep nothing.

    For the compute buffer, in f32 elements per token: `residual_width` stays from layer to layer; `attention_width`
    (with flash attention), `unfused_attention_width` (without, the scores apart) and `steps` (all else) are what the
    widest steps of a layer hold at once; `delta_net` is there where the recurrent layers are gated delta nets.
    `expert_share` is how much of the experts a token passes, 1.0 for models without. `approximate` marks a shape that
    was guessed.

    A `lazy` cache is MLX's: it is taken as the prompt grows, in steps of 256 cells of 16 bits whatever types are asked
    for; see `core.memory.mlx`. `scored_heads` are those whose scores over the whole prompt it holds while reading it.
    """

    architecture: str
    n_layers: int
    n_embd: int
    n_vocab: int
    n_head: int
    context_length: int
    full: CacheLayers
    sliding: CacheLayers = CacheLayers()
    draft: CacheLayers = CacheLayers()
    sliding_window: int = 0
    v_width_max: int = 0
    residual_width: int = 0
    attention_width: int = 0
    unfused_attention_width: int = 0
    steps: tuple[ComputeStep, ...] = ()
    delta_net: DeltaNet | None = None
    n_recurrent_layers: int = 0
    recurrent_state_elements: int = 0
    has_cache: bool = True
    file_bytes: int = 0
    mmproj_bytes: int = 0
    expert_share: float = 1.0
    approximate: bool = False
    lazy: bool = False
    scored_heads: int = 0


class _Sliding(NamedTuple):
    """How an architecture places its sliding layers when the file does not list them: `period` - 1 slide, one is full.

    `window` is the architecture's own, used when the file names none; `forced` when it is used whatever the file says.
    """

    period: int
    full_first: bool = False
    window: int = 0
    forced: bool = False


_SLIDING = {
    "afmoe": _Sliding(4),
    "cohere2": _Sliding(4),
    "cohere2moe": _Sliding(4, full_first=True),
    "dots3note": _Sliding(0),
    "exaone-moe": _Sliding(4, window=128),
    "exaone4": _Sliding(4),
    "gemma2": _Sliding(2, window=4096),
    "gemma3": _Sliding(6),
    "gemma3n": _Sliding(5),
    "gemma4": _Sliding(0),
    "gpt-oss": _Sliding(2),
    "granite_swa": _Sliding(0),
    "laguna": _Sliding(4, full_first=True),
    "lfm2": _Sliding(0),
    "lfm2moe": _Sliding(0),
    "llama4": _Sliding(4, window=8192, forced=True),
    "maple": _Sliding(0),
    "mellum": _Sliding(4),
    "mimo2": _Sliding(0),
    "mlx": _Sliding(0),
    "muse-glimmer": _Sliding(4),
    "olmo2": _Sliding(4),
    "plamo3": _Sliding(8),
    "smallthinker": _Sliding(4, full_first=True, window=4096, forced=True),
    "spark2_5": _Sliding(0),
    "step35": _Sliding(0),
}
"""A period of 0 means that every layer slides unless the file lists them."""

_RECURRENT = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
_FULL_ATTENTION_INTERVAL = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4, "minimax-01": 8}
_RECURRENT_WITHOUT_KV_HEADS = {
    "bailingmoe3",
    "glm5-next",
    "granitehybrid",
    "jamba",
    "kimi-k3",
    "kimi-linear",
    "lfm2",
    "lfm2moe",
    "nemotron_h",
    "nemotron_h_moe",
    "plamo2",
}
_GATED_ATTENTION = {"qwen3next", "qwen35", "qwen35moe", "qwen4exp"}
_FEED_FORWARD_LAYERS = {"nemotron_h", "nemotron_h_moe"}
_ATTENTION_AND_STATE = {"falcon-h1"}
_SHARED_EXPERTS = {"llama4"}
"""Architectures with a shared expert that their files do not mention."""
_WITHOUT_CACHE = {
    "bert",
    "clef",
    "dream",
    "eurobert",
    "gemma-embedding",
    "gemma-embedding2",
    "jina-bert-v2",
    "jina-bert-v3",
    "llada",
    "llada-moe",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "rnd1",
    "t5encoder",
    "wavtokenizer-dec",
}
_INDEXED = {"deepseek32", "dots3note", "glm-dsa", "glm5-next", "hy_v4", "minimax-m3", "qwen4exp"}
_UNKNOWN_CACHE = {"deepseek4", "dflash", "dots3note", "glm5-next", "graniteswitch", "hy_v4", "minimax-m3", "qwen4exp"}
_LISTED = {"mlx"}
"""What MLX models are described as: all their layers are listed, and no rule of llama.cpp's applies to them."""
_FUSED_HEAD_DIMS = {64, 80, 128}
"""Widths of a head for which MLX's fused attention reads a prompt without holding its scores."""
_GEMMA3N_LAYERS_WITH_KV = 20
_MAX_LAYERS = 1024
"""Twice what llama.cpp accepts; a damaged header must not cost memory."""
_GUESSED_BYTES_PER_PARAMETER = 0.6
_GUESSED_KV_WIDTH = 12 * 128
_GUESSED_VOCABULARY = 152_064


class _Metadata:
    """The keys of one architecture, with llama.cpp's defaults. A value of an unexpected type counts as absent."""

    def __init__(self, metadata: Mapping[str, object], architecture: str) -> None:
        self.metadata = metadata
        self.architecture = architecture

    def number(self, key: str, default: int = 0) -> int:
        """One number; for a list, its largest."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, int):
            return _unsigned(value)
        return max(self._numbers(value), default=default)

    def per_layer(self, key: str, n_layers: int, default: Sequence[int]) -> list[int]:
        """One number per layer, from a list or a single number."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, int):
            return [_unsigned(value)] * n_layers
        numbers = self._numbers(value)
        return (numbers + [0] * n_layers)[:n_layers] if numbers else list(default)

    def listed(self, key: str, n_layers: int) -> list[bool] | None:
        """One flag per layer, when the file lists them."""
        numbers = self._numbers(self.metadata.get(f"{self.architecture}.{key}"))
        return [bool(number) for number in (numbers + [0] * n_layers)[:n_layers]] if numbers else None

    @staticmethod
    def _numbers(value: object) -> list[int]:
        if isinstance(value, list | tuple):
            return [_unsigned(item) for item in value if isinstance(item, int)]
        return []


def _unsigned(value: int) -> int:
    """What a 32-bit field can hold, whatever the file says."""
    return min(max(int(value), 0), 2**32 - 1)


def shape_from_metadata(
    metadata: Mapping[str, object], *, file_bytes: int, mmproj_bytes: int = 0, n_vocab: int | None = None
) -> ModelShape:
    """The shape of the model whose GGUF header says `metadata`.

    Give `n_vocab` when the vocabulary was skipped while reading the header; else it comes from the list of tokens.
    """
    architecture = str(metadata.get("general.architecture", ""))
    keys = _Metadata(metadata, architecture)
    n_all = min(keys.number("block_count"), _MAX_LAYERS)
    # Layers for multi-token prediction are counted among the others but have a cache of their own.
    n_draft = min(keys.number("nextn_predict_layers"), n_all)
    n_layers = n_all - n_draft
    n_embd = keys.number("embedding_length")
    heads = keys.per_layer("attention.head_count", n_all, [0] * n_all)
    # Files of models whose heads share no keys leave this out; llama.cpp then counts all heads.
    kv_heads = keys.per_layer("attention.head_count_kv", n_all, heads)
    recurrent = _recurrent_layers(keys, n_layers, kv_heads)
    sliding, window = _sliding_layers(keys, n_layers, recurrent)
    rows = _cache_rows(keys, n_embd, heads, kv_heads, sliding)
    owners = _layers_with_cache(keys, n_layers, recurrent)
    vocabulary = metadata.get("tokenizer.ggml.tokens")
    known_vocab = n_vocab or (len(vocabulary) if isinstance(vocabulary, list | tuple) else keys.number("vocab_size"))
    full = _indexed(keys, _sum_rows(rows, [il for il in owners if not sliding[il]]), n_layers)
    n_head = max(heads, default=0)
    attention_width, unfused_attention_width = _attention_widths(
        keys, n_embd, n_head, max(kv_heads, default=0), slides=any(sliding)
    )
    return ModelShape(
        architecture=architecture,
        n_layers=n_layers,
        n_embd=n_embd,
        n_vocab=known_vocab,
        n_head=n_head,
        context_length=keys.number("context_length"),
        full=full,
        sliding=_sum_rows(rows, [il for il in owners if sliding[il]]),
        draft=_sum_rows(rows, range(n_layers, n_all)),
        sliding_window=window,
        v_width_max=max((v for _, v in rows), default=0),
        residual_width=_residual_width(keys, n_embd, n_layers),
        attention_width=attention_width,
        unfused_attention_width=unfused_attention_width,
        steps=(*_feed_forward_steps(keys, n_embd), *_recurrent_steps(keys, n_embd)),
        delta_net=_delta_net(keys),
        n_recurrent_layers=sum(recurrent),
        recurrent_state_elements=sum(recurrent) * _state_elements(keys, n_embd, heads),
        has_cache=architecture not in _WITHOUT_CACHE and metadata.get("mlx.attention.causal") is not False,
        file_bytes=file_bytes,
        mmproj_bytes=mmproj_bytes,
        expert_share=_expert_share(keys),
        approximate=architecture in _UNKNOWN_CACHE or not n_layers or not n_embd or not known_vocab,
        lazy=architecture in _LISTED,
        scored_heads=0 if keys.number("attention.key_length") in _FUSED_HEAD_DIMS else n_head,
    )


def _recurrent_layers(keys: _Metadata, n_layers: int, kv_heads: Sequence[int]) -> list[bool]:
    """Which layers keep a fixed state instead of (or, in falcon-h1, beside) keys and values."""
    architecture = keys.architecture
    if architecture in _LISTED:
        return keys.listed("attention.recurrent_layers", n_layers) or [False] * n_layers
    if architecture in _RECURRENT or architecture in _ATTENTION_AND_STATE:
        return [True] * n_layers
    if architecture in _FULL_ATTENTION_INTERVAL:
        # Files that list the layers are right about them; the interval is what llama.cpp assumes of the others.
        listed = keys.listed("attention.recurrent_layers", n_layers)
        interval = max(1, keys.number("full_attention_interval", _FULL_ATTENTION_INTERVAL[architecture]))
        return listed or [(il + 1) % interval != 0 for il in range(n_layers)]
    if architecture in _RECURRENT_WITHOUT_KV_HEADS:
        # In these files a layer without key heads is recurrent; nemotron_h also has layers that only feed forward.
        feed_forward = keys.per_layer("feed_forward_length", n_layers, [0] * n_layers)
        if architecture not in _FEED_FORWARD_LAYERS:
            feed_forward = [0] * n_layers
        return [kv_heads[il] == 0 and feed_forward[il] == 0 for il in range(n_layers)]
    return [False] * n_layers


def _sliding_layers(keys: _Metadata, n_layers: int, recurrent: Sequence[bool]) -> tuple[list[bool], int]:
    """Which layers see only a window, and the window in tokens."""
    rule = _SLIDING.get(keys.architecture)
    none = [False] * n_layers
    if rule is None or (keys.architecture == "exaone4" and n_layers != 64):  # only the 32B slides
        return none, 0
    window = keys.number("attention.sliding_window", rule.window)
    if not window:
        return none, 0
    if rule.forced:
        window = rule.window
    # The same key is a list of flags in newer files and a period in older ones.
    listed = keys.listed("attention.sliding_window_pattern", n_layers)
    if listed is not None:
        return listed, window
    period = keys.number("attention.sliding_window_pattern", rule.period)
    if period == 0:
        return [not state for state in recurrent], window
    full_at = 0 if rule.full_first else period - 1
    return [il % period != full_at for il in range(n_layers)], window


def _cache_rows(
    keys: _Metadata, n_embd: int, heads: Sequence[int], kv_heads: Sequence[int], sliding: Sequence[bool]
) -> list[tuple[int, int]]:
    """Elements of one key row and one value row, layer by layer. With latent attention (MLA) the keys hold all."""
    # Recurrent layers have 0 heads, so the width of a head is told by the first layer that has any.
    first_heads = next((count for count in heads if count), 0)
    head_dim = n_embd // first_heads if first_heads else 0
    k_dim, v_dim = keys.number("attention.key_length", head_dim), keys.number("attention.value_length", head_dim)
    k_dim_sliding = keys.number("attention.key_length_swa", k_dim)
    v_dim_sliding = keys.number("attention.value_length_swa", v_dim)
    # With latent attention llama.cpp caches one compressed row, as keys; values are made from it when needed.
    latent = keys.number("attention.key_length_mla") > 0
    rows = []
    for il, count in enumerate(kv_heads):
        # Draft layers come after those that `sliding` knows, and see everything.
        slides = il < len(sliding) and sliding[il]
        k_row = count * (k_dim_sliding if slides else k_dim)
        rows.append((k_row, 0 if latent else count * (v_dim_sliding if slides else v_dim)))
    return rows


def _layers_with_cache(keys: _Metadata, n_layers: int, recurrent: Sequence[bool]) -> list[int]:
    """Layers that own keys and values: not the recurrent ones, not those that reuse an earlier layer's."""
    architecture = keys.architecture
    if architecture in _LISTED:
        kv_heads = keys.per_layer("attention.head_count_kv", n_layers, [0] * n_layers)
        return [il for il in range(n_layers) if kv_heads[il]]
    if architecture in _RECURRENT or architecture in _WITHOUT_CACHE:
        return []
    # Gemma 3n and Gemma 4: the last layers read the keys and values of an earlier one.
    owning = n_layers
    if architecture == "gemma3n":
        owning = min(n_layers, _GEMMA3N_LAYERS_WITH_KV)
    elif architecture == "gemma4":
        owning = n_layers - keys.number("attention.shared_kv_layers")
    if architecture in _FEED_FORWARD_LAYERS:
        feed_forward = keys.per_layer("feed_forward_length", n_layers, [0] * n_layers)
        return [il for il in range(owning) if not recurrent[il] and feed_forward[il] == 0]
    return [il for il in range(owning) if not recurrent[il] or architecture in _ATTENTION_AND_STATE]


def _sum_rows(rows: Sequence[tuple[int, int]], layers: Sequence[int]) -> CacheLayers:
    return CacheLayers(
        count=len(layers),
        k_width=sum(rows[il][0] for il in layers),
        v_width=sum(rows[il][1] for il in layers),
    )


def _indexed(keys: _Metadata, full: CacheLayers, n_layers: int) -> CacheLayers:
    """`full` with the key row that a sparse-attention indexer adds to each of its layers."""
    if keys.architecture not in _INDEXED:
        return full
    width = keys.number("attention.indexer.key_length")
    listed = keys.listed("attention.indexer.types", n_layers)
    indexers = sum(listed) if listed is not None else full.count
    return CacheLayers(count=full.count, k_width=full.k_width + indexers * width, v_width=full.v_width)


def _state_elements(keys: _Metadata, n_embd: int, heads: Sequence[int]) -> int:
    """Elements one recurrent layer keeps for one sequence: convolution window and state (`n_embd_r`, `n_embd_s`)."""
    # No key names the family (RWKV, short convolutions, KDA, Mamba); which keys a file has tells it.
    n_head = heads[0] if heads else 0
    if head_size := keys.number("wkv.head_size"):
        return keys.number("token_shift_count", 2) * n_embd + n_embd * head_size
    if window := keys.number("shortconv.l_cache"):
        return n_embd * (window - 1)
    convolution = max(keys.number("ssm.conv_kernel") - 1, 0)
    if head_dim := keys.number("kda.head_dim"):
        return 3 * (convolution or 3) * n_head * head_dim + head_dim * head_dim * n_head
    if keys.architecture == "minimax-01":
        head_dim = keys.number("attention.key_length", n_embd // n_head if n_head else 0)
        return head_dim * head_dim * n_head
    inner, state = keys.number("ssm.inner_size"), keys.number("ssm.state_size")
    return convolution * (inner + 2 * keys.number("ssm.group_count") * state) + state * inner


def _residual_width(keys: _Metadata, n_embd: int, n_layers: int) -> int:
    """Five rows; where every layer has an input of its own (Gemma 3n, 4 E), all of those and two rows to make them."""
    if per_layer := keys.number("embedding_length_per_layer_input"):
        return 7 * n_embd + per_layer * n_layers
    return 5 * n_embd


def _attention_widths(keys: _Metadata, n_embd: int, n_head: int, n_kv_heads: int, *, slides: bool) -> tuple[int, int]:
    """Queries, gates and results of one token, with and without flash attention."""
    head_dim = keys.number("attention.key_length", n_embd // n_head if n_head else 0)
    queries = n_head * head_dim
    if own_width := keys.number("attention.key_length_mla"):
        # The queries before they are made latent stay as well, unless the latent ones fit into their place.
        return (2 * queries + (n_head * own_width if head_dim > own_width else 0),) * 2
    gates = queries if keys.architecture in _GATED_ATTENTION else 0
    # Where most heads have keys of their own, these and the values are wider than the results that come later. Keys
    # are held twice while they get their positions, except by models that are planned in another order.
    rows = 2 if slides or keys.architecture in _FEED_FORWARD_LAYERS else 3
    beside = max(queries + gates, gates + rows * n_kv_heads * head_dim)
    return queries + gates + beside, queries + gates + (queries if queries > n_embd else 0)


def _feed_forward_steps(keys: _Metadata, n_embd: int) -> tuple[ComputeStep, ...]:
    """Gate, up and their product; of every expert used, and with narrow experts their results beside them.

    Another row where two branches run side by side: shared experts, or state beside attention.
    """
    width = keys.number("feed_forward_length")
    dense = ComputeStep(3 * width + (n_embd if keys.architecture in _ATTENTION_AND_STATE else 0))
    # The dense step stays in the list: the first layers of many expert models have no experts.
    used = keys.number("expert_used_count")
    if not used:
        return (dense,)
    expert_width = keys.number("expert_feed_forward_length", width)
    results = n_embd if 2 * expert_width < n_embd else 0
    shared = keys.number("expert_shared_count") or keys.number("expert_shared_feed_forward_length")
    beside = n_embd if shared or keys.architecture in _SHARED_EXPERTS else 0
    return (dense, ComputeStep(used * (3 * expert_width + results) + beside))


def _expert_share(keys: _Metadata) -> float:
    used, count = keys.number("expert_used_count"), keys.number("expert_count")
    if not count:
        return 0.0 if used else 1.0  # of so many that nobody says how many: the weights then count for nothing
    return min(1.0, max(1, used) / count)


def _recurrent_steps(keys: _Metadata, n_embd: int) -> tuple[ComputeStep, ...]:
    """The convolved inputs and copies of the state of one recurrent layer, gated delta nets apart."""
    inner, state = keys.number("ssm.inner_size"), keys.number("ssm.state_size")
    if not inner or keys.architecture in _FULL_ATTENTION_INTERVAL:
        return ()
    convolved = inner + 2 * keys.number("ssm.group_count") * state
    projected = inner + convolved + keys.number("ssm.time_step_rank")
    return (ComputeStep(n_embd + projected + 2 * convolved + inner, state * inner + 3 * convolved),)


def _delta_net(keys: _Metadata) -> DeltaNet | None:
    inner, state = keys.number("ssm.inner_size"), keys.number("ssm.state_size")
    if not inner or keys.architecture not in _FULL_ATTENTION_INTERVAL:
        return None
    return DeltaNet(convolved=inner + 2 * keys.number("ssm.group_count") * state, state=state * inner)


def shape_from_listing(
    *,
    size_bytes: int,
    max_context_length: int,
    architecture: str | None = None,
    lazy: bool = False,
) -> ModelShape:
    """A shape when only a listing is known: a dense model of this size with wide caches, `approximate`.

    Layers and width follow the usual proportions: parameters = 12 * layers * width^2, width = 128 * layers. The keys of
    a layer are taken as 12 heads of 128, more than the usual 8, so that 19 of 20 public models need less than this.
    """
    parameters = size_bytes / _GUESSED_BYTES_PER_PARAMETER
    n_layers = max(12, min(96, round((parameters / (12 * 128**2)) ** (1 / 3))))
    n_embd = 128 * n_layers
    width = n_layers * _GUESSED_KV_WIDTH
    return ModelShape(
        architecture=architecture or "",
        n_layers=n_layers,
        n_embd=n_embd,
        n_vocab=_GUESSED_VOCABULARY,
        n_head=n_layers,
        context_length=max_context_length,
        full=CacheLayers(count=n_layers, k_width=width, v_width=width),
        v_width_max=_GUESSED_KV_WIDTH,
        residual_width=5 * n_embd,
        attention_width=2 * n_embd,
        unfused_attention_width=n_embd,
        steps=(ComputeStep(3 * 4 * n_embd),),
        file_bytes=size_bytes,
        approximate=True,
        lazy=lazy,
    )
