"""Graphics adapters as Windows knows them, of every maker and without any maker's library.

DXGI describes each adapter, with the budget that Windows gives one process of its memory. What all programs together
use, the performance counters "GPU Adapter Memory" tell. The shared part is main memory: what a driver moves there
when its card is full. Programs go on then, many times slower, and nothing fails.

The interfaces of DXGI are called by their place in the table of functions that each object begins with.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from lmstrix.core.windows_counters import open_counters

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Function = Callable[..., int]
    Prototype = Callable[..., Callable[[int], Function]]
    """ctypes.WINFUNCTYPE: of the types of the result and the parameters, what makes functions of addresses."""

_SOFTWARE_FLAG = 2  # DXGI_ADAPTER_FLAG_SOFTWARE
_MICROSOFT = 0x1414  # adapters without hardware, also where an old Windows does not flag them
_RELEASE, _QUERY_INTERFACE = 2, 0  # IUnknown
_ENUM_ADAPTERS_1 = 12  # IDXGIFactory1
_GET_DESC_1 = 10  # IDXGIAdapter1
_QUERY_VIDEO_MEMORY_INFO = 14  # IDXGIAdapter3
_FACTORY_1 = "770aae78-f26f-4dba-a829-253c83d1b387"
_ADAPTER_3 = "645967a4-1392-4310-a798-8053ce3e93fd"
_COUNTERS = (r"\GPU Adapter Memory(*)\Dedicated Usage", r"\GPU Adapter Memory(*)\Shared Usage")
_INSTANCE = re.compile(r"luid_0x([0-9a-f]+)_0x([0-9a-f]+)_phys_\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One adapter. `luid` names it until the next start of Windows; `shared_bytes` is main memory it may use.

    `budget_bytes` and `own_used_bytes` are this process's, None before Windows 10. `dedicated_used_bytes` and
    `shared_used_bytes` are of all programs, None where Windows does not count them.
    """

    name: str
    vendor_id: int
    luid: int
    dedicated_bytes: int
    shared_bytes: int
    is_software: bool = False
    budget_bytes: int | None = None
    own_used_bytes: int | None = None
    dedicated_used_bytes: int | None = None
    shared_used_bytes: int | None = None


def read_adapters() -> tuple[Adapter, ...] | None:
    """The adapters of this machine, those without hardware left out; None where Windows does not answer."""
    if sys.platform != "win32":
        return None
    import ctypes

    try:
        create = ctypes.WinDLL("dxgi").CreateDXGIFactory1
    except (OSError, AttributeError):
        return None
    # WINFUNCTYPE declares a keyword that is of no use here.
    described = described_adapters(create, cast("Prototype", ctypes.WINFUNCTYPE))
    if described is None:
        return None
    counters = open_counters(*_COUNTERS)
    if counters is None:
        return described
    try:
        return with_use(described, *counters.read())
    finally:
        counters.close()


def with_use(
    adapters: Sequence[Adapter], dedicated: Mapping[str, int], shared: Mapping[str, int]
) -> tuple[Adapter, ...]:
    """The adapters with what all programs use of them, by the counters' instances."""
    dedicated_used, shared_used = _by_luid(dedicated), _by_luid(shared)
    return tuple(
        replace(
            adapter,
            dedicated_used_bytes=dedicated_used.get(adapter.luid),
            shared_used_bytes=shared_used.get(adapter.luid),
        )
        for adapter in adapters
    )


def _by_luid(instances: Mapping[str, int]) -> dict[int, int]:
    """Adapters linked into one have an instance for each part."""
    found: dict[int, int] = {}
    for name, value in instances.items():
        if (match := _INSTANCE.fullmatch(name)) is not None:
            luid = _luid(int(match[2], 16), int(match[1], 16))
            found[luid] = found.get(luid, 0) + value
    return found


def _luid(low: int, high: int) -> int:
    return (high & 0xFFFFFFFF) << 32 | low


def described_adapters(create_factory: Function, prototype: Prototype) -> tuple[Adapter, ...] | None:
    """What DXGI tells; `create_factory` is CreateDXGIFactory1 or what stands in for it."""
    import ctypes

    factory = ctypes.c_void_p()
    if create_factory(ctypes.byref(_guid(_FACTORY_1)), ctypes.byref(factory)) != 0:
        return None
    try:
        found: dict[int, Adapter] = {}
        for pointer in _each_adapter(factory, prototype):
            adapter = _adapter(pointer, prototype)
            # Virtual screens can list one adapter twice.
            if adapter is not None and not adapter.is_software:
                found.setdefault(adapter.luid, adapter)
        return tuple(found.values())
    finally:
        _release(factory, prototype)


def _each_adapter(factory: ctypes.c_void_p, prototype: Prototype) -> Iterator[ctypes.c_void_p]:
    import ctypes

    enum_adapters = _method(factory, _ENUM_ADAPTERS_1, prototype, ctypes.c_uint32, ctypes.POINTER(ctypes.c_void_p))
    index, adapter = 0, ctypes.c_void_p()
    # It fails behind the last one.
    while enum_adapters(factory, index, ctypes.byref(adapter)) == 0:
        try:
            yield adapter
        finally:
            _release(adapter, prototype)
        index, adapter = index + 1, ctypes.c_void_p()


def _adapter(pointer: ctypes.c_void_p, prototype: Prototype) -> Adapter | None:
    import ctypes

    class Description(ctypes.Structure):
        """DXGI_ADAPTER_DESC1."""

        _fields_ = (
            ("name", ctypes.c_uint16 * 128),
            ("vendor_id", ctypes.c_uint32),
            ("device_id", ctypes.c_uint32),
            ("sub_sys_id", ctypes.c_uint32),
            ("revision", ctypes.c_uint32),
            ("dedicated_video_memory", ctypes.c_size_t),
            ("dedicated_system_memory", ctypes.c_size_t),
            ("shared_system_memory", ctypes.c_size_t),
            ("luid_low", ctypes.c_uint32),
            ("luid_high", ctypes.c_int32),
            ("flags", ctypes.c_uint32),
        )

    told = Description()
    if _method(pointer, _GET_DESC_1, prototype, ctypes.c_void_p)(pointer, ctypes.byref(told)) != 0:
        return None
    budget_bytes, own_used_bytes = _budget(pointer, prototype)
    return Adapter(
        name=bytes(told.name).decode("utf-16-le", errors="replace").partition("\0")[0].strip(),
        vendor_id=told.vendor_id,
        luid=_luid(told.luid_low, told.luid_high),
        dedicated_bytes=told.dedicated_video_memory,
        shared_bytes=told.shared_system_memory,
        is_software=bool(told.flags & _SOFTWARE_FLAG) or told.vendor_id == _MICROSOFT,
        budget_bytes=budget_bytes,
        own_used_bytes=own_used_bytes,
    )


def _budget(pointer: ctypes.c_void_p, prototype: Prototype) -> tuple[int | None, int | None]:
    """What Windows gives this process of the adapter's own memory, and what it uses."""
    import ctypes

    class VideoMemory(ctypes.Structure):
        """DXGI_QUERY_VIDEO_MEMORY_INFO."""

        _fields_ = (
            ("budget", ctypes.c_uint64),
            ("current_usage", ctypes.c_uint64),
            ("available_for_reservation", ctypes.c_uint64),
            ("current_reservation", ctypes.c_uint64),
        )

    newer, told = ctypes.c_void_p(), VideoMemory()
    query_interface = _method(pointer, _QUERY_INTERFACE, prototype, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))
    if query_interface(pointer, ctypes.byref(_guid(_ADAPTER_3)), ctypes.byref(newer)) != 0:
        return None, None
    try:
        query = _method(newer, _QUERY_VIDEO_MEMORY_INFO, prototype, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)
        # Of the first of linked adapters, the memory that is local to it.
        if query(newer, 0, 0, ctypes.byref(told)) != 0:
            return None, None
        return told.budget, told.current_usage
    finally:
        _release(newer, prototype)


def _method(pointer: ctypes.c_void_p, place: int, prototype: Prototype, *parameters: object) -> Function:
    """The function at this place in the table of the object at `pointer`; its first parameter is the object."""
    import ctypes

    table = ctypes.cast(pointer, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
    address = table[place]
    return prototype(ctypes.c_int32, ctypes.c_void_p, *parameters)(cast("int", address))


def _release(pointer: ctypes.c_void_p, prototype: Prototype) -> None:
    _method(pointer, _RELEASE, prototype)(pointer)


def _guid(text: str) -> ctypes.Array[ctypes.c_char]:
    """A GUID as it lies in memory."""
    import ctypes
    import uuid

    return ctypes.create_string_buffer(uuid.UUID(text).bytes_le, 16)
