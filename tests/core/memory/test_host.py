"""What the machine has: control groups read from a made-up file system, the real machine only looked at."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from lmstrix.core.memory import host
from lmstrix.core.memory.cards import GpuMemory
from lmstrix.core.memory.host import GroupLimit, HostMemory, Swap, cgroup_limit, linux_swap, read_host_memory

if TYPE_CHECKING:
    from pathlib import Path

_GIB = 2**30


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_version_2_takes_the_tightest_group_on_the_way_up(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/work.scope\n",
            "sys/fs/cgroup/user.slice/memory.max": f"{4 * _GIB}\n",
            "sys/fs/cgroup/user.slice/memory.current": f"{3 * _GIB}\n",
            "sys/fs/cgroup/user.slice/memory.stat": f"anon 5\ninactive_file {_GIB}\n",
            "sys/fs/cgroup/user.slice/work.scope/memory.max": "max\n",
        },
    )
    assert cgroup_limit(tmp_path) == GroupLimit(4 * _GIB, 2 * _GIB)


def test_version_1_reads_the_memory_controller(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/docker/abc"
    _write(
        tmp_path,
        {
            "proc/self/cgroup": "12:cpu,cpuacct:/docker/abc\n5:memory:/docker/abc\n0::/\n",
            f"{group}/memory.limit_in_bytes": str(2 * _GIB),
            f"{group}/memory.usage_in_bytes": str(_GIB),
            f"{group}/memory.stat": "cache 7\ntotal_inactive_file 1024\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
        },
    )
    assert cgroup_limit(tmp_path) == GroupLimit(2 * _GIB, _GIB - 1024)


def test_no_group_no_limit(tmp_path: Path) -> None:
    assert cgroup_limit(tmp_path) is None
    _write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"})
    assert cgroup_limit(tmp_path) is None


def test_this_machine() -> None:
    memory = read_host_memory(with_gpus=False)
    assert 0 < memory.available_bytes <= memory.total_bytes <= psutil.virtual_memory().total
    assert memory.model_budget_bytes <= memory.available_bytes
    assert memory.gpus == ()


def test_swap_is_told_and_not_counted(tmp_path: Path) -> None:
    _write(tmp_path, {"proc/meminfo": "MemTotal: 8000000 kB\nSwapTotal:  2097148 kB\nSwapFree:  2097000 kB\n"})
    assert linux_swap(tmp_path) == Swap(2_097_148 * 1024, 148 * 1024)
    assert linux_swap(tmp_path / "nothing") is None
    swapping = HostMemory(total_bytes=8 * _GIB, available_bytes=2 * _GIB, swap=Swap(64 * _GIB, 0))
    assert swapping.model_budget_bytes == 2 * _GIB


@pytest.mark.skipif(sys.platform != "linux", reason="names what is read on Linux")
def test_a_reading_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cgroup_limit", lambda _root: None)
    free = read_host_memory(with_gpus=False)
    assert (free.source, free.unseen, free.commit_left_bytes) == ("psutil", (), None)
    monkeypatch.setattr(host, "cgroup_limit", lambda _root: GroupLimit(2**20, 2**19))
    assert read_host_memory(with_gpus=False).source == "cgroup"


def test_the_budget_is_the_cards_memory_where_there_are_cards() -> None:
    plain = HostMemory(total_bytes=64 * _GIB, available_bytes=50 * _GIB)
    assert plain.model_budget_bytes == 50 * _GIB
    mac = HostMemory(total_bytes=48 * _GIB, available_bytes=40 * _GIB, working_set_bytes=36 * _GIB)
    assert mac.model_budget_bytes == 36 * _GIB
    card = GpuMemory(name="card", total_bytes=24 * _GIB, free_bytes=22 * _GIB)
    two = HostMemory(total_bytes=64 * _GIB, available_bytes=50 * _GIB, gpus=(card, card))
    assert two.model_budget_bytes == 44 * _GIB


@pytest.mark.needs_posix("the stand-in for nvidia-smi is a shell script")
def test_cards_as_nvidia_smi_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA RTX 4090, 24564, 23000'\necho 'Odd, name, 8192, 8000'\necho '[N/A]'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_host_memory().gpus == (
        GpuMemory(name="NVIDIA RTX 4090", total_bytes=24_564 * 2**20, free_bytes=23_000 * 2**20, source="nvidia-smi"),
        GpuMemory(name="Odd, name", total_bytes=8_192 * 2**20, free_bytes=8_000 * 2**20, source="nvidia-smi"),
    )
