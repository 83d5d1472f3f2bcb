"""How much memory an Intel card has and has free, as its Linux driver tells.

Intel's own build of i915 keeps two files for it. The kernel's i915 and xe are asked through the card's render node
(DRM_IOCTL_I915_QUERY, DRM_IOCTL_XE_DEVICE_QUERY: the kernel's i915_drm.h and xe_drm.h). They always tell how much
memory there is, but what is in use only to those who may watch performance (CAP_PERFMON) or by newer kernels: to others
nothing seems to be in use. Since drivers always use some themselves, nothing means that they do not tell.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Driver = Literal["i915", "xe"]
    Ask = Callable[[Path, Driver], bytes]

_IOCTL_I915_QUERY = 0xC0106479  # _IOWR('d', 0x40 + 0x39, struct drm_i915_query)
_IOCTL_XE_DEVICE_QUERY = 0xC0286440  # _IOWR('d', 0x40 + 0x00, struct drm_xe_device_query)
_I915_MEMORY_REGIONS, _XE_MEMORY_REGIONS = 4, 1
_REGION = struct.Struct("=HHIQQ64x")
"""A region of both drivers: class, number within it, unused, size; then i915 has what is free, xe what is used."""
_ON_THE_CARD = 1  # I915_MEMORY_CLASS_DEVICE and DRM_XE_MEM_REGION_CLASS_VRAM


class IntelMemory(NamedTuple):
    """A card's own memory, and who told."""

    total_bytes: int
    free_bytes: int
    source: str


def ask_driver(node: Path, driver: Driver) -> bytes:
    """The memory regions of the card with this render node, as its driver lays them out. Raises OSError."""
    if sys.platform != "linux":
        raise OSError("only Linux has render nodes")
    with node.open("rb", buffering=0) as file:
        return _ask_i915(file.fileno()) if driver == "i915" else _ask_xe(file.fileno())


def _ask_i915(descriptor: int) -> bytes:
    if sys.platform != "linux":
        return b""
    import ctypes
    import fcntl

    # Asked twice: first for the length, then with room for the answer.
    room = ctypes.create_string_buffer(0)
    length = 0
    for _ in range(2):
        address = ctypes.addressof(room) if length else 0
        item = ctypes.create_string_buffer(struct.pack("=QiIQ", _I915_MEMORY_REGIONS, length, 0, address), 24)
        fcntl.ioctl(descriptor, _IOCTL_I915_QUERY, struct.pack("=IIQ", 1, 0, ctypes.addressof(item)))
        (length,) = struct.unpack_from("=i", item.raw, 8)
        if length <= 0:  # an older kernel's way to say that it does not know the question
            return b""
        room = room if address else ctypes.create_string_buffer(length)
    return room.raw


def _ask_xe(descriptor: int) -> bytes:
    if sys.platform != "linux":
        return b""
    import ctypes
    import fcntl

    query = bytearray(struct.pack("=QIIQ16x", 0, _XE_MEMORY_REGIONS, 0, 0))
    fcntl.ioctl(descriptor, _IOCTL_XE_DEVICE_QUERY, query)
    (length,) = struct.unpack_from("=I", query, 12)
    room = ctypes.create_string_buffer(length)
    query = bytearray(struct.pack("=QIIQ16x", 0, _XE_MEMORY_REGIONS, length, ctypes.addressof(room)))
    fcntl.ioctl(descriptor, _IOCTL_XE_DEVICE_QUERY, query)
    return room.raw


def intel_memory(card: Path, nodes: Path, ask: Ask = ask_driver) -> IntelMemory | None:
    """The memory of a card under /sys/class/drm, whose render node is in the folder `nodes`; None if nobody tells."""
    total, free = _number(card / "lmem_total_bytes"), _number(card / "lmem_avail_bytes")
    if total and free is not None:
        return IntelMemory(total, free, "i915 (sysfs)")
    name = (card / "device/driver").resolve().name
    driver: Driver | None = "i915" if name == "i915" else "xe" if name == "xe" else None
    node = next((card / "device/drm").glob("renderD*"), None)
    if node is None or driver is None:
        return None
    try:
        return regions_memory(ask(nodes / node.name, driver), driver)
    except OSError:
        return None


def regions_memory(answer: bytes, driver: Driver) -> IntelMemory | None:
    """What the regions on the card add up to; None if there are none, or if nothing of them seems to be in use."""
    header = 16 if driver == "i915" else 8
    if len(answer) < header:
        return None
    (count,) = struct.unpack_from("=I", answer)
    places = range(header, min(len(answer), header + count * _REGION.size), _REGION.size)
    regions = [_REGION.unpack_from(answer, place) for place in places if place + _REGION.size <= len(answer)]
    own = [(size, told) for kind, _, _, size, told in regions if kind == _ON_THE_CARD]
    total = sum(size for size, _ in own)
    free = sum(told if driver == "i915" else size - told for size, told in own)
    return IntelMemory(total, free, f"{driver} (its query)") if 0 <= free < total else None


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
