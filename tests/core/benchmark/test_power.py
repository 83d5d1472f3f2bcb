"""Power sources played back: system files in a folder, drivers and programs that print what real ones print."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, ClassVar

import pytest

from lmstrix.core.benchmark.energy import PowerChannel
from lmstrix.core.benchmark.power import PowerSampler, PowerSource, ReplaySource
from lmstrix.core.benchmark.power_apple import AppleSource, MacmonSource, PowermetricsSource
from lmstrix.core.benchmark.power_linux import HwmonSource, RaplSource
from lmstrix.core.benchmark.power_nvidia import NvmlSource
from lmstrix.core.benchmark.power_sources import describe_power, open_power_sources, rapl_state

if TYPE_CHECKING:
    from pathlib import Path

GPU = PowerChannel(name="card", part="gpu", unit="W")


class Clock:
    """Goes on by what it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


def zone(root: Path, name: str, label: str, energy_uj: int, wraps_uj: int = 262_143_328_850) -> Path:
    write(root / name / "name", label)
    write(root / name / "energy_uj", str(energy_uj))
    write(root / name / "max_energy_range_uj", str(wraps_uj))
    return root / name


def test_sampler_keeps_what_a_source_says() -> None:
    clock = Clock()
    source = ReplaySource([GPU], [(float(watts),) for watts in range(100)])
    with PowerSampler([], clock=clock) as nothing:
        assert not nothing.measures
        assert nothing.series() == []
    sampler = PowerSampler([source], clock=clock)
    for step in range(100):
        clock.now = step * 0.1
        sampler.sample()
    (series,) = sampler.series()
    assert series.energy_j(0.0, 9.9) == pytest.approx(99 * 9.9 / 2)
    (late,) = sampler.series(since=8.0)
    assert late.at[0] == pytest.approx(7.9)
    assert late.energy_j(7.0, 9.9) is None
    assert late.energy_j(9.0, 9.9) == pytest.approx((90 + 99) / 2 * 0.9)
    (kept,) = sampler.readings()
    assert (kept.source, kept.channel) == ("replay", GPU)
    assert list(kept.values) == [float(watts) for watts in range(100)]


def test_sampler_reads_by_itself() -> None:
    seen = threading.Event()

    class Counting(ReplaySource):
        closed = False

        def read(self) -> tuple[float | None, ...]:
            values = super().read()
            if values[0] == 5.0:
                seen.set()
            return values

        def close(self) -> None:
            self.closed = True

    source = Counting([GPU], [(float(watts),) for watts in range(1000)])
    with PowerSampler([source], period_s=0.001) as sampler:
        assert seen.wait(10)
    (series,) = sampler.series()
    assert list(series.values[:6]) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert source.closed


def test_a_source_that_fails_is_told_and_left_alone() -> None:
    class Failing(ReplaySource):
        calls = 0

        def read(self) -> tuple[float | None, ...]:
            self.calls += 1
            if self.calls > 2:
                raise OSError("the driver is gone")
            return (1.0,)

    clock = Clock()
    failing, steady = Failing([GPU], [], name="failing"), ReplaySource([GPU], [(2.0,)])
    sampler = PowerSampler([failing, steady], clock=clock)
    for step in range(6):
        clock.now = step * 0.1
        sampler.sample()
    assert sampler.failed == {"failing": "OSError: the driver is gone"}
    assert failing.calls == 3
    assert [len(series.at) for series in sampler.series()] == [2, 6]


def test_powercap_counts_packages_and_memory_once(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1_500_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 900_000)
    zone(tmp_path, "intel-rapl:0:1", "dram", 250_000)
    zone(tmp_path, "intel-rapl:1", "psys", 9_000_000)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1_500_000)
    source = RaplSource(tmp_path)
    assert [(channel.part, channel.unit) for channel in source.channels] == [
        ("cpu", "J"),
        ("memory", "J"),
        ("system", "J"),
    ]
    assert source.channels[0].wraps_at_j == pytest.approx(262_143.32885)
    assert source.read() == pytest.approx((1.5, 0.25, 9.0))
    (package / "energy_uj").unlink()
    assert source.read()[0] is None


@pytest.mark.needs_posix("permissions are of another kind there")
def test_powercap_kept_from_us_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj"
    monkeypatch.setattr("os.access", lambda path, mode: path != closed)
    assert rapl_state(tmp_path).remedy == f"sudo chmod a+r {closed}"
    assert rapl_state(tmp_path / "none").remedy == ""


def test_hwmon_takes_the_chips_it_knows(tmp_path: Path) -> None:
    write(tmp_path / "hwmon0" / "name", "nvme")
    write(tmp_path / "hwmon0" / "power1_input", "1")
    write(tmp_path / "hwmon1" / "name", "amdgpu")
    write(tmp_path / "hwmon1" / "power1_average", "35000000")
    write(tmp_path / "hwmon1" / "power1_input", "99000000")
    write(tmp_path / "hwmon2" / "name", "amd_energy")
    write(tmp_path / "hwmon2" / "energy1_input", "7000000")
    write(tmp_path / "hwmon3" / "name", "amdgpu")
    both = HwmonSource(tmp_path)
    assert [(channel.part, channel.unit) for channel in both.channels] == [("gpu", "W"), ("cpu", "J")]
    assert both.read() == pytest.approx((35.0, 7.0))
    beside_rapl = HwmonSource(tmp_path, without=frozenset({"cpu"}))
    assert [channel.part for channel in beside_rapl.channels] == ["gpu"]


class NvmlError(Exception):
    pass


class FakeNvml:
    """Two cards as the driver shows them: one counts joules, an old one knows its present power only."""

    names: ClassVar[list[str]] = ["H200", "GTX 1060"]

    def __init__(self) -> None:
        self.NVMLError: type[Exception] = NvmlError
        self.running = False
        self.millijoules = 5_000

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        self.running = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.running = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: object) -> str:  # noqa: N802
        return self.names[int(str(handle))]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:  # noqa: N802
        if handle == 1:
            raise NvmlError("not supported")
        return self.millijoules

    def nvmlDeviceGetPowerUsage(self, handle: object) -> int:  # noqa: N802
        return 120_500


def test_nvml_prefers_the_counter() -> None:
    nvml = FakeNvml()
    source = NvmlSource(nvml)
    assert [(channel.name, channel.unit) for channel in source.channels] == [("0 H200", "J"), ("1 GTX 1060", "W")]
    assert source.read() == pytest.approx((5.0, 120.5))
    nvml.millijoules += 700
    assert source.read()[0] == pytest.approx(5.7)
    source.close()
    assert not nvml.running


class AppleMetrics:
    cpu_total_mj: int | None = 12_000
    gpu_mj: int | None = 3_000
    gpu_sram_mj: int | None = 10
    dram_mj: int | None = None
    ane_mj: int | None = 0


class AppleMonitor:
    def get_cumulative_energy(self) -> AppleMetrics:
        return AppleMetrics()


def test_apple_counters_leave_out_what_a_chip_lacks() -> None:
    source = AppleSource(AppleMonitor())
    assert [channel.part for channel in source.channels] == ["cpu", "gpu", "gpu", "accelerator"]
    assert source.read() == pytest.approx((12.0, 3.0, 0.01, 0.0))


def printing(tmp_path: Path, text: str) -> list[str]:
    """A program that prints `text` and goes on running."""
    script = tmp_path / "printer.py"
    script.write_text(f"import time\nprint({text!r}, flush=True)\ntime.sleep(600)\n", encoding="utf-8")
    return [sys.executable, "-I", str(script)]


def until_read(source: PowerSource) -> tuple[float | None, ...]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        values = source.read()
        if values[0] is not None and values[-1] is not None:
            return values
        time.sleep(0.01)
    raise AssertionError(f"nothing came: {source.read()}")


def test_macmon_lines_are_read(tmp_path: Path) -> None:
    lines = (
        'not json\n[1]\n{"all_power": 12.0, "cpu_power": 4.5, "gpu_power": 7.25, "ane_power": 0.0, '
        '"ram_power": 0.5, "sys_power": 19.75, "temp": {"cpu_temp_avg": 40.1}}'
    )
    source = MacmonSource(printing(tmp_path, lines))
    try:
        assert until_read(source) == (4.5, 7.25, 0.0, 0.5, 19.75)
        assert source.channels[-1].part == "system"
    finally:
        source.close()
    assert source.read() == (None,) * 5  # its end is the end of the readings


def test_powermetrics_lines_are_read(tmp_path: Path) -> None:
    lines = "*** Sampled system activity ***\nCPU Power: 1432 mW\nGPU Power: 310 mW\nANE Power: 0 mW\n"
    lines += "Combined Power (CPU + GPU + ANE): 1742 mW"
    source = PowermetricsSource(printing(tmp_path, lines))
    try:
        assert until_read(source) == pytest.approx((1.432, 0.31, 0.0))
    finally:
        source.close()


def test_this_machine_is_described_and_read_for_real() -> None:
    sources = open_power_sources()
    try:
        states = describe_power(sources)
        assert [state.name for state in states if state.available] == [source.name for source in sources]
        assert len({state.name for state in states}) == len(states)
        for source in sources:
            assert len(source.read()) == len(source.channels)
    finally:
        for source in sources:
            source.close()
