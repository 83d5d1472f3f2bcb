"""What one more model may take, and what a loaded one takes, as the engine sees it on the machine it runs on.

A control group counts what is resident, a limit of the address space counts what is reserved, and both hold for
children too. So the budget and the reading of an instance are taken of the kind that limited its load.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lmstrix.core.memory.host import address_space_limit, read_host_memory
from lmstrix.engine.estimate import HOST_RESERVE_BYTES
from lmstrix.engine.llama.process_memory import process_memory
from lmstrix.ground.types import InstanceMemory, MemoryLimit, ServerMemory

if TYPE_CHECKING:
    from lmstrix.engine.llama.idle import IdleChild
    from lmstrix.engine.llama.process import LlamaProcess


def server_memory(idle: IdleChild | None, *, limit_bytes: int | None, in_use_bytes: int) -> ServerMemory:
    """The least of what limits a further model now; `limit_bytes` is the engine's own, None where it has none.

    `idle` tells what a child takes by itself, and is None where none starts: then nothing can be loaded.
    """
    from lmstrix.core.history.processes import boot_identity

    limited_by, available = min(_rooms(idle, limit_bytes, in_use_bytes).items(), key=lambda room: room[1])
    return ServerMemory(available_bytes=max(0, available), limited_by=limited_by, boot_id=boot_identity())


def _rooms(idle: IdleChild | None, limit_bytes: int | None, in_use_bytes: int) -> dict[MemoryLimit, int]:
    host = read_host_memory(with_gpus=False)
    cards = idle.free_card_bytes if idle is not None else ()
    rooms: dict[MemoryLimit, int] = {}
    # Beside a card main memory holds little of a model, except where the two are one.
    if not cards or sys.platform == "darwin":
        # Without a limit of its own the engine's guardrail leaves the machine a reserve.
        rooms[host.limited_by] = host.available_bytes - (HOST_RESERVE_BYTES if limit_bytes is None else 0)
    if cards:
        rooms["graphics card"] = sum(cards)
    if limit_bytes is not None:
        rooms["memory limit"] = limit_bytes - in_use_bytes
    address_space = address_space_limit()
    if address_space is not None:
        # Each child has this limit for itself, whatever the others have taken.
        rooms["address space"] = address_space - idle.address_space_bytes if idle is not None else 0
    return rooms


def instance_memory(process: LlamaProcess, limited_by: MemoryLimit, idle: IdleChild | None) -> InstanceMemory:
    """What a child takes now, measured as `limited_by` measures it."""
    now, loaded, buffers = process_memory(process.pid), process.memory_when_loaded, process.buffers
    compute_bytes = buffers.of_kind("compute")
    if limited_by == "address space":
        memory_bytes = now.peak_address_space_bytes - (idle.address_space_bytes if idle is not None else 0)
    elif limited_by == "graphics card":
        memory_bytes = buffers.on_cards_bytes
    else:
        # Of the compute buffer a load touches nothing; a long prompt comes to touch all of it.
        memory_bytes = max(now.peak_resident_bytes, loaded.peak_resident_bytes + compute_bytes)
    return InstanceMemory(
        memory_bytes=memory_bytes,
        limited_by=limited_by,
        weights_bytes=buffers.of_kind("model"),
        kv_cache_bytes=buffers.of_kind("KV"),
        recurrent_state_bytes=buffers.of_kind("RS"),
        compute_buffer_bytes=compute_bytes,
        resident_bytes=now.resident_bytes,
        peak_resident_bytes=now.peak_resident_bytes,
    )
