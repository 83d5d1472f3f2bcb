"""What sampling costs: processor time of the power and memory samplers at their usual rates.

    python bench/power_overhead.py [seconds]

The main thread sleeps, so all processor time of this process is the samplers'. System files are read for real, from a
folder laid out as the kernel does where this machine has none; a driver's call is a plain function here. Budget: 0.5 %
of one core for the power sampler at 10 readings per second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lmstrix.core.benchmark.energy import PowerChannel
from lmstrix.core.benchmark.memory_sampler import MemorySampler
from lmstrix.core.benchmark.power import PERIOD_S, PowerSampler, PowerSource, ReplaySource
from lmstrix.core.benchmark.power_linux import HwmonSource, RaplSource
from lmstrix.core.benchmark.power_sources import open_power_sources

BUDGET_PERCENT = 0.5
PACKAGES = 2
CARDS = 8
LISTENER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


def powercap(root: Path) -> Path:
    """Two packages, each with its memory."""
    for package in range(PACKAGES):
        for zone, label in ((f"intel-rapl:{package}", f"package-{package}"), (f"intel-rapl:{package}:0", "dram")):
            folder = root / zone
            folder.mkdir(parents=True)
            for name, text in (("name", label), ("energy_uj", "123456789"), ("max_energy_range_uj", "262143328850")):
                (folder / name).write_text(text + "\n")
    return root


def hwmon(root: Path) -> Path:
    """One graphics card."""
    folder = root / "hwmon0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("amdgpu\n")
    (folder / "power1_average").write_text("35000000\n")
    return root


def processor_percent(seconds: float) -> float:
    """Processor time of all threads while this one sleeps, in percent of one core."""
    began_at, began_s = time.perf_counter(), time.process_time()
    time.sleep(seconds)
    return 100 * (time.process_time() - began_s) / (time.perf_counter() - began_at)


def power_percent(sources: list[PowerSource], seconds: float) -> float:
    with PowerSampler(sources, period_s=PERIOD_S):
        return processor_percent(seconds)


def memory_percent(seconds: float) -> float:
    """Watching an engine of one process, which listens and does nothing."""
    with subprocess.Popen(
        [sys.executable, "-I", "-c", LISTENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        with MemorySampler(f"127.0.0.1:{int(engine.stdout.readline())}") as sampler:
            assert sampler.read().engine_bytes
            percent = processor_percent(seconds)
        engine.stdin.close()
    return percent


def main(seconds: float) -> int:
    cards = [PowerChannel(name=f"card {number}", part="gpu", unit="J") for number in range(CARDS)]
    with tempfile.TemporaryDirectory() as folder:
        rows: list[tuple[str, float, float | None]] = []
        every: dict[str, list[PowerSource]] = {
            "powercap, 2 packages with memory": [RaplSource(powercap(Path(folder) / "powercap"))],
            "hwmon, one card": [HwmonSource(hwmon(Path(folder) / "hwmon"))],
            "a driver's counters, 8 cards": [ReplaySource(cards, [(1.0,) * CARDS])],
        }
        every["all of them"] = [source for sources in every.values() for source in sources]
        if real := open_power_sources():
            every["this machine: " + ", ".join(source.name for source in real)] = real
        rows += [(name, power_percent(sources, seconds), BUDGET_PERCENT) for name, sources in every.items()]
        rows.append(("memory of an engine, 5 times a second", memory_percent(seconds), None))
    print(f"{1 / PERIOD_S:g} readings per second, {seconds:g} s each, {os.cpu_count()} cores, percent of one core")
    for name, percent, budget in rows:
        verdict = "" if budget is None else f"  budget {budget:g} %: {'ok' if percent <= budget else 'OVER'}"
        print(f"{name:45} {percent:6.3f} %{verdict}")
    return int(any(budget is not None and percent > budget for _, percent, budget in rows))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0))
