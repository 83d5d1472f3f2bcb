"""Memory of a real process tree behind a real port, and of the file cache."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.benchmark.bandwidth import memory_bandwidth_bound
from lmstrix.core.benchmark.file_cache import cached_ratio, drop_cached
from lmstrix.core.benchmark.memory_sampler import MemorySampler

if TYPE_CHECKING:
    from pathlib import Path

CHILD = "import time; held = b'x' * 60_000_000; print(1, flush=True); time.sleep(600)"
ENGINE = f"""
import socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", 0))
child = subprocess.Popen([sys.executable, "-I", "-c", {CHILD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(listener.getsockname()[1], flush=True)
try:
    sys.stdin.read()
finally:
    child.kill()
"""
MIB = 2**20


def test_children_of_the_engine_count() -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-c", ENGINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as engine:
        assert engine.stdout is not None
        address = f"127.0.0.1:{int(engine.stdout.readline())}"
        with MemorySampler(address, period_s=0.01) as sampler:
            reading = sampler.read()
            use = sampler.use(None, reading, reading)
        assert engine.stdin is not None
        engine.stdin.close()
    assert reading.engine_bytes is not None
    assert 60 * 10**6 < reading.engine_bytes < 200 * 10**6
    assert use.engine_peak_bytes is not None
    assert use.engine_peak_bytes >= reading.engine_bytes
    assert reading.system_used_bytes > 60 * 10**6


def test_an_engine_elsewhere_is_unknown_and_peaks_start_anew() -> None:
    with MemorySampler("192.0.2.1:41343", period_s=60) as sampler:
        reading = sampler.read()
        assert reading.engine_bytes is None
        sampler.restart()
        use = sampler.use(reading, None, None)
    assert use.engine_peak_bytes is None
    assert use.system_peak_bytes is None
    assert use.loaded is None


@pytest.mark.needs_posix("the system does not tell there")
def test_a_file_just_written_is_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(4 * MIB))
    assert cached_ratio([str(file)]) == 1.0


@pytest.mark.needs_linux("only Linux can be asked to drop files")
def test_dropping_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(4 * MIB))
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    assert drop_cached([str(file)])
    ratio = cached_ratio([str(file)])
    assert ratio is not None
    assert ratio <= 1.0  # a file system in memory drops nothing


def test_files_that_are_not_there_tell_nothing(tmp_path: Path) -> None:
    assert cached_ratio([str(tmp_path / "absent")]) is None
    assert cached_ratio([]) is None
    assert not drop_cached([str(tmp_path / "absent")])


def test_the_bandwidth_bound_is_one_of_a_real_machine() -> None:
    assert 1e9 < memory_bandwidth_bound() < 1e14
