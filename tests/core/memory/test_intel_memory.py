"""Intel's cards under Linux: the files and answers of their drivers, laid out as the kernel's headers say."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.memory.cards import Cards, GpuMemory, linux_cards
from lmstrix.core.memory.intel_memory import IntelMemory, ask_driver, regions_memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.core.memory.intel_memory import Driver

MIB, GIB = 2**20, 2**30
SYSTEM, CARD = 0, 1
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a drivers' tree of links, as only Linux has")


def region(kind: int, size: int, told: int) -> bytes:
    """struct drm_i915_memory_region_info, or struct drm_xe_mem_region: both are 88 bytes long."""
    return struct.pack("=HHIQQ8Q", kind, 0, 0x10000, size, told, size, 0, 0, 0, 0, 0, 0, 0)


def i915(*regions: bytes) -> bytes:
    return struct.pack("=4I", len(regions), 0, 0, 0) + b"".join(regions)


def xe(*regions: bytes) -> bytes:
    return struct.pack("=2I", len(regions), 0) + b"".join(regions)


def arc(root: Path, driver: str) -> Path:
    """An Arc card as sysfs shows it."""
    device = root / "sys/devices/pci0000:00/0000:03:00.0"
    (device / "drm/renderD129").mkdir(parents=True)
    (device / "vendor").write_text("0x8086\n")
    (root / "sys/bus/pci/drivers" / driver).mkdir(parents=True)
    (device / "driver").symlink_to(root / "sys/bus/pci/drivers" / driver)
    card = root / "sys/class/drm/card1"
    card.mkdir(parents=True)
    (card / "device").symlink_to(device)
    return card


def answering(root: Path, answer: bytes, expected: str) -> Callable[[Path, Driver], bytes]:
    def ask(node: Path, driver: Driver) -> bytes:
        assert (node, driver) == (root / "dev/dri/renderD129", expected)
        return answer

    return ask


@pytest.mark.parametrize(
    ("driver", "answer"),
    [
        ("xe", xe(region(SYSTEM, 64 * GIB, 0), region(CARD, 12 * GIB, 3 * GIB))),
        ("i915", i915(region(SYSTEM, 64 * GIB, 64 * GIB), region(CARD, 12 * GIB, 9 * GIB))),
    ],
)
@pytest.mark.needs_posix("links and drivers of Linux")
def test_a_driver_that_says_what_is_in_use_is_believed(tmp_path: Path, driver: str, answer: bytes) -> None:
    arc(tmp_path, driver)
    assert linux_cards(tmp_path, answering(tmp_path, answer, driver)) == Cards(
        readable=(
            GpuMemory(name="Intel card1", total_bytes=12 * GIB, free_bytes=9 * GIB, source=f"{driver} (its query)"),
        )
    )


@pytest.mark.parametrize(
    ("driver", "answer"),
    [
        ("xe", xe(region(CARD, 12 * GIB, 0))),  # without CAP_PERFMON
        ("i915", i915(region(CARD, 12 * GIB, 12 * GIB))),
        ("i915", b""),  # a kernel before 5.15
        ("xe", xe(region(SYSTEM, 64 * GIB, 0))),
    ],
)
@pytest.mark.needs_posix("links and drivers of Linux")
def test_a_driver_that_does_not_leaves_the_card_named(tmp_path: Path, driver: str, answer: bytes) -> None:
    arc(tmp_path, driver)
    assert linux_cards(tmp_path, answering(tmp_path, answer, driver)) == Cards(unreadable=("Intel card1",))


@pytest.mark.needs_posix("links and drivers of Linux")
def test_a_render_node_that_may_not_be_opened_leaves_the_card_named(tmp_path: Path) -> None:
    arc(tmp_path, "xe")
    assert linux_cards(tmp_path) == Cards(unreadable=("Intel card1",))


@pytest.mark.needs_posix("links and drivers of Linux")
def test_intels_own_build_of_i915_has_files(tmp_path: Path) -> None:
    card = arc(tmp_path, "i915")
    (card / "lmem_total_bytes").write_text(f"{16 * GIB}\n")
    (card / "lmem_avail_bytes").write_text(f"{15 * GIB}\n")
    (only,) = linux_cards(tmp_path).readable
    assert (only.total_bytes, only.free_bytes, only.source) == (16 * GIB, 15 * GIB, "i915 (sysfs)")


def test_tiles_add_up_and_a_cut_answer_is_not_read_beyond_its_end() -> None:
    two = xe(region(CARD, 8 * GIB, GIB), region(CARD, 8 * GIB, 2 * GIB))
    assert regions_memory(two, "xe") == IntelMemory(16 * GIB, 13 * GIB, "xe (its query)")
    assert regions_memory(two[:-1], "xe") == IntelMemory(8 * GIB, 7 * GIB, "xe (its query)")
    assert regions_memory(b"\1\0", "xe") is None


@pytest.mark.skipif(sys.platform != "linux", reason="asks a file of Linux")
def test_what_is_no_card_refuses_the_question(tmp_path: Path) -> None:
    plain = tmp_path / "renderD128"
    plain.touch()
    for driver in ("i915", "xe"):
        with pytest.raises(OSError, match="ioctl"):
            ask_driver(plain, "i915" if driver == "i915" else "xe")
