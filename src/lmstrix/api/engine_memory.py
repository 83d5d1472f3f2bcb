"""What an embedded engine tells of memory, over its own REST paths. Whatever goes wrong, it has told nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, get_args
from urllib.parse import quote

from lmstrix.api.convert import JsonView, count_of, text_of
from lmstrix.api.http_client import open_http, read
from lmstrix.ground.types import InstanceMemory, MemoryLimit, MemoryShortage, ServerInfo, ServerMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.ground.access import ServerAccess

_LIMIT_S = 10.0  # the first answer starts a process on the server, which on a busy machine may take seconds
_LIMITS: tuple[MemoryLimit, ...] = get_args(MemoryLimit)

_T = TypeVar("_T")


async def server_memory(server: ServerInfo, *, access: ServerAccess) -> ServerMemory | None:
    """What one more model may take on this server; None unless it is an engine that tells."""
    return await _told(server, access, "/api/lmstrix/memory", _server_memory)


async def instance_memory(server: ServerInfo, instance_id: str, *, access: ServerAccess) -> InstanceMemory | None:
    """What this instance takes; None unless the server is an engine that tells."""
    return await _told(server, access, f"/api/lmstrix/memory/instance?{_query(instance_id)}", read_instance_memory)


async def memory_shortage(server: ServerInfo, instance_id: str, *, access: ServerAccess) -> MemoryShortage | None:
    """How this instance was ended for lack of memory; None unless the server is an engine that tells."""
    return await _told(server, access, f"/api/lmstrix/memory/shortage?{_query(instance_id)}", _memory_shortage)


def _query(instance_id: str) -> str:
    return f"instance_id={quote(instance_id, safe='')}"


async def _told(
    server: ServerInfo, access: ServerAccess, path: str, convert: Callable[[JsonView], _T | None]
) -> _T | None:
    # LM Studio has no such path, and answers unknown ones with a warning in its log.
    if server.engine != "embedded":
        return None
    import httpx

    try:
        async with open_http(server.http_url, access=access) as client:
            response = await read(client, path, limit_s=_LIMIT_S, retries=access.retries)
        body = response.json() if response.status_code == 200 else None  # an engine of an earlier version: 404
    except (httpx.HTTPError, TimeoutError, ValueError):
        return None
    return convert(body) if isinstance(body, dict) else None


def _server_memory(body: JsonView) -> ServerMemory | None:
    available, machine = count_of(body, "available_bytes"), count_of(body, "machine_bytes")
    limited_by, machine_limited_by = _limit_of(body, "limited_by"), _limit_of(body, "machine_limited_by")
    boot_id = text_of(body, "boot_id")
    if available is None or machine is None or limited_by is None or machine_limited_by is None or boot_id is None:
        return None
    return ServerMemory(
        available_bytes=available,
        limited_by=limited_by,
        machine_bytes=machine,
        machine_limited_by=machine_limited_by,
        boot_id=boot_id,
        headroom_bytes=count_of(body, "headroom_bytes") or 0,
    )


def read_instance_memory(body: JsonView) -> InstanceMemory | None:
    memory, limited_by = count_of(body, "memory_bytes"), _limit_of(body, "limited_by")
    # A child that has just ended holds nothing, which is no reading of the model.
    if not memory or limited_by is None:
        return None
    return InstanceMemory(
        memory_bytes=memory,
        limited_by=limited_by,
        weights_bytes=count_of(body, "weights_bytes") or 0,
        kv_cache_bytes=count_of(body, "kv_cache_bytes") or 0,
        recurrent_state_bytes=count_of(body, "recurrent_state_bytes") or 0,
        compute_buffer_bytes=count_of(body, "compute_buffer_bytes") or 0,
        resident_bytes=count_of(body, "resident_bytes") or 0,
        peak_resident_bytes=count_of(body, "peak_resident_bytes") or 0,
        gpu_layers=count_of(body, "gpu_layers"),
        all_layers=count_of(body, "all_layers"),
    )


def _memory_shortage(body: JsonView) -> MemoryShortage | None:
    held, grew = count_of(body, "held_bytes"), count_of(body, "grew_bytes")
    return None if not held or grew is None else MemoryShortage(held_bytes=held, grew_bytes=grew)


def _limit_of(body: JsonView, name: str) -> MemoryLimit | None:
    told = body.get(name)
    return next((limit for limit in _LIMITS if limit == told), None)
