"""How a model is loaded, and where a result was measured: of `ground.types`, what the registry alone needs.

Making the other records takes a third of the time in which `lmstrix list` starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lmstrix.ground.choices import CacheType  # noqa: TC001 - pydantic resolves the annotations at run time

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadConfig:
    """How to load a model. `context_length` in tokens. None leaves a choice to the server, such as its default context.

    `gpu_ratio` is the share of layers on the GPU, 0..1. `eval_batch_size` are the tokens of a prompt read at a time,
    `threads` those of the processor, `keep_in_memory` locks the weights in memory, so that none are swapped out.
    Auto-fit is always switched off when this is sent.
    """

    context_length: int | None
    gpu_ratio: float | None = None
    k_cache_type: CacheType | None = None
    v_cache_type: CacheType | None = None
    flash_attention: bool | None = None
    # Never left to the server: LM Studio's default is 4, and each slot takes memory of its own.
    parallel_slots: int = 1
    unified_kv: bool | None = None
    eval_batch_size: int | None = None
    offload_kv_cache: bool | None = None
    rope_frequency_base: float | None = None
    rope_frequency_scale: float | None = None
    mmap: bool | None = None
    keep_in_memory: bool | None = None
    threads: int | None = None
    seed: int | None = None


DEFAULT_LOAD = LoadConfig(context_length=None)
"""Nothing asked for: every choice is the server's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where, and with what load settings, a stored result was measured. `host` is the machine of the server."""

    engine: str
    engine_version: str | None = None
    address: str | None = None
    host: str | None = None
    load: LoadConfig = DEFAULT_LOAD
    details: Mapping[str, Any] = field(default_factory=dict)
