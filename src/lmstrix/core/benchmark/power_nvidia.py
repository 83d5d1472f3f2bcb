"""What NVIDIA cards report of their power use: their energy counter, or their watts where they have none."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from lmstrix.core.benchmark.energy import PowerChannel
from lmstrix.core.benchmark.power import Values, scaled

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.benchmark.power import PowerSource


_RENEWED_EVERY_S = 0.1  # cards from Ampere on, by Yang, Adamek and Armour, "Part-time power measurements" (2024)


class Nvml(Protocol):
    """The part of nvidia-ml-py's module that is used here."""

    @property
    def NVMLError(self) -> type[Exception]: ...  # noqa: N802 - NVML's names

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
    taken_at: float | None = None

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
            # The counter misses nothing between two readings; older cards have none.
            if self._try(counter) is not None:
                channels.append(PowerChannel(name=name, part="gpu", unit="J", renewed_every_s=_RENEWED_EVERY_S))
                self._readers.append(counter)
            elif self._try(power) is not None:
                channels.append(PowerChannel(name=name, part="gpu", unit="W"))
                self._readers.append(power)
        self.channels = tuple(channels)

    def _try(self, read: Callable[[], int]) -> int | None:
        try:
            return read()
        except self._nvml.NVMLError:
            return None

    def read(self) -> Values:
        return tuple(scaled(self._try(read), 1e-3) for read in self._readers)

    def close(self) -> None:
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()


def open_nvml() -> PowerSource | None:
    """The cards of this machine, if there are any and their library is installed."""
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
    # Nobody will close a source that is not handed out.
    source.close()
    return None
