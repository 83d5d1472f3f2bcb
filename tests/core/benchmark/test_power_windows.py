"""Windows' energy meters, as its performance counters showed them on real machines."""

from __future__ import annotations

import sys

import pytest

from lmstrix.core.benchmark import power_sources, power_windows
from lmstrix.core.benchmark.power import PowerSampler
from lmstrix.core.benchmark.power_sources import describe_power, open_power_sources
from lmstrix.core.benchmark.power_windows import EnergyMeterSource, open_energy_meters
from lmstrix.core.windows_counters import Counters
from tests.support.windows_counters import RecordedPdh

PATH = r"\Energy Meter(*)\Energy"
RYZEN = {
    "rapl_package0_core0_core": 33_770_455_183_333,
    "rapl_package0_core1_core": 43_138_999_920_833,
    "rapl_package0_pkg": 512_000_000_000_000,
    "_total": 0,
}
"""The cores are of winsiderss/systeminformer#1558: 33.8 Wh in 32 hours are 1.05 W, as its `Power` says."""
CORE = {"RAPL_Package0_PKG": 9, "RAPL_Package0_PP0": 5, "RAPL_Package0_PP1": 2, "RAPL_Package0_DRAM": 3, "_Total": 0}
SNAPDRAGON = {"PSU_USB": 6, "SYS": 5, "USBC_TOTAL": 4, "CPU_CLUSTER_0": 3, "CPU_CLUSTER_1": 2, "GPU": 1, "_Total": 0}


def source(instances: dict[str, int]) -> tuple[EnergyMeterSource, RecordedPdh]:
    pdh = RecordedPdh({PATH: instances})
    return EnergyMeterSource(Counters([PATH], pdh)), pdh


@pytest.mark.parametrize(
    ("machine", "parts"),
    [
        (RYZEN, [("cpu", "rapl_package0_pkg")]),
        (CORE, [("memory", "RAPL_Package0_DRAM"), ("cpu", "RAPL_Package0_PKG")]),
        (SNAPDRAGON, [("cpu", "CPU_CLUSTER_0"), ("cpu", "CPU_CLUSTER_1"), ("gpu", "GPU"), ("system", "SYS")]),
        ({"RAPL_Package0_PKG": 0, "_Total": 0}, []),  # an AMD driver that counts nothing: systeminformer#2599
        ({}, []),
    ],
)
def test_nothing_is_counted_twice(machine: dict[str, int], parts: list[tuple[str, str]]) -> None:
    meters, _ = source(machine)
    assert [(channel.part, channel.name) for channel in meters.channels] == parts
    assert {channel.unit for channel in meters.channels} <= {"J"}


def test_picowatt_hours_become_joules() -> None:
    meters, pdh = source(dict(CORE, RAPL_Package0_PKG=10**12, RAPL_Package0_DRAM=10**11))
    assert meters.read() == pytest.approx((360.0, 3600.0))
    pdh.counters[PATH] = {"RAPL_Package0_PKG": 2 * 10**12}
    memory_j, package_j = meters.read()
    assert memory_j is None
    assert package_j == pytest.approx(7200.0)
    meters.close()
    assert pdh.open_queries == 0


def test_a_span_is_measured_where_the_meter_moves_once_per_second() -> None:
    meters, pdh = source({"RAPL_Package0_PKG": 10**12})
    now = [0.0]
    sampler = PowerSampler([meters], clock=lambda: now[0])
    for step in range(200):
        now[0] = step * 0.1
        # 30 W, shown anew once per second.
        pdh.counters[PATH] = {"RAPL_Package0_PKG": round(10**12 + 30.0 * int(now[0]) / 3.6e-9)}
        sampler.sample()
    (series,) = sampler.series()
    assert series.power_w(5.0, 15.0) == pytest.approx(30.0, rel=0.01)
    assert series.power_w(5.2, 5.6) is None


def test_windows_says_what_its_meters_measure_or_that_none_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    pdh = RecordedPdh({PATH: CORE})
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(power_sources, "open_nvml", lambda: None)
    monkeypatch.setattr("shutil.which", lambda _name: None)  # what it was imported for was another system
    monkeypatch.setattr(power_windows, "open_counters", lambda *paths: Counters(paths, pdh))
    opened = open_power_sources()
    assert [each.name for each in opened] == ["Windows energy meters"]
    state = describe_power(opened)[0]
    assert state.measures == ("memory: RAPL_Package0_DRAM", "cpu: RAPL_Package0_PKG")
    for each in opened:
        each.close()
    pdh.counters[PATH] = {}
    assert open_power_sources() == []
    assert pdh.open_queries == 0
    unseen = {state.name: state for state in describe_power()}["Windows energy meters"]
    assert not unseen.available
    assert "not seen on this machine" in unseen.remedy


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has counters")
def test_other_systems_have_no_such_meters() -> None:
    assert open_energy_meters() is None
