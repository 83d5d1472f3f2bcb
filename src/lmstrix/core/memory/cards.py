"""Graphics cards and their own memory, as far as this machine tells.

NVIDIA cards tell through NVML (the `power` extra) or `nvidia-smi`. On Linux, AMD cards tell through files of their
driver, and Intel's through theirs where its drivers let them. Windows tells of the cards of every maker. A card that is
there and does not tell is named, and its memory counts as unknown.

Graphics without memory of their own use the machine's. A part of it may be set aside for them at start, which is small
and no place for a model; they are told from cards by the memory that may be mapped for them, then the larger.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.memory.intel_memory import ask_driver, intel_memory
from lmstrix.core.memory.windows_adapters import read_adapters
from lmstrix.ground.processes import Command, run_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.memory.intel_memory import Ask
    from lmstrix.core.memory.windows_adapters import Adapter

__all__ = ["Cards", "GpuMemory", "command_output", "linux_cards", "read_cards", "windows_cards"]

_COMMAND_TIMEOUT_S = 5.0
_NVIDIA, _AMD, _INTEL = "0x10de", "0x1002", "0x8086"
_VENDORS = {_NVIDIA: "NVIDIA", _AMD: "AMD", _INTEL: "Intel"}
_LARGEST_CARVE_OUT_BYTES = 2 * 2**30
"""What firmware sets aside for graphics in the processor unless its user asks for more; cards have at least this."""
_INTEGRATED_INTEL_SLOT = "0000:00:02.0"
"""Where Intel's processors have their graphics; cards are behind a bridge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """One graphics card's own memory, and the source that was read, by its name.

    `shared_used_bytes` is main memory in use in its place, by all programs; None where nobody tells.
    """

    name: str
    total_bytes: int
    free_bytes: int
    source: str = ""
    shared_used_bytes: int | None = None


class Cards(NamedTuple):
    """The cards whose memory is known, and the names of those that are there and do not tell.

    `unseen` are sources of this system that did not answer: there may be cards that only they know of.
    """

    readable: tuple[GpuMemory, ...] = ()
    unreadable: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


def read_cards() -> Cards:
    """All cards of this machine."""
    nvidia = _nvidia_cards()
    if sys.platform == "win32":
        adapters = read_adapters()
        return windows_cards(adapters, nvidia) if adapters is not None else Cards(nvidia, unseen=("DXGI",))
    others = linux_cards(Path("/")) if sys.platform == "linux" else Cards()
    # The system lists NVIDIA's cards too; what their own library tells of is not unknown.
    unreadable = tuple(name for name in others.unreadable if not (nvidia and name.startswith(_VENDORS[_NVIDIA])))
    return Cards((*nvidia, *others.readable), unreadable)


def linux_cards(root: Path, ask: Ask = ask_driver) -> Cards:
    """The cards that the drivers under the file system at `root` list, NVIDIA's only by name; `ask` Intel's drivers."""
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
        elif vendor == _INTEL and _is_integrated_intel(device):
            continue
        elif vendor == _INTEL and (told := intel_memory(card, root / "dev/dri", ask)) is not None:
            readable.append(GpuMemory(name=name, **told._asdict()))
        else:
            unreadable.append(name)
    return Cards(tuple(readable), tuple(unreadable))


def windows_cards(adapters: Sequence[Adapter], nvidia: Sequence[GpuMemory] = ()) -> Cards:
    """The cards among Windows' adapters; `nvidia` are those that NVIDIA's own library told of already."""
    # A virtual machine's adapter is of no maker of cards, and its memory is the machine's.
    made = [adapter for adapter in adapters if f"{adapter.vendor_id:#06x}" in _VENDORS]
    listed = [adapter for adapter in made if not _is_integrated_adapter(adapter)]
    told = []
    for card in nvidia:
        # Two cards of one name are the same to whoever adds up what they have; compute-only cards are not listed.
        twin = next((adapter for adapter in listed if adapter.name == card.name), None)
        if twin is not None:
            listed.remove(twin)
            card = replace(card, shared_used_bytes=twin.shared_used_bytes)
        told.append(card)
    return Cards((*told, *(_adapter_memory(adapter) for adapter in listed)))


def _adapter_memory(adapter: Adapter) -> GpuMemory:
    """A card's memory: what no program uses, and no more than Windows gives to one."""
    total_bytes = adapter.dedicated_bytes
    free = [total_bytes]
    if adapter.dedicated_used_bytes is not None:
        free.append(total_bytes - adapter.dedicated_used_bytes)
    if adapter.budget_bytes is not None and adapter.own_used_bytes is not None:
        free.append(adapter.budget_bytes - adapter.own_used_bytes)
    return GpuMemory(
        name=adapter.name,
        total_bytes=total_bytes,
        free_bytes=max(0, min(free)),
        source="DXGI" if adapter.dedicated_used_bytes is not None else "DXGI (the budget of one program)",
        shared_used_bytes=adapter.shared_used_bytes,
    )


def _is_integrated_adapter(adapter: Adapter) -> bool:
    return adapter.dedicated_bytes <= _LARGEST_CARVE_OUT_BYTES and adapter.shared_bytes > adapter.dedicated_bytes


def _amd_memory(device: Path, name: str) -> GpuMemory | None:
    total, used = _number(device / "mem_info_vram_total"), _number(device / "mem_info_vram_used")
    if total is None or used is None:
        return None
    return GpuMemory(name=name, total_bytes=total, free_bytes=max(0, total - used), source="amdgpu (sysfs)")


def _is_integrated_amd(device: Path, memory: GpuMemory) -> bool:
    mapped = _number(device / "mem_info_gtt_total") or 0
    return memory.total_bytes <= _LARGEST_CARVE_OUT_BYTES and mapped > memory.total_bytes


def _is_integrated_intel(device: Path) -> bool:
    return device.resolve().name == _INTEGRATED_INTEL_SLOT


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
            total, free = int(memory.total), int(memory.free)
            cards.append(GpuMemory(name=str(name), total_bytes=total, free_bytes=free, source="NVML"))
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
            cards.append(GpuMemory(name=name, total_bytes=total, free_bytes=free, source="nvidia-smi"))
    return tuple(cards)


def command_output(*command: str) -> str:
    """Standard output of a command, empty when it is missing, fails or takes too long."""
    try:
        ended = run_helper(Command(words=command), timeout_s=_COMMAND_TIMEOUT_S)
    except OSError:  # one that takes too long is a TimeoutError, which is one
        return ""
    return ended.output if ended.exit_code == 0 else ""
