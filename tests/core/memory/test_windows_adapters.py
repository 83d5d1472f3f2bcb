"""Adapters as Windows tells of them: objects of DXGI built in memory, with the tables of functions real ones have."""

from __future__ import annotations

import ctypes
import sys
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lmstrix.core.memory.cards import Cards, GpuMemory, windows_cards
from lmstrix.core.memory.windows_adapters import Adapter, described_adapters, read_adapters, with_use

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.memory.windows_adapters import Prototype

MIB, GIB = 2**20, 2**30
_NOT_FOUND = 0x887A0002 - 2**32
_NO_INTERFACE = 0x80004002 - 2**32
_POINTER = ctypes.c_void_p
RADEON = Adapter(
    name="AMD Radeon RX 7900 XTX",
    vendor_id=0x1002,
    luid=0x1_0000_A1B2,
    dedicated_bytes=24 * GIB,
    shared_bytes=32 * GIB,
    budget_bytes=23 * GIB,
    own_used_bytes=GIB // 4,
)
ARC = replace(RADEON, name="Intel(R) Arc(TM) B580 Graphics", vendor_id=0x8086, luid=7, dedicated_bytes=12 * GIB)
GEFORCE = replace(RADEON, name="NVIDIA GeForce RTX 4070", vendor_id=0x10DE, luid=9, dedicated_bytes=12 * GIB)
IN_THE_PROCESSOR = replace(
    ARC, name="Intel(R) Iris(R) Xe Graphics", luid=8, dedicated_bytes=128 * MIB, shared_bytes=16 * GIB
)


class Objects:
    """A factory and its adapters as they lie in memory. `alive` counts references that were handed out."""

    def __init__(self, *adapters: Adapter, budgets: bool = True) -> None:
        self.alive = 0
        self.budgets = budgets
        self._kept: list[Any] = []
        self._adapters = [self._adapter(adapter) for adapter in adapters]
        self._factory = self._object({2: self._release, 12: self._enum_adapters})

    def create(self, interface: Any, factory: Any) -> int:
        """CreateDXGIFactory1."""
        assert uuid.UUID(bytes_le=interface._obj.raw) == uuid.UUID("770aae78-f26f-4dba-a829-253c83d1b387")
        self.alive += 1
        factory._obj.value = self._factory
        return 0

    def _object(self, methods: dict[int, Callable[..., int]]) -> int:
        """An object whose table has these methods at their places, and nothing at others."""
        table = (_POINTER * 20)()
        for place, method in methods.items():
            count = method.__code__.co_argcount - (1 if hasattr(method, "__self__") else 0)
            numbers = {12: (1,), 14: (1, 2)}.get(place, ())
            types = [ctypes.c_uint32 if index in numbers else _POINTER for index in range(count)]
            function = ctypes.CFUNCTYPE(ctypes.c_int32, *types)(method)
            self._kept.append(function)
            table[place] = ctypes.cast(function, _POINTER).value
        head = (_POINTER * 1)(ctypes.addressof(table))
        self._kept += [table, head]
        return ctypes.addressof(head)

    def _release(self, _this: int) -> int:
        self.alive -= 1
        return 0

    def _enum_adapters(self, _this: int, index: int, adapter: int) -> int:
        if index >= len(self._adapters):
            return _NOT_FOUND
        self.alive += 1
        _POINTER.from_address(adapter).value = self._adapters[index]
        return 0

    def _adapter(self, told: Adapter) -> int:
        def query_interface(this: int, interface: int, newer: int) -> int:
            asked = uuid.UUID(bytes_le=ctypes.string_at(interface, 16))
            assert asked == uuid.UUID("645967a4-1392-4310-a798-8053ce3e93fd")
            if not self.budgets:
                return _NO_INTERFACE
            self.alive += 1
            _POINTER.from_address(newer).value = this
            return 0

        def describe(_this: int, description: int) -> int:
            # DXGI_ADAPTER_DESC1, byte by byte as a 64-bit Windows lays it out.
            name = told.name.encode("utf-16-le").ljust(256, b"\0")
            ids = b"".join(number.to_bytes(4, "little") for number in (told.vendor_id, 0x744C, 0, 0))
            sizes = b"".join(size.to_bytes(8, "little") for size in (told.dedicated_bytes, 0, told.shared_bytes))
            flags = 2 if told.is_software else 0
            whole = name + ids + sizes + told.luid.to_bytes(8, "little") + flags.to_bytes(4, "little")
            ctypes.memmove(description, whole, len(whole))
            return 0

        def query_video_memory(_this: int, node: int, group: int, memory: int) -> int:
            assert (node, group) == (0, 0)
            figures = (ctypes.c_uint64 * 4)(told.budget_bytes or 0, told.own_used_bytes or 0, 0, 0)
            ctypes.memmove(memory, figures, ctypes.sizeof(figures))
            return 0

        return self._object({0: query_interface, 2: self._release, 10: describe, 14: query_video_memory})


def described(objects: Objects) -> tuple[Adapter, ...] | None:
    return described_adapters(objects.create, cast("Prototype", ctypes.CFUNCTYPE))


@pytest.mark.skipif(ctypes.sizeof(_POINTER) != 8, reason="the objects are those of a 64-bit Windows")
def test_every_adapter_is_described_and_every_object_released() -> None:
    objects = Objects(RADEON, ARC, IN_THE_PROCESSOR)
    assert described(objects) == (RADEON, ARC, IN_THE_PROCESSOR)
    assert objects.alive == 0


def test_software_and_adapters_listed_twice_are_left_out() -> None:
    basic = replace(RADEON, name="Microsoft Basic Render Driver", vendor_id=0x1414, luid=3)
    flagged = replace(RADEON, name="Some Remote Adapter", luid=4, is_software=True)
    assert described(Objects(basic, RADEON, flagged, RADEON)) == (RADEON,)
    assert described(Objects()) == ()


def test_before_windows_10_there_are_no_budgets() -> None:
    objects = Objects(RADEON, budgets=False)
    assert described(objects) == (replace(RADEON, budget_bytes=None, own_used_bytes=None),)
    assert objects.alive == 0


def test_without_a_factory_nothing_is_known() -> None:
    assert described_adapters(lambda _interface, _factory: _NO_INTERFACE, cast("Prototype", ctypes.CFUNCTYPE)) is None


def test_what_all_programs_use_is_found_by_the_adapters_own_number() -> None:
    dedicated = {
        "luid_0x00000001_0x0000A1B2_phys_0": 5 * GIB,
        "luid_0x00000001_0x0000a1b2_phys_1": GIB,  # two cards linked into one adapter
        "luid_0x00000000_0x00000007_phys_0": 2 * GIB,
        "_Total": 8 * GIB,
    }
    radeon, arc, geforce = with_use((RADEON, ARC, GEFORCE), dedicated, {"luid_0x00000000_0x00000007_phys_0": 300 * MIB})
    assert (radeon.dedicated_used_bytes, radeon.shared_used_bytes) == (6 * GIB, None)
    assert (arc.dedicated_used_bytes, arc.shared_used_bytes) == (2 * GIB, 300 * MIB)
    assert geforce == GEFORCE


def test_cards_of_every_maker_tell_what_is_free_and_what_main_memory_stands_in() -> None:
    spilling = replace(RADEON, dedicated_used_bytes=23 * GIB + GIB // 2, shared_used_bytes=9 * GIB)
    quiet = replace(ARC, dedicated_used_bytes=GIB, shared_used_bytes=200 * MIB, budget_bytes=11 * GIB)
    virtual = replace(RADEON, name="VMware SVGA 3D", vendor_id=0x15AD, luid=5)
    assert windows_cards([spilling, quiet, IN_THE_PROCESSOR, virtual]) == Cards(
        readable=(
            GpuMemory(
                name="AMD Radeon RX 7900 XTX",
                total_bytes=24 * GIB,
                free_bytes=GIB // 2,
                source="DXGI",
                shared_used_bytes=9 * GIB,
            ),
            # Windows gives one program less than nobody uses.
            GpuMemory(
                name="Intel(R) Arc(TM) B580 Graphics",
                total_bytes=12 * GIB,
                free_bytes=11 * GIB - GIB // 4,
                source="DXGI",
                shared_used_bytes=200 * MIB,
            ),
        )
    )


def test_where_windows_counts_no_use_the_budget_stands_for_what_is_free() -> None:
    (card,) = windows_cards([RADEON]).readable
    assert card.free_bytes == 23 * GIB - GIB // 4
    assert card.source == "DXGI (the budget of one program)"
    (old,) = windows_cards([replace(RADEON, budget_bytes=None, own_used_bytes=None)]).readable
    assert old.free_bytes == 24 * GIB


def test_cards_that_nvidias_library_tells_of_are_counted_once_and_their_shared_memory_is_seen() -> None:
    told = GpuMemory(name=GEFORCE.name, total_bytes=12 * GIB, free_bytes=GIB, source="NVML")
    compute_only = GpuMemory(name="NVIDIA A100", total_bytes=40 * GIB, free_bytes=39 * GIB, source="NVML")
    first, second = (replace(GEFORCE, luid=luid, shared_used_bytes=used) for luid, used in ((9, 6 * GIB), (10, MIB)))
    cards = windows_cards([first, second, ARC], [told, told, compute_only]).readable
    assert [(card.source, card.shared_used_bytes) for card in cards] == [
        ("NVML", 6 * GIB),
        ("NVML", MIB),
        ("NVML", None),
        ("DXGI (the budget of one program)", None),
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has adapters")
def test_other_systems_have_none() -> None:
    assert read_adapters() is None


@pytest.mark.skipif(sys.platform != "win32", reason="asks the real DXGI")
def test_this_machine_is_read() -> None:
    adapters = read_adapters()
    assert adapters is not None
    assert all(adapter.name and adapter.vendor_id for adapter in adapters)
