"""What a load will take, whether that is allowed, and the settings a load really gets. Pure, but it looks at the host.

The limit is on arithmetic, not on what a process happens to use: every loaded model counts with its predicted bytes, so
that the longest context that loads is well defined, the same each time, and grows with the limit.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lmstrix.core.memory.fit import LoadBreakdown, load_breakdown
from lmstrix.core.memory.host import read_host_memory
from lmstrix.core.memory.runtime import EMBEDDED, EMBEDDED_ADDRESS_SPACE, NODE_BYTES_TOUCHED_LATER, graph_nodes
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.records import CatalogEntry, LoadEstimate, LoadSettings
from lmstrix.ground.headroom import NO_HEADROOM

if TYPE_CHECKING:
    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.ground.headroom import Headroom
    from lmstrix.ground.types import MemoryLimit

_ONE_THREAD_BYTES = 64 * 2**20
"""Models smaller than this decode fastest on one thread: handing work over costs more than it saves."""
_HOST_RESERVE_BYTES = 256 * 2**20
"""Left to the rest of the machine when no limit was set."""


def effective_settings(entry: CatalogEntry, settings: LoadSettings, *, default_context_length: int) -> LoadSettings:
    """`settings` with every choice made. Raises `EngineFault` "invalid" for what the model cannot do.

    A context above the declared one is refused: llama.cpp would allocate it and then use only what the model declares.
    """
    declared = entry.max_context_length
    context_length = settings.context_length
    if context_length is None:
        context_length = min(default_context_length, declared) if declared else default_context_length
    if context_length < 1 or (declared and context_length > declared):
        raise EngineFault(
            "Failed to load model",
            kind="invalid",
            cause=f"{context_length} tokens of context were asked for; {entry.model_key} takes 1 to {declared}.",
            error_data={"contextLength": context_length, "maxContextLength": declared},
        )
    batch = settings.eval_batch_size
    ubatch = min(settings.physical_batch_size, batch)
    if entry.kind == "embedding":  # an encoder sees its whole input at once
        batch = ubatch = max(context_length, batch)
    return dataclasses.replace(
        settings,
        context_length=context_length,
        eval_batch_size=batch,
        physical_batch_size=ubatch,
        threads=settings.threads or default_threads(entry.size_bytes),
    )


def default_threads(model_bytes: int) -> int:
    """One for tiny models, else the physical cores this process may use."""
    import os

    import psutil

    if model_bytes < _ONE_THREAD_BYTES:
        return 1
    # A container or `taskset` may allow fewer processors than the machine has.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Hyper-threads share the arithmetic units that decoding keeps busy, so they only add waiting.
    return max(1, min(usable, psutil.cpu_count(logical=False) or usable))


def load_parts(shape: ModelShape, settings: LoadSettings) -> LoadBreakdown:
    """The load's bytes, part by part; `settings` are effective."""
    assert settings.context_length is not None
    return load_breakdown(
        shape,
        allocated_context(settings),
        k_type=settings.k_cache_type or "f16",
        v_type=settings.v_cache_type or "f16",
        slots=settings.parallel_slots,
        unified=settings.unified_kv,
        ubatch=settings.physical_batch_size,
        flash_attention=settings.flash_attention is not False,
        runtime=dataclasses.replace(EMBEDDED, context_checkpoints=settings.context_checkpoints),
    )


def allocated_context(settings: LoadSettings) -> int:
    """The context llama.cpp is told to allocate. It divides that among slots without a shared cache; each gets all."""
    assert settings.context_length is not None
    return settings.context_length * (1 if settings.unified_kv else settings.parallel_slots)


def graph_bytes(shape: ModelShape, settings: LoadSettings) -> int:
    """Address space that the tables of llama.cpp's graphs take; `settings` are effective."""
    return EMBEDDED_ADDRESS_SPACE.bytes_per_graph_node * _nodes(shape, settings)


def graph_bytes_touched_later(shape: ModelShape, settings: LoadSettings) -> int:
    """What of these tables becomes resident with the first prompt; `settings` are effective."""
    return NODE_BYTES_TOUCHED_LATER * _nodes(shape, settings)


def _nodes(shape: ModelShape, settings: LoadSettings) -> int:
    assert settings.context_length is not None
    return graph_nodes(shape, batch=min(settings.physical_batch_size, settings.context_length))


def gpu_layers(shape: ModelShape, ratio: float | None) -> int | None:
    """How many layers a share of the model is; llama.cpp counts the output as one more. None leaves it to llama.cpp."""
    return None if ratio is None else round(ratio * (shape.n_layers + 1))


def estimate_load(
    shape: ModelShape,
    settings: LoadSettings,
    *,
    limit_bytes: int | None,
    in_use_bytes: int,
    headroom: Headroom = NO_HEADROOM,
) -> LoadEstimate:
    """Bytes by part and the verdict. Without a limit, what the host has available is one; the headroom stays free."""
    parts = load_parts(shape, settings)
    assert settings.context_length is not None
    # What loaded models take is already missing from what the host has available; from a limit it is not.
    room = (
        host_room_bytes(reserved=True, in_use_bytes=in_use_bytes)[1]
        if limit_bytes is None
        else limit_bytes - in_use_bytes
    )
    return LoadEstimate(
        model_bytes=parts.weights_bytes + parts.projector_bytes + parts.runtime_overhead_bytes,
        context_bytes=parts.context_bytes,
        total_bytes=parts.total_bytes,
        passes_guardrails=parts.total_bytes <= room - headroom.of(room),
        confidence="low" if parts.approximate else "high",
        context_length=settings.context_length,
        limit_bytes=limit_bytes,
        in_use_bytes=in_use_bytes,
    )


def host_room_bytes(*, reserved: bool, in_use_bytes: int) -> tuple[MemoryLimit, int]:
    """What main memory leaves for models, and what limits it; `reserved` leaves the machine's other programs a part.

    `in_use_bytes` of the models already loaded are missing from what is available, but not from the share that graphics
    without memory of their own may use.
    """
    host = read_host_memory(with_gpus=False)
    # A control group is there for this engine alone: nobody else needs a part of it.
    reserve_bytes = _HOST_RESERVE_BYTES if reserved and host.limited_by == "host" else 0
    rooms: dict[MemoryLimit, int] = {host.limited_by: host.available_bytes - reserve_bytes}
    if host.working_set_bytes is not None:
        rooms["graphics card"] = host.working_set_bytes - in_use_bytes
    return min(rooms.items(), key=lambda room: room[1])


def guardrail_fault(estimate: LoadEstimate) -> EngineFault:
    """The refusal, worded as LM Studio words it."""
    return EngineFault(
        "Model loading was stopped due to insufficient system resources. Under the current settings, this model "
        f"requires approximately {estimate.total_bytes / 1e9:.2f} GB of memory, and continuing to load it would likely "
        "overload your system and cause it to freeze. If you think this is incorrect, you can adjust the model loading "
        "guardrails in settings.",
        kind="refused",
        error_data={
            "requiredBytes": estimate.total_bytes,
            "limitBytes": estimate.limit_bytes,
            "inUseBytes": estimate.in_use_bytes,
            "contextLength": estimate.context_length,
        },
    )
