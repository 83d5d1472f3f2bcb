"""What one more model may take, and what a loaded one takes, as the engine sees it on the machine it runs on.

A control group counts what is resident, a limit of the address space counts what is reserved, and both hold for
children too. So the budget and the reading of an instance are taken of the kind that limited its load.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lmstrix.core.memory.host import address_space_limit
from lmstrix.engine.estimate import host_room_bytes
from lmstrix.engine.llama.process_memory import process_memory
from lmstrix.ground.types import InstanceMemory, MemoryLimit, ServerMemory

if TYPE_CHECKING:
    from lmstrix.engine.instance import Instance
    from lmstrix.engine.llama.idle import IdleChild


def server_memory(idle: IdleChild | None, *, limit_bytes: int | None, in_use_bytes: int) -> ServerMemory:
    """What limits a further model now; `limit_bytes` is the engine's own limit, None where it has none.

    Without one the engine's guardrail leaves the machine a reserve, and so nothing more is available.

    `idle` tells what a child takes by itself, and is None where none starts: then nothing can be loaded.
    """
    from lmstrix.ground.machine import boot_id

    machine_limited_by, machine_bytes = min(
        _rooms(idle, reserved=limit_bytes is None, in_use_bytes=in_use_bytes).items(), key=lambda room: room[1]
    )
    limited_by, available_bytes = machine_limited_by, machine_bytes
    if limit_bytes is not None and limit_bytes - in_use_bytes < available_bytes:
        limited_by, available_bytes = "memory limit", limit_bytes - in_use_bytes
    return ServerMemory(
        available_bytes=max(0, available_bytes),
        limited_by=limited_by,
        machine_bytes=max(0, machine_bytes),
        machine_limited_by=machine_limited_by,
        boot_id=boot_id(),
    )


def _rooms(idle: IdleChild | None, *, reserved: bool, in_use_bytes: int) -> dict[MemoryLimit, int]:
    """What each limit of the machine leaves; when `reserved`, its other programs keep a part of main memory."""
    cards = idle.free_card_bytes if idle is not None else ()
    rooms: dict[MemoryLimit, int] = {}
    # Beside a card main memory holds little of a model, except where the two are one.
    if not cards or sys.platform == "darwin":
        limited_by, room_bytes = host_room_bytes(reserved=reserved, in_use_bytes=in_use_bytes)
        rooms[limited_by] = room_bytes
    else:
        rooms["graphics card"] = sum(cards)
    address_space = address_space_limit()
    if address_space is not None:
        # Each child has this limit for itself, whatever the others have taken.
        rooms["address space"] = address_space - idle.address_space_bytes if idle is not None else 0
    return rooms


def instance_memory(instance: Instance, idle: IdleChild | None) -> InstanceMemory:
    """What an instance takes now, measured as what limited its load measures it."""
    process, limited_by = instance.process, instance.limited_by
    now, loaded, buffers = process_memory(process.pid), process.memory_when_loaded, process.buffers
    compute_bytes = buffers.of_kind("compute")
    if limited_by == "address space":
        memory_bytes = now.peak_address_space_bytes - (idle.address_space_bytes if idle is not None else 0)
    elif limited_by == "graphics card":
        memory_bytes = buffers.on_cards_bytes
    else:
        # Of the compute buffer a load touches nothing; a long prompt comes to touch all of it.
        later = compute_bytes + instance.touched_later_bytes
        memory_bytes = max(now.peak_resident_bytes, loaded.peak_resident_bytes + later)
    return InstanceMemory(
        memory_bytes=memory_bytes,
        limited_by=limited_by,
        weights_bytes=buffers.of_kind("model"),
        kv_cache_bytes=buffers.of_kind("KV"),
        recurrent_state_bytes=buffers.of_kind("RS"),
        compute_buffer_bytes=compute_bytes,
        resident_bytes=now.resident_bytes,
        peak_resident_bytes=now.peak_resident_bytes,
        gpu_layers=buffers.gpu_layers,
        all_layers=buffers.all_layers,
    )
