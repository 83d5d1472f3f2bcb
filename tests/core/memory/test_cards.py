"""Cards as the drivers' files under /sys list them, and what is done where they do not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.core.memory import host
from lmstrix.core.memory.cards import Cards, GpuMemory, linux_cards
from lmstrix.core.memory.host import read_host_memory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GIB = 2**30
AMD, INTEL = "0x1002", "0x8086"


def card(root: Path, number: int, vendor: str, files: Mapping[str, str | int], *, slot: str = "0000:03:00.0") -> None:
    """A card as sysfs shows it: a link to its device, and connectors beside it."""
    device = root / "sys/devices/pci0000:00" / slot
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    for name, content in files.items():
        (device / name).write_text(f"{content}\n")
    listed = root / "sys/class/drm"
    for name in (f"card{number}", f"card{number}-DP-1"):
        (listed / name).mkdir(parents=True)
    (listed / f"card{number}" / "device").symlink_to(device)


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_amd_cards_tell_their_memory(tmp_path: Path) -> None:
    vram = {"mem_info_vram_total": 24 * GIB, "mem_info_vram_used": 3 * GIB, "mem_info_gtt_total": 30 * GIB}
    card(tmp_path, 0, AMD, {"product_name": "Radeon RX 7900 XTX", **vram})
    card(tmp_path, 1, AMD, vram, slot="0000:04:00.0")
    assert linux_cards(tmp_path) == Cards(
        readable=(
            GpuMemory(
                name="AMD Radeon RX 7900 XTX", total_bytes=24 * GIB, free_bytes=21 * GIB, source="amdgpu (sysfs)"
            ),
            GpuMemory(name="AMD card1", total_bytes=24 * GIB, free_bytes=21 * GIB, source="amdgpu (sysfs)"),
        )
    )


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_graphics_in_the_processor_are_no_cards(tmp_path: Path) -> None:
    carve_out = {"mem_info_vram_total": GIB // 2, "mem_info_vram_used": GIB // 4, "mem_info_gtt_total": 15 * GIB}
    card(tmp_path, 0, AMD, carve_out, slot="0000:0c:00.0")
    card(tmp_path, 1, INTEL, {}, slot="0000:00:02.0")
    assert linux_cards(tmp_path) == Cards()


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_memory_set_aside_for_models_counts_as_a_card(tmp_path: Path) -> None:
    set_aside = {"mem_info_vram_total": 96 * GIB, "mem_info_vram_used": GIB, "mem_info_gtt_total": 15 * GIB}
    card(tmp_path, 0, AMD, set_aside)
    (only,) = linux_cards(tmp_path).readable
    assert only.free_bytes == 95 * GIB


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_cards_that_do_not_tell_are_named(tmp_path: Path) -> None:
    card(tmp_path, 0, INTEL, {})  # an Arc whose driver may not be asked
    card(tmp_path, 1, AMD, {}, slot="0000:04:00.0")  # the old radeon driver
    card(tmp_path, 2, "0x10de", {}, slot="0000:05:00.0")  # nouveau
    card(tmp_path, 3, "0x1a03", {}, slot="0000:06:00.0")  # a server's own screen
    assert linux_cards(tmp_path) == Cards(unreadable=("Intel card0", "AMD card1", "NVIDIA card2"))


def test_without_a_list_there_are_no_cards(tmp_path: Path) -> None:
    assert linux_cards(tmp_path) == Cards()


def test_a_card_that_does_not_tell_leaves_main_memory_and_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "read_cards", lambda: Cards(unreadable=("Intel card0",)))
    memory = read_host_memory()
    assert memory.unreadable_gpus == ("Intel card0",)
    assert memory.model_budget_bytes == memory.available_bytes
