"""What is unusual about how an instance was loaded: what changes its answers, their speed or their room. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lmstrix.ground.units import counted

if TYPE_CHECKING:
    from lmstrix.ground.loads import LoadConfig

# llama.cpp's default for the tokens of one physical batch, and what LM Studio and the embedded engine load with.
_USUAL_BATCH_TOKENS = 512


def unusual(load: LoadConfig, *, engine: Literal["lmstudio", "embedded"]) -> tuple[str, ...]:
    """What of these settings a load that asks for nothing would not have, in words; nothing where they are as usual.

    Threads and locked or mapped weights are left out, whose defaults differ between servers and machines.
    """
    caches = (("K", load.k_cache_type), ("V", load.v_cache_type))
    words = [f"{name} cache {kind}" for name, kind in caches if kind not in (None, "f16", "bf16")]
    if load.gpu_ratio is not None and load.gpu_ratio < 1:
        words.append(f"GPU share {load.gpu_ratio:.0%}")
    if load.offload_kv_cache is False:
        words.append("KV cache kept off the GPU")
    # A context shorter than a batch is read at once: that is no choice of anybody's.
    usual_tokens = min(_USUAL_BATCH_TOKENS, load.context_length or _USUAL_BATCH_TOKENS)
    if load.eval_batch_size is not None and load.eval_batch_size < usual_tokens:
        words.append(f"batch of {counted(load.eval_batch_size, 'token')}")
    # Slots with a cache in common share its room as they need it; others have their part of it each, and no more.
    if load.parallel_slots > 1 and load.unified_kv is False:
        words.append(f"{load.parallel_slots} slots that divide its context")
    # The embedded engine's default; LM Studio's is without, or with it, by version and hardware.
    if load.flash_attention is False and engine == "embedded":
        words.append("no flash attention")
    if load.rope_frequency_base:
        words.append(f"RoPE base {load.rope_frequency_base:g}")
    if load.rope_frequency_scale not in (None, 0, 1):
        words.append(f"RoPE scale {load.rope_frequency_scale:g}")
    return tuple(words)
