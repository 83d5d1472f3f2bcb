"""What Windows reports of power use: the energy meters of Windows 11, as its performance counters show them.

Drivers hand their meters to Windows through its Energy Metering Interface, whose only unit is the picowatt-hour
(EMI_MEASUREMENT_UNIT in Microsoft's emi.h). Intel's chips have one for each package, its cores and its memory; machines
with Qualcomm's have one for each rail. Many machines have none: those without such a driver, and virtual machines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.energy import Part, PowerChannel
from lmstrix.core.benchmark.power import Values, scaled
from lmstrix.core.windows_counters import open_counters

if TYPE_CHECKING:
    from lmstrix.core.benchmark.power import PowerSource
    from lmstrix.core.windows_counters import Counters

_PATH = r"\Energy Meter(*)\Energy"
_JOULES_PER_PICOWATT_HOUR = 3.6e-9
_RENEWED_EVERY_S = 1.0
"""Nobody documents it. Public records show one new value per second; if there are more, a span is only measured less
often than it could be."""
_METERS: tuple[tuple[re.Pattern[str], Part], ...] = (
    (re.compile(r"RAPL_Package\d+_PKG", re.IGNORECASE), "cpu"),
    (re.compile(r"RAPL_Package\d+_DRAM", re.IGNORECASE), "memory"),
    (re.compile(r"CPU_CLUSTER_\d+", re.IGNORECASE), "cpu"),
    (re.compile(r"GPU", re.IGNORECASE), "gpu"),
    (re.compile(r"SYS", re.IGNORECASE), "system"),
)
"""Cores and graphics (PP0, PP1, Core) lie within a package; "_Total" adds everything up twice, or is 0."""


class EnergyMeterSource:
    """The energy meters whose meaning we know."""

    name = "Windows energy meters"
    taken_at: float | None = None

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        # Where a driver counts nothing, its meters stand at 0.
        named = {name: part for name, energy in self._read().items() if energy and (part := _part(name)) is not None}
        self.channels = tuple(
            PowerChannel(name=name, part=part, unit="J", renewed_every_s=_RENEWED_EVERY_S)
            for name, part in sorted(named.items())
        )

    def read(self) -> Values:
        present = self._read()
        return tuple(scaled(present.get(channel.name), _JOULES_PER_PICOWATT_HOUR) for channel in self.channels)

    def close(self) -> None:
        self._counters.close()

    def _read(self) -> dict[str, int]:
        (present,) = self._counters.read()
        return present


def _part(meter: str) -> Part | None:
    return next((part for pattern, part in _METERS if pattern.fullmatch(meter)), None)


def open_energy_meters() -> PowerSource | None:
    """The meters of this machine, if Windows has any that we know."""
    counters = open_counters(_PATH)
    if counters is None:
        return None
    source = EnergyMeterSource(counters)
    if source.channels:
        return source
    # Nobody will close a source that is not handed out.
    source.close()
    return None
