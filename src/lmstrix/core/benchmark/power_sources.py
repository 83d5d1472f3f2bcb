"""Which power sources this machine has, and what would let it report more.

None of them asks for privileges: `describe_power` says which command would grant them.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.power import PERIOD_S
from lmstrix.core.benchmark.power_apple import AppleSource, open_apple
from lmstrix.core.benchmark.power_linux import POWERCAP, HwmonSource, RaplSource, closed_counters, open_sysfs
from lmstrix.core.benchmark.power_nvidia import NvmlSource, open_nvml
from lmstrix.core.benchmark.power_windows import EnergyMeterSource, open_energy_meters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.power import PowerSource


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """One source on this machine: what it measures now, or what would enable it (`remedy` empty: nothing would)."""

    name: str
    available: bool
    measures: tuple[str, ...] = ()
    remedy: str = ""


def open_power_sources(period_s: float = PERIOD_S) -> list[PowerSource]:
    """The sources to use together here; no two measure the same thing. Empty where the machine reports nothing.

    `period_s` is how often those report that report by themselves.
    """
    found: list[PowerSource | None]
    if sys.platform == "darwin":
        found = [open_apple(period_s)]
    elif sys.platform == "linux":
        found = [open_nvml(), *open_sysfs()]
    else:
        found = [open_nvml(), open_energy_meters()]
    return [source for source in found if source is not None]


def describe_power(sources: Sequence[PowerSource] | None = None) -> list[SourceState]:
    """What this machine can report of its power use, and what would let it report more."""
    opened = open_power_sources() if sources is None else list(sources)
    states = [
        SourceState(
            name=source.name,
            available=True,
            measures=tuple(f"{channel.part}: {channel.name}" for channel in source.channels),
        )
        for source in opened
    ]
    # Only those opened here: sources handed in are still measured with.
    if sources is None:
        for source in opened:
            source.close()
    missing = _mac_remedies() if sys.platform == "darwin" else _other_remedies()
    names = {state.name for state in states}
    if sys.platform == "darwin" and names:
        return states  # the three ways of a Mac report the same
    return states + [state for state in missing if state.name not in names]


def _mac_remedies() -> list[SourceState]:
    return [
        SourceState(name=AppleSource.name, available=False, remedy="pip install 'lmstrix[power]' (Apple silicon)"),
        SourceState(name="macmon", available=False, remedy="brew install macmon"),
        SourceState(name="powermetrics", available=False, remedy="it tells its figures to root only"),
    ]


def _other_remedies() -> list[SourceState]:
    states = []
    if Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi"):
        states.append(SourceState(name=NvmlSource.name, available=False, remedy="pip install 'lmstrix[power]'"))
    else:
        states.append(SourceState(name=NvmlSource.name, available=False))
    if sys.platform == "linux":
        states.append(rapl_state())
        states.append(SourceState(name=HwmonSource.name, available=False))
    if sys.platform == "win32":
        remedy = "not seen on this machine; Windows 11 has them where a driver brings them"
        states.append(SourceState(name=EnergyMeterSource.name, available=False, remedy=remedy))
    return states


def rapl_state(root: Path = POWERCAP) -> SourceState:
    """Whether powercap is there but kept from us, and the command that opens it until the next start."""
    closed = closed_counters(root)
    remedy = f"sudo chmod a+r {' '.join(map(str, closed))}" if closed else ""
    return SourceState(name=RaplSource.name, available=False, remedy=remedy)
