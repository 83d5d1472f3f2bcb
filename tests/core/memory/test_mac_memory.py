"""What a Mac has for models: recorded answers of `vm_stat`, of the kernel and of Metal."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from lmstrix.core.memory import host, mac_memory
from lmstrix.core.memory.host import read_host_memory
from lmstrix.core.memory.mac_memory import WorkingSet, available_bytes, is_apple_silicon, is_translated, working_set
from lmstrix.core.memory.metal import metal_working_set_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

GIB = 2**30
DATA = Path(__file__).parents[2] / "data/memory"
VM_STAT = (DATA / "vm_stat_macos.txt").read_text(encoding="ascii")
RECORDED = json.loads((DATA / "working_sets.json").read_text(encoding="utf-8"))
FREE, FILE_BACKED, PURGEABLE = 6_127_229, 1_080_348, 11_820
_ELSEWHERE = pytest.mark.skipif(sys.platform == "darwin", reason="a Mac answers")
_ON_A_MAC = pytest.mark.skipif(sys.platform != "darwin", reason="asks a real Mac")


def kernel(monkeypatch: pytest.MonkeyPatch, machine: str, numbers: Mapping[str, int]) -> None:
    """A Mac whose Python says it runs on this machine, and whose kernel has these numbers."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(mac_memory, "sysctl_number", numbers.get)


def test_pages_that_files_or_nobody_holds_are_available() -> None:
    assert available_bytes(VM_STAT) == 4096 * (FREE + FILE_BACKED + PURGEABLE)
    # The rest is what Activity Monitor calls used: anonymous pages that nobody may purge, wired and compressed ones.
    anonymous, wired = 464_333, 715_958
    assert FREE + FILE_BACKED + anonymous + wired == pytest.approx(32 * GIB / 4096, rel=0.001)


def test_pages_are_as_large_as_the_text_says() -> None:
    apple_silicon = VM_STAT.replace("page size of 4096", "page size of 16384")
    assert available_bytes(apple_silicon) == 16384 * (FREE + FILE_BACKED + PURGEABLE)


@pytest.mark.parametrize("text", ["", "vm_stat: command not found", VM_STAT.partition("File-backed")[0]])
def test_other_text_tells_nothing(text: str) -> None:
    assert available_bytes(text) is None


def test_the_users_limit_goes_before_metal_and_metal_before_an_assumption() -> None:
    limited = RECORDED["with_wired_limit"]
    total, metal = limited["memory_gib"] * GIB, int(107.52 * GIB)
    told = working_set(total, wired_limit_mb=limited["wired_limit_mb"], metal_bytes=metal)
    assert told == WorkingSet(int(limited["working_set_gib"] * GIB), "iogpu.wired_limit_mb")
    for nobodys in (0, None):
        assert working_set(total, wired_limit_mb=nobodys, metal_bytes=metal) == WorkingSet(metal, "Metal")
    assert working_set(total, wired_limit_mb=0, metal_bytes=None) == WorkingSet(96 * GIB, "assumed (3/4 of memory)")
    small = working_set(16 * GIB, wired_limit_mb=None, metal_bytes=None)
    assert small == WorkingSet(16 * GIB * 2 // 3, "assumed (2/3 of memory)")


@pytest.mark.parametrize("mac", RECORDED["stock"], ids=lambda mac: mac["source"])
def test_an_assumption_is_never_more_than_a_mac_of_that_size_allowed(mac: Mapping[str, float]) -> None:
    assumed = working_set(int(mac["memory_gib"] * GIB), wired_limit_mb=None, metal_bytes=None)
    assert assumed.size_bytes <= (mac["working_set_gib"] + 0.005) * GIB


def test_rosetta_does_not_hide_apple_silicon(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, "arm64", {"sysctl.proc_translated": 0})
    assert (is_apple_silicon(), is_translated()) == (True, False)
    kernel(monkeypatch, "x86_64", {"sysctl.proc_translated": 1})
    assert (is_apple_silicon(), is_translated()) == (True, True)
    kernel(monkeypatch, "x86_64", {})  # a Mac with a processor of Intel's
    assert (is_apple_silicon(), is_translated()) == (False, False)


@pytest.mark.parametrize("machine", ["arm64", "x86_64"])
def test_a_macs_memory_is_read_of_all_three(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    kernel(monkeypatch, machine, {"sysctl.proc_translated": int(machine != "arm64"), "iogpu.wired_limit_mb": 0})
    monkeypatch.setattr(host, "_swap", lambda: None)
    monkeypatch.setattr(host, "command_output", lambda *command: VM_STAT if command == ("/usr/bin/vm_stat",) else "")
    monkeypatch.setattr(host, "metal_working_set_bytes", lambda: 5 * GIB)
    memory = read_host_memory(with_gpus=False)
    assert (memory.available_bytes, memory.source) == (4096 * (FREE + FILE_BACKED + PURGEABLE), "vm_stat")
    assert (memory.working_set_bytes, memory.working_set_source) == (5 * GIB, "Metal")
    assert memory.model_budget_bytes == 5 * GIB
    assert memory.unseen == ()


def test_a_mac_that_prints_something_else_is_read_by_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, "x86_64", {})
    monkeypatch.setattr(host, "_swap", lambda: None)
    monkeypatch.setattr(host, "command_output", lambda *_command: "")
    memory = read_host_memory(with_gpus=False)
    assert (memory.source, memory.unseen, memory.working_set_bytes) == ("psutil", ("vm_stat",), None)


@_ELSEWHERE
def test_other_systems_are_not_asked() -> None:
    assert metal_working_set_bytes() is None
    assert mac_memory.sysctl_number("hw.memsize") is None


@_ON_A_MAC
def test_this_mac_is_read() -> None:
    total = psutil.virtual_memory().total
    assert mac_memory.sysctl_number("hw.memsize") == total
    memory = read_host_memory(with_gpus=False)
    assert memory.source == "vm_stat"
    assert 0 < memory.available_bytes < total
    recommended = metal_working_set_bytes()
    # Virtual machines may have no device.
    assert recommended is None or 0 < recommended <= total
