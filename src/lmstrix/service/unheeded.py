"""Load settings that a model would not heed: some of llama.cpp's text models mean nothing to MLX or embedding ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.loads import LoadConfig

_LLAMA_ONLY = "LM Studio has that setting for llama.cpp alone"
_MLX = {
    "flash_attention": "MLX has its own attention",
    # Of LM Studio's own (`llm.load.mlx.kvCacheQuantization`) K and V share the bits, in groups of other sizes and only
    # from some token on: none of it is what these types ask for.
    "k_cache_type": "MLX quantizes its cache in another way, which LM Studio's settings choose",
    "v_cache_type": "MLX quantizes its cache in another way, which LM Studio's settings choose",
    "gpu_ratio": "MLX runs all of a model on the GPU",
    "eval_batch_size": _LLAMA_ONLY,
    "threads": _LLAMA_ONLY,
    "keep_in_memory": _LLAMA_ONLY,
}
# llama.cpp reads a quantized V cache in its flash attention alone: "quantized V cache requires flash_attn".
_UNQUANTIZED = ("f32", "f16", "bf16")
_NOT_FOR_EMBEDDINGS = "LM Studio has that setting for models that generate text alone"
_EMBEDDING = dict.fromkeys(
    ("flash_attention", "k_cache_type", "v_cache_type", "threads", "parallel_slots"), _NOT_FOR_EMBEDDINGS
)


def without_effect(record: ModelRecord, load: LoadConfig) -> str | None:
    """What of `load` the model would ignore, and why, in one line; None where all of it is heeded."""
    unheeded: Mapping[str, str] = _MLX if record.is_mlx else _EMBEDDING if record.kind == "embedding" else {}
    asked = {
        "flash_attention": load.flash_attention,
        "k_cache_type": load.k_cache_type,
        "v_cache_type": load.v_cache_type,
        "gpu_ratio": load.gpu_ratio,
        "eval_batch_size": load.eval_batch_size,
        "threads": load.threads,
        "keep_in_memory": load.keep_in_memory,
        "parallel_slots": None if load.parallel_slots == 1 else load.parallel_slots,
    }
    ignored = [name for name, value in asked.items() if value is not None and name in unheeded]
    if not ignored:
        return None
    names = " and ".join(parameter(name) for name in ignored)
    have = "has" if len(ignored) == 1 else "have"
    why = "; ".join(dict.fromkeys(unheeded[name] for name in ignored))
    them = "it" if len(ignored) == 1 else "them"
    kind = "MLX" if record.is_mlx else "embedding"
    return f"{names} {have} no effect on {record.model_key}, an {kind} model: {why}; leave {them} out"


def _at_odds(load: LoadConfig) -> str | None:
    if load.flash_attention is not False or load.v_cache_type in (None, *_UNQUANTIZED):
        return None
    return (
        f"{parameter('v_cache_type', load.v_cache_type)} needs flash attention: "
        f"leave out {parameter('flash_attention', False)}"
    )


def check_settings(record: ModelRecord, load: LoadConfig) -> None:
    """Raise UsageError where `load` asks the model for what it would ignore, or could not be loaded with."""
    problem = without_effect(record, load) or _at_odds(load)
    if problem is not None:
        raise UsageError(problem)
