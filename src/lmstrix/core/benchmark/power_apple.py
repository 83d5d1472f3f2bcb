"""What a Mac reports of its power use: the chip's own counters, `macmon`, or Apple's `powermetrics`.

    AppleSource          Apple silicon's own counters (IOReport), through zeus-apple-silicon; no privilege needed
    MacmonSource         `macmon pipe`, where it is installed: the same, and the whole machine's watts
    PowermetricsSource   Apple's tool, only when running as root already

All three report the same power, so the first that works is used alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from lmstrix.core.benchmark.energy import Part, PowerChannel
from lmstrix.core.benchmark.power import PERIOD_S, Values, scaled
from lmstrix.core.registry.json_fields import read_number
from lmstrix.ground.processes import Command, end_program, spawn_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.power import PowerSource

_STOP_GRACE_S = 2.0
_POWERMETRICS_LINE = re.compile(r"^(CPU|GPU|ANE|DRAM) Power:\s*([\d.]+)\s*mW", re.MULTILINE)
_POWERMETRICS_PARTS: dict[str, Part] = {"CPU": "cpu", "GPU": "gpu", "ANE": "accelerator", "DRAM": "memory"}


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
    taken_at: float | None = None
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
        # Which counters there are differs from chip to chip.
        self._fields = tuple((field, part) for field, part in self._PARTS if _field(first, field) is not None)
        self.channels = tuple(
            PowerChannel(name=field.removesuffix("_mj"), part=part, unit="J") for field, part in self._fields
        )

    def read(self) -> Values:
        metrics = self._monitor.get_cumulative_energy()
        return tuple(scaled(_field(metrics, field), 1e-3) for field, _ in self._fields)

    def close(self) -> None:
        """The counters need no closing."""


def _field(metrics: AppleMetrics, field: str) -> int | None:
    value: int | None = getattr(metrics, field)
    return value


class _StreamSource:
    """A program that prints readings, each the mean since the one before. A thread keeps the last one and its moment.

    The program ends with the source.
    """

    def __init__(self, name: str, command: Sequence[str], channels: Sequence[PowerChannel]) -> None:
        self.name = name
        self.channels = tuple(channels)
        self._last: tuple[Values, float | None] = ((None,) * len(self.channels), None)
        self._shown: float | None = None
        self._process = spawn_helper(Command(words=tuple(command)))
        self._reader = threading.Thread(target=self._follow, name=f"lmstrix-{name}", daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            values = self._parse(line.decode("utf-8", "replace"))
            if values is not None:
                self._last = (values, time.perf_counter())
        self._last = (
            (None,) * len(self.channels),
            None,
        )  # the program ended: its last figure would be read again and again

    def _parse(self, line: str) -> Values | None:
        raise NotImplementedError

    @property
    def taken_at(self) -> float | None:
        """When the reading came that was read last."""
        return self._shown

    def read(self) -> Values:
        # Values and moment of one reading: the thread may bring the next one meanwhile.
        values, self._shown = self._last
        return values

    def close(self) -> None:
        # The program would go on measuring after us.
        end_program(self._process, _STOP_GRACE_S)
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

    def __init__(self, command: Sequence[str] | None = None, *, period_s: float = PERIOD_S) -> None:
        channels = [PowerChannel(name=field, part=part, unit="W", averaged=True) for field, part in self._FIELDS]
        super().__init__("macmon", command or ("macmon", "pipe", "-i", _milliseconds(period_s)), channels)

    def _parse(self, line: str) -> Values | None:
        try:
            record = json.loads(line)
        except ValueError:
            return None
        return tuple(read_number(record.get(field)) for field, _ in self._FIELDS) if isinstance(record, dict) else None


class PowermetricsSource(_StreamSource):
    """Apple's `powermetrics`, which only root may run: one line per part, a group of lines per reading."""

    _COMMAND = ("powermetrics", "--samplers", "cpu_power,gpu_power", "-b", "0", "-i")

    def __init__(self, command: Sequence[str] | None = None, *, period_s: float = PERIOD_S) -> None:
        self._present: dict[str, float] = {}
        channels = [
            PowerChannel(name=f"{label} power", part=part, unit="W", averaged=True)
            for label, part in _POWERMETRICS_PARTS.items()
        ]
        super().__init__("powermetrics", command or (*self._COMMAND, _milliseconds(period_s)), channels[:3])

    def _parse(self, line: str) -> Values | None:
        match = _POWERMETRICS_LINE.match(line.strip())
        if match is None:
            return None
        self._present[match[1]] = float(match[2]) / 1000
        # The last line of a group: before it, some values are of the group before.
        if match[1] != "ANE":
            return None
        return tuple(self._present.get(label) for label in ("CPU", "GPU", "ANE"))


def _milliseconds(period_s: float) -> str:
    return str(max(1, round(period_s * 1000)))


def open_apple(period_s: float = PERIOD_S) -> PowerSource | None:
    """The first of the three that works here."""
    return _open_counters() or _open_macmon(period_s) or _open_powermetrics(period_s)


def _open_counters() -> PowerSource | None:
    try:
        from zeus_apple_silicon import AppleEnergyMonitor
    except ImportError:
        return None
    try:
        source = AppleSource(AppleEnergyMonitor())
    except RuntimeError:
        return None  # no such counters, as in a virtual machine
    return source if source.channels else None


def _open_macmon(period_s: float) -> PowerSource | None:
    return MacmonSource(period_s=period_s) if shutil.which("macmon") else None


def _open_powermetrics(period_s: float) -> PowerSource | None:
    as_root = sys.platform != "win32" and os.geteuid() == 0
    return PowermetricsSource(period_s=period_s) if as_root and shutil.which("powermetrics") else None
