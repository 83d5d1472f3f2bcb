"""Where this machine tells its power, one class a source, and what would make it tell more.

    AppleSource          Apple silicon's own counters (IOReport), through zeus-apple-silicon; no privilege needed
    MacmonSource         `macmon pipe`, where it is installed: the same, and the whole machine's watts
    PowermetricsSource   Apple's tool, only when running as root already
    NvmlSource           NVIDIA cards: their energy counter, or their power where they have none
    RaplSource           powercap: processor packages and memory, where the files may be read
    HwmonSource          sysfs power sensors: AMD graphics cards, processors without powercap, whole machines

A source names its channels and is read in one call; None is a channel that gave nothing this time. None of them asks
for privileges: `describe_power` says which command would grant them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lmstrix.core.benchmark.energy import Channel, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_STREAM_PERIOD_MS = 100
_STOP_GRACE_S = 2.0
_POWERMETRICS_LINE = re.compile(r"^(CPU|GPU|ANE|DRAM) Power:\s*([\d.]+)\s*mW", re.MULTILINE)
_POWERMETRICS_PARTS: dict[str, Part] = {"CPU": "cpu", "GPU": "gpu", "ANE": "accelerator", "DRAM": "memory"}
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

Values = tuple[float | None, ...]


class PowerSource(Protocol):
    """Something that can be read for energy (J, counting up) or power (W), channel by channel."""

    @property
    def name(self) -> str: ...

    @property
    def channels(self) -> tuple[Channel, ...]: ...

    def read(self) -> Values:
        """The present value of every channel, in their order. Quick: called ten times a second."""

    def close(self) -> None: ...


class ReplaySource:
    """Plays readings back, one a call and the last for ever: measurements recorded elsewhere, or a test's own."""

    def __init__(self, channels: Sequence[Channel], readings: Iterable[Values], *, name: str = "replay") -> None:
        self.name = name
        self.channels = tuple(channels)
        self._readings = iter(readings)
        self._last: Values = (None,) * len(self.channels)

    def read(self) -> Values:
        self._last = next(self._readings, self._last)
        return self._last

    def close(self) -> None:
        """Nothing is held."""


class AppleMetrics(Protocol):
    """What zeus-apple-silicon gives, in millijoules; None where the chip has no such counter."""

    cpu_total_mj: int | None
    gpu_mj: int | None
    gpu_sram_mj: int | None
    dram_mj: int | None
    ane_mj: int | None


class AppleMonitor(Protocol):
    def get_cumulative_energy(self) -> AppleMetrics: ...


class AppleSource:
    """Apple silicon's energy counters. The values are the chip's own model of itself, in steps of 1 mJ."""

    name = "Apple silicon counters"
    _PARTS: tuple[tuple[str, Part], ...] = (
        ("cpu_total_mj", "cpu"),
        ("gpu_mj", "gpu"),
        ("gpu_sram_mj", "gpu"),
        ("dram_mj", "memory"),
        ("ane_mj", "accelerator"),
    )

    def __init__(self, monitor: AppleMonitor) -> None:
        self._monitor = monitor
        first = monitor.get_cumulative_energy()
        self._fields = tuple((field, part) for field, part in self._PARTS if _field(first, field) is not None)
        self.channels = tuple(
            Channel(name=field.removesuffix("_mj"), part=part, unit="J") for field, part in self._fields
        )

    def read(self) -> Values:
        metrics = self._monitor.get_cumulative_energy()
        return tuple(_scaled(_field(metrics, field), 1e-3) for field, _ in self._fields)

    def close(self) -> None:
        """The counters need no closing."""


def _field(metrics: AppleMetrics, field: str) -> int | None:
    value: int | None = getattr(metrics, field)
    return value


class Nvml(Protocol):
    """The part of nvidia-ml-py's module that is used here."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's names
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> object: ...  # noqa: N802
    def nvmlDeviceGetName(self, handle: object) -> str: ...  # noqa: N802
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int: ...  # noqa: N802
    def nvmlDeviceGetPowerUsage(self, handle: object) -> int: ...  # noqa: N802


class NvmlSource:
    """All NVIDIA cards. Cards update their figures about ten times a second and see a part of the time only."""

    name = "NVML"

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        nvml.nvmlInit()
        self._readers: list[Callable[[], int]] = []
        channels = []
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = f"{index} {nvml.nvmlDeviceGetName(handle)}"
            counter = partial(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
            power = partial(nvml.nvmlDeviceGetPowerUsage, handle)
            if self._try(counter) is not None:
                channels.append(Channel(name=name, part="gpu", unit="J"))
                self._readers.append(counter)
            elif self._try(power) is not None:
                channels.append(Channel(name=name, part="gpu", unit="W"))
                self._readers.append(power)
        self.channels = tuple(channels)

    def _try(self, read: Callable[[], int]) -> int | None:
        try:
            return read()
        except self._nvml.NVMLError:
            return None

    def read(self) -> Values:
        return tuple(_scaled(self._try(read), 1e-3) for read in self._readers)

    def close(self) -> None:
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()


class RaplSource:
    """The energy counters of processor packages and, where they count apart, their memory."""

    name = "powercap (RAPL)"

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        self._files: list[Path] = []
        channels = []
        for zone, part in _rapl_zones(root):
            file = zone / "energy_uj"
            if _number(file) is None:
                continue
            wraps_at_uj = _number(zone / "max_energy_range_uj")
            name = f"{_text(zone / 'name') or zone.name} {zone.name.partition(':')[2]}"
            channels.append(Channel(name=name, part=part, unit="J", wraps_at_j=_scaled(wraps_at_uj, 1e-6)))
            self._files.append(file)
        self.channels = tuple(channels)

    def read(self) -> Values:
        return tuple(_scaled(_number(file), 1e-6) for file in self._files)

    def close(self) -> None:
        """Files are opened for each reading."""


def _rapl_zones(root: Path) -> Iterator[tuple[Path, Part]]:
    """Packages and their memory. Cores and graphics lie within a package; "psys" is the whole machine."""
    for zone in sorted(root.glob("*-rapl:*")) if root.is_dir() else ():
        if ":" in zone.name.partition(":")[2] and _text(zone / "name") != "dram":
            continue
        if zone.name.startswith("intel-rapl-mmio"):
            continue  # the same counters, by another way
        label = _text(zone / "name")
        yield zone, "memory" if label == "dram" else "system" if label.startswith("psys") else "cpu"


class HwmonSource:
    """Power sensors of the chips we know the meaning of; counters of joules where a chip has them."""

    name = "hwmon"

    def __init__(self, root: Path = Path("/sys/class/hwmon"), *, without: frozenset[Part] = frozenset()) -> None:
        self._files: list[Path] = []
        channels = []
        for chip in sorted(root.iterdir()) if root.is_dir() else ():
            label = _text(chip / "name")
            part = _HWMON_PARTS.get(label)
            if part is None or part in without:
                continue
            for file in _hwmon_files(chip):
                unit = "J" if file.name.startswith("energy") else "W"
                channels.append(Channel(name=f"{label} {chip.name}", part=part, unit="J" if unit == "J" else "W"))
                self._files.append(file)
        self.channels = tuple(channels)

    def read(self) -> Values:
        return tuple(_scaled(_number(file), 1e-6) for file in self._files)

    def close(self) -> None:
        """Files are opened for each reading."""


def _hwmon_files(chip: Path) -> list[Path]:
    """A chip's whole power: its first average, else its first present power, else its first energy counter."""
    for name in ("power1_average", "power1_input", "energy1_input"):
        if _number(chip / name) is not None:
            return [chip / name]
    return []


class _StreamSource:
    """A program that prints readings. A thread keeps the last one; the program ends with the source."""

    def __init__(self, name: str, command: Sequence[str], channels: Sequence[Channel]) -> None:
        self.name = name
        self.channels = tuple(channels)
        self._last: Values = (None,) * len(self.channels)
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._reader = threading.Thread(target=self._follow, name=f"lmstrix-{name}", daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            values = self._parse(line.decode("utf-8", "replace"))
            if values is not None:
                self._last = values
        self._last = (None,) * len(self.channels)

    def _parse(self, line: str) -> Values | None:
        raise NotImplementedError

    def read(self) -> Values:
        return self._last

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_STOP_GRACE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


class MacmonSource(_StreamSource):
    """`macmon pipe`: watts of the chip's parts and of the whole Mac, as lines of JSON."""

    _FIELDS: tuple[tuple[str, Part], ...] = (
        ("cpu_power", "cpu"),
        ("gpu_power", "gpu"),
        ("ane_power", "accelerator"),
        ("ram_power", "memory"),
        ("sys_power", "system"),
    )

    def __init__(self, command: Sequence[str] = ("macmon", "pipe", "-i", str(_STREAM_PERIOD_MS))) -> None:
        channels = [Channel(name=field, part=part, unit="W") for field, part in self._FIELDS]
        super().__init__("macmon", command, channels)

    def _parse(self, line: str) -> Values | None:
        try:
            record = json.loads(line)
        except ValueError:
            return None
        return tuple(_number_in(record, field) for field, _ in self._FIELDS) if isinstance(record, dict) else None


class PowermetricsSource(_StreamSource):
    """Apple's `powermetrics`, which only root may run: one line a part, a group of lines a reading."""

    _COMMAND = ("powermetrics", "--samplers", "cpu_power,gpu_power", "-i", str(_STREAM_PERIOD_MS), "-b", "0")

    def __init__(self, command: Sequence[str] = _COMMAND) -> None:
        self._present: dict[str, float] = {}
        channels = [Channel(name=f"{label} power", part=part, unit="W") for label, part in _POWERMETRICS_PARTS.items()]
        super().__init__("powermetrics", command, channels[:3])

    def _parse(self, line: str) -> Values | None:
        match = _POWERMETRICS_LINE.match(line.strip())
        if match is None:
            return None
        self._present[match[1]] = float(match[2]) / 1000
        return tuple(self._present.get(label) for label in ("CPU", "GPU", "ANE"))


def _number_in(record: Mapping[str, Any], field: str) -> float | None:
    value = record.get(field)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdigit() else None


# --- which of them this machine has ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """One source on this machine: what it measures now, or what would enable it (`remedy` empty: nothing would)."""

    name: str
    available: bool
    measures: tuple[str, ...] = ()
    remedy: str = ""


def open_power_sources() -> list[PowerSource]:
    """The sources to use together here; no two measure the same thing. Empty where the machine tells nothing."""
    sources: list[PowerSource] = []
    if sys.platform == "darwin":
        apple = _open_apple() or _open_macmon() or _open_powermetrics()
        return [apple] if apple is not None else []
    nvml = _open_nvml()
    if nvml is not None:
        sources.append(nvml)
    if sys.platform == "linux":
        rapl = RaplSource()
        hwmon = HwmonSource(without=frozenset({"cpu"}) if rapl.channels else frozenset())
        sources += [source for source in (rapl, hwmon) if source.channels]
    return sources


def describe_power(sources: Sequence[PowerSource] | None = None) -> list[SourceState]:
    """What this machine can tell of its power, and what would make it tell more."""
    opened = open_power_sources() if sources is None else list(sources)
    states = [
        SourceState(
            name=source.name,
            available=True,
            measures=tuple(f"{channel.part}: {channel.name}" for channel in source.channels),
        )
        for source in opened
    ]
    if sources is None:
        for source in opened:
            source.close()
    missing = _mac_remedies() if sys.platform == "darwin" else _other_remedies(Path("/sys/class/powercap"))
    names = {state.name for state in states}
    if sys.platform == "darwin" and names:
        return states  # the three ways of a Mac tell the same
    return states + [state for state in missing if state.name not in names]


def _mac_remedies() -> list[SourceState]:
    return [
        SourceState(name=AppleSource.name, available=False, remedy="pip install 'lmstrix[power]' (Apple silicon)"),
        SourceState(name="macmon", available=False, remedy="brew install macmon"),
        SourceState(name="powermetrics", available=False, remedy="it tells its figures to root only"),
    ]


def _other_remedies(powercap: Path) -> list[SourceState]:
    states = []
    if Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi"):
        states.append(SourceState(name=NvmlSource.name, available=False, remedy="pip install 'lmstrix[power]'"))
    else:
        states.append(SourceState(name=NvmlSource.name, available=False))
    if sys.platform == "linux":
        states.append(rapl_state(powercap))
        states.append(SourceState(name=HwmonSource.name, available=False))
    return states


def rapl_state(root: Path) -> SourceState:
    """Whether powercap is there but kept from us, and the command that opens it until the next start."""
    closed = [zone / "energy_uj" for zone, _ in _rapl_zones(root) if not os.access(zone / "energy_uj", os.R_OK)]
    remedy = f"sudo chmod a+r {' '.join(map(str, closed))}" if closed else ""
    return SourceState(name=RaplSource.name, available=False, remedy=remedy)


def _open_apple() -> PowerSource | None:
    try:
        from zeus_apple_silicon import AppleEnergyMonitor
    except ImportError:
        return None
    try:
        source = AppleSource(AppleEnergyMonitor())
    except RuntimeError:
        return None  # no such counters, in a virtual machine say
    return source if source.channels else None


def _open_macmon() -> PowerSource | None:
    return MacmonSource() if shutil.which("macmon") else None


def _open_powermetrics() -> PowerSource | None:
    as_root = sys.platform != "win32" and os.geteuid() == 0
    return PowermetricsSource() if as_root and shutil.which("powermetrics") else None


def _open_nvml() -> PowerSource | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        source = NvmlSource(pynvml)
    except pynvml.NVMLError:
        return None
    if source.channels:
        return source
    source.close()
    return None
