"""What Linux reports of power use in /sys, without a library.

RaplSource    powercap: processor packages and memory, where the files may be read
HwmonSource   power sensors: AMD graphics cards, processors without powercap, whole machines
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmstrix.core.benchmark.energy import Part, PowerChannel
from lmstrix.core.benchmark.power import Values, scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.core.benchmark.power import PowerSource

POWERCAP = Path("/sys/class/powercap")
HWMON = Path("/sys/class/hwmon")
_HWMON_PARTS: dict[str, Part] = {
    "amdgpu": "gpu",
    "xe": "gpu",
    "i915": "gpu",
    "nouveau": "gpu",
    "amd_energy": "cpu",
    "zenpower": "cpu",
    "fam15h_power": "cpu",
    "macsmc_hwmon": "system",
    "power_meter": "system",
    "acpi_power_meter": "system",
}


class RaplSource:
    """The energy counters of processor packages and, where they count apart, their memory."""

    name = "powercap (RAPL)"
    taken_at: float | None = None

    def __init__(self, root: Path = POWERCAP) -> None:
        self._files: list[Path] = []
        channels = []
        for zone, part in _rapl_zones(root):
            # Linux lets only root read it by default, as it leaks what others compute; `closed_counters` names such.
            file = zone / "energy_uj"
            if _read_number(file) is None:
                continue
            wraps_at_uj = _read_number(zone / "max_energy_range_uj")
            name = f"{_read_word(zone / 'name') or zone.name} {zone.name.partition(':')[2]}"
            channels.append(PowerChannel(name=name, part=part, unit="J", wraps_at_j=scaled(wraps_at_uj, 1e-6)))
            self._files.append(file)
        self.channels = tuple(channels)

    def read(self) -> Values:
        return tuple(scaled(_read_number(file), 1e-6) for file in self._files)

    def close(self) -> None:
        """Files are opened for each reading."""


def _rapl_zones(root: Path) -> Iterator[tuple[Path, Part]]:
    """Packages and their memory. Cores and graphics lie within a package; "psys" is the whole machine."""
    for zone in sorted(root.glob("*-rapl:*")) if root.is_dir() else ():
        if ":" in zone.name.partition(":")[2] and _read_word(zone / "name") != "dram":
            continue
        if zone.name.startswith("intel-rapl-mmio"):
            continue  # the same counters, by another way
        label = _read_word(zone / "name")
        yield zone, "memory" if label == "dram" else "system" if label.startswith("psys") else "cpu"


class HwmonSource:
    """Power sensors of the chips we know the meaning of; counters of joules where a chip has them."""

    name = "hwmon"
    taken_at: float | None = None

    def __init__(self, root: Path = HWMON, *, without: frozenset[Part] = frozenset()) -> None:
        self._files: list[Path] = []
        channels = []
        for chip in sorted(root.iterdir()) if root.is_dir() else ():
            label = _read_word(chip / "name")
            part = _HWMON_PARTS.get(label)
            # Chips we do not know may measure a fan or the same power again.
            if part is None or part in without:
                continue
            if (file := _whole_power(chip)) is None:
                continue
            unit: Literal["J", "W"] = "J" if file.name.startswith("energy") else "W"
            channels.append(PowerChannel(name=f"{label} {chip.name}", part=part, unit=unit))
            self._files.append(file)
        self.channels = tuple(channels)

    def read(self) -> Values:
        return tuple(scaled(_read_number(file), 1e-6) for file in self._files)

    def close(self) -> None:
        """Files are opened for each reading."""


def _whole_power(chip: Path) -> Path | None:
    """A chip's whole power: its first average, else its first present power, else its first energy counter."""
    files = (chip / name for name in ("power1_average", "power1_input", "energy1_input"))
    return next((file for file in files if _read_number(file) is not None), None)


def open_sysfs() -> list[PowerSource]:
    """What of the two is here; a processor that powercap counts is not counted again."""
    rapl = RaplSource()
    hwmon = HwmonSource(without=frozenset({"cpu"}) if rapl.channels else frozenset())
    return [source for source in (rapl, hwmon) if source.channels]


def closed_counters(root: Path = POWERCAP) -> list[Path]:
    """The files of powercap that are there but kept from us."""
    return [zone / "energy_uj" for zone, _ in _rapl_zones(root) if not os.access(zone / "energy_uj", os.R_OK)]


def _read_word(file: Path) -> str:
    """What a file of the kernel holds; nothing where it may not be read."""
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _read_number(file: Path) -> int | None:
    text = _read_word(file)
    return int(text) if text.isdigit() else None
