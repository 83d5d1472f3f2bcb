"""What holds for models that LM Studio runs with MLX: load settings that are llama.cpp's alone mean nothing to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.types import LoadConfig

_WHY = {
    "flash_attention": "MLX has its own attention",
    # Of LM Studio's own (`llm.load.mlx.kvCacheQuantization`) K and V share the bits, in groups of other sizes and only
    # from some token on: none of it is what these types ask for.
    "k_cache_type": "MLX quantises its cache in another way, which LM Studio's settings choose",
    "v_cache_type": "MLX quantises its cache in another way, which LM Studio's settings choose",
    "gpu_ratio": "MLX runs all of a model on the GPU",
}


def without_effect(record: ModelRecord, load: LoadConfig) -> str | None:
    """What of `load` an MLX model would ignore, and why, in one line; None where all of it is heeded."""
    asked = {
        "flash_attention": load.flash_attention,
        "k_cache_type": load.k_cache_type,
        "v_cache_type": load.v_cache_type,
        "gpu_ratio": load.gpu_ratio,
    }
    ignored = [name for name, value in asked.items() if value is not None]
    if not ignored or not record.is_mlx:
        return None
    names = " and ".join(parameter(name) for name in ignored)
    have = "has" if len(ignored) == 1 else "have"
    why = "; ".join(dict.fromkeys(_WHY[name] for name in ignored))
    them = "it" if len(ignored) == 1 else "them"
    return f"{names} {have} no effect on {record.model_key}, an MLX model: {why}; leave {them} out"


def check_settings(record: ModelRecord, load: LoadConfig) -> None:
    """Raise UsageError where `load` asks an MLX model for what it would ignore."""
    problem = without_effect(record, load)
    if problem is not None:
        raise UsageError(problem)
