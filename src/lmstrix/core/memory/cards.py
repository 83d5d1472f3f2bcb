"""Graphics cards and their own memory, as far as this machine tells.

NVIDIA cards tell through NVML (the `power` extra) or `nvidia-smi`; AMD cards through files of their Linux driver. The
drivers of Intel's cards (i915, xe) keep no file that tells what is free, and other systems nothing that can be read
without their libraries: such a card is named, and its memory counts as unknown.

Graphics without memory of their own use the machine's. AMD's have a part of it set aside at start, which is small and
no place for a model; they are told from cards by the memory that may be mapped for them (GTT), then the larger.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lmstrix.ground.processes import Command, run_helper

__all__ = ["Cards", "GpuMemory", "command_output", "linux_cards", "read_cards"]

_COMMAND_TIMEOUT_S = 5.0
_NVIDIA, _AMD, _INTEL = "0x10de", "0x1002", "0x8086"
_VENDORS = {_NVIDIA: "NVIDIA", _AMD: "AMD", _INTEL: "Intel"}
_LARGEST_CARVE_OUT_BYTES = 2 * 2**30
"""What firmware sets aside for graphics in the processor unless its user asks for more; cards have at least this."""
_INTEGRATED_INTEL_SLOT = "0000:00:02.0"
"""Where Intel's processors have their graphics; cards are behind a bridge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """One graphics card's own memory."""

    name: str
    total_bytes: int
    free_bytes: int


class Cards(NamedTuple):
    """The cards whose memory is known, and the names of those that are there and do not tell."""

    readable: tuple[GpuMemory, ...] = ()
    unreadable: tuple[str, ...] = ()


def read_cards() -> Cards:
    """All cards of this machine."""
    nvidia = _nvidia_cards()
    others = linux_cards(Path("/")) if sys.platform == "linux" else Cards()
    # The system lists NVIDIA's cards too; what their own library tells of is not unknown.
    unreadable = tuple(name for name in others.unreadable if not (nvidia and name.startswith(_VENDORS[_NVIDIA])))
    return Cards((*nvidia, *others.readable), unreadable)


def linux_cards(root: Path) -> Cards:
    """The cards that the drivers under the file system at `root` list, NVIDIA's only by name."""
    readable, unreadable = [], []
    for card in sorted((root / "sys/class/drm").glob("card[0-9]*")):
        # A card's connectors stand beside it, as card0-DP-1.
        device = card / "device"
        vendor = _text(device / "vendor")
        if "-" in card.name or vendor not in _VENDORS:
            continue
        name = f"{_VENDORS[vendor]} {_text(device / 'product_name') or card.name}"
        if vendor == _AMD and (memory := _amd_memory(device, name)) is not None:
            readable += [memory] if not _is_integrated_amd(device, memory) else []
        elif not _is_integrated_intel(device, vendor):
            unreadable.append(name)
    return Cards(tuple(readable), tuple(unreadable))


def _amd_memory(device: Path, name: str) -> GpuMemory | None:
    total, used = _number(device / "mem_info_vram_total"), _number(device / "mem_info_vram_used")
    if total is None or used is None:
        return None
    return GpuMemory(name=name, total_bytes=total, free_bytes=max(0, total - used))


def _is_integrated_amd(device: Path, memory: GpuMemory) -> bool:
    mapped = _number(device / "mem_info_gtt_total") or 0
    return memory.total_bytes <= _LARGEST_CARVE_OUT_BYTES and mapped > memory.total_bytes


def _is_integrated_intel(device: Path, vendor: str) -> bool:
    return vendor == _INTEL and device.resolve().name == _INTEGRATED_INTEL_SLOT


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace").strip()
    return ""


def _nvidia_cards() -> tuple[GpuMemory, ...]:
    try:
        import pynvml
    except ImportError:
        return _cards_of_nvidia_smi()
    try:
        pynvml.nvmlInit()  # fails where the library is installed but no driver runs
    except pynvml.NVMLError:
        return ()
    try:
        cards = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            name = pynvml.nvmlDeviceGetName(handle)
            cards.append(GpuMemory(name=str(name), total_bytes=int(memory.total), free_bytes=int(memory.free)))
        return tuple(cards)
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _cards_of_nvidia_smi() -> tuple[GpuMemory, ...]:
    # The driver brings this tool along, so it is there without the `power` extra; starting it takes longer than NVML.
    output = command_output("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
    cards = []
    for line in output.splitlines():
        # From the right: a card's name may hold commas, and figures it does not have are "[N/A]".
        name, *numbers = (field.strip() for field in line.rsplit(",", 2))
        if len(numbers) == 2 and all(number.isdigit() for number in numbers):
            total, free = (int(number) * 2**20 for number in numbers)
            cards.append(GpuMemory(name=name, total_bytes=total, free_bytes=free))
    return tuple(cards)


def command_output(*command: str) -> str:
    """Standard output of a command, empty when it is missing, fails or takes too long."""
    try:
        ended = run_helper(Command(words=command), timeout_s=_COMMAND_TIMEOUT_S)
    except OSError:  # one that takes too long is a TimeoutError, which is one
        return ""
    return ended.output if ended.exit_code == 0 else ""
