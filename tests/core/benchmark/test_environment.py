"""Where a benchmark was measured: read from this machine, and never told of another."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from lmstrix.core.benchmark import environment
from lmstrix.core.benchmark.environment import linux_cpu, read_environment, read_machine
from lmstrix.core.benchmark.machine_load import CpuReading, busy_seconds, read_cpu, use_between
from lmstrix.core.memory.cards import GpuMemory
from lmstrix.core.memory.host import HostMemory
from lmstrix.ground.version import __version__

if TYPE_CHECKING:
    from pathlib import Path


def test_this_machine_is_described() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = read_environment(f"127.0.0.1:{listener.getsockname()[1]}", runtime="llama.cpp 1")
    assert (found.lmstrix_version, found.runtime, found.unknown) == (__version__, "llama.cpp 1", "")
    machine = found.machine
    assert machine is not None
    assert machine.logical_cores == psutil.cpu_count()
    assert 0 < machine.memory_bytes <= psutil.virtual_memory().total
    assert machine.system
    assert machine.others_cores is not None
    assert machine.others_cores >= 0


def test_of_a_remote_machine_nothing_is_told() -> None:
    found = read_environment("192.0.2.1:1234", runtime=None)
    assert found.machine is None
    assert "192.0.2.1" in found.unknown
    assert "cannot be read" in found.unknown


def test_cards_are_told_with_their_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = HostMemory(
        total_bytes=2**36,
        available_bytes=2**35,
        gpus=(GpuMemory(name="NVIDIA H200", total_bytes=2**37, free_bytes=2**36),),
        unreadable_gpus=("Intel card1",),
    )
    monkeypatch.setattr(environment, "read_host_memory", lambda: memory)
    monkeypatch.setattr(environment, "command_output", lambda *_command: "550.54.14\n550.54.14\n")
    monkeypatch.setattr(environment, "_text", lambda _path: "")
    nvidia, intel = read_machine(9).graphics
    assert (nvidia.name, nvidia.memory_bytes, nvidia.driver) == ("NVIDIA H200", 2**37, "550.54.14")
    assert (intel.name, intel.memory_bytes) == ("Intel card1", None)
    assert intel.driver == f"{platform.system()} {platform.release()}"


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n"}, "Some CPU @ 2 GHz"),
        ({"proc/cpuinfo": "processor : 0\nHardware : BCM2835\n"}, "BCM2835"),
        ({"proc/cpuinfo": "processor : 0\n", "proc/device-tree/model": "Raspberry Pi 5\0"}, "Raspberry Pi 5"),
        ({}, None),
    ],
)
def test_the_processor_is_named_by_linux(tmp_path: Path, files: dict[str, str], name: str | None) -> None:
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert linux_cpu(tmp_path) == name


def test_the_rest_of_the_busy_time_is_others() -> None:
    first = CpuReading(at_s=10.0, busy_s=100.0, engine_s=5.0, own_s=1.0)
    last = CpuReading(at_s=12.0, busy_s=104.5, engine_s=8.0, own_s=1.5)
    use = use_between(first, last)
    assert use is not None
    assert (use.engine_cores, use.others_cores) == (1.5, 0.5)
    assert use_between(None, last) is None
    assert use_between(last, last) is None


def test_waiting_and_guests_are_not_busy() -> None:
    assert busy_seconds({"user": 3.0, "steal": 1.0, "idle": 50.0, "iowait": 9.0, "guest": 2.0}) == 4.0


def test_an_engine_that_cannot_be_seen_leaves_its_load_unknown() -> None:
    assert read_cpu(()) is None


def test_the_engines_work_is_not_others() -> None:
    loop = "import time\nuntil = time.process_time() + 0.3\nwhile time.process_time() < until: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", loop], stdin=subprocess.PIPE) as engine:
        process = psutil.Process(engine.pid)
        first = read_cpu((process, psutil.Process(os.getpid())))
        until = time.monotonic() + 60
        while sum(process.cpu_times()[:2]) < 0.3 and time.monotonic() < until:
            time.sleep(0.02)
        last = read_cpu((process, psutil.Process(os.getpid())))
        engine.kill()
    assert first is not None
    assert last is not None
    assert last.engine_s - first.engine_s >= 0.2
    assert last.busy_s - first.busy_s >= 0.2
