"""What a process takes: of this one for real, of a Mac's by what its kernel fills in."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

from lmstrix.core.memory import footprint as footprints
from lmstrix.core.memory.footprint import Footprint, footprint, mac_footprint

if TYPE_CHECKING:
    import pytest

MIB, GIB = 2**20, 2**30
_ORDER = (
    "ri_user_time ri_system_time ri_pkg_idle_wkups ri_interrupt_wkups ri_pageins ri_wired_size ri_resident_size "
    "ri_phys_footprint ri_proc_start_abstime ri_proc_exit_abstime ri_child_user_time ri_child_system_time "
    "ri_child_pkg_idle_wkups ri_child_interrupt_wkups ri_child_pageins ri_child_elapsed_abstime ri_diskio_bytesread "
    "ri_diskio_byteswritten ri_cpu_time_qos_default ri_cpu_time_qos_maintenance ri_cpu_time_qos_background "
    "ri_cpu_time_qos_utility ri_cpu_time_qos_legacy ri_cpu_time_qos_user_initiated ri_cpu_time_qos_user_interactive "
    "ri_billed_system_time ri_serviced_system_time ri_logical_writes ri_lifetime_max_phys_footprint ri_instructions "
    "ri_cycles ri_billed_energy ri_serviced_energy ri_interval_max_phys_footprint ri_runnable_time"
)


def rusage(**told: int) -> bytes:
    """`struct rusage_info_v4`: a UUID, then numbers of 8 bytes in the order of Apple's sys/resource.h."""
    numbers = [told.pop(name, 1) for name in _ORDER.split()]
    assert not told
    return bytes(16) + struct.pack(f"<{len(numbers)}Q", *numbers)


def test_a_macs_process_takes_the_larger_of_footprint_and_resident_memory() -> None:
    on_the_gpu = rusage(ri_resident_size=300 * MIB, ri_phys_footprint=6 * GIB, ri_lifetime_max_phys_footprint=7 * GIB)
    assert mac_footprint(on_the_gpu) == Footprint(6 * GIB, 7 * GIB)
    mapped = rusage(ri_resident_size=5 * GIB, ri_phys_footprint=400 * MIB, ri_lifetime_max_phys_footprint=500 * MIB)
    assert mac_footprint(mapped) == Footprint(5 * GIB, 5 * GIB)


def test_the_structure_is_as_long_as_version_4_is() -> None:
    assert len(rusage()) == 296


def test_a_mac_is_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    told = {7: rusage(ri_phys_footprint=GIB)}
    monkeypatch.setattr(footprints, "_read_rusage", told.get)
    taken = footprint(7)
    assert taken is not None
    assert taken.now_bytes == GIB
    assert footprint(8) is None


def test_this_process_takes_what_it_holds() -> None:
    before = footprint(os.getpid())
    held = b"x" * (64 * MIB)
    after = footprint(os.getpid())
    assert before is not None
    assert after is not None
    assert len(held) // 2 < after.now_bytes - before.now_bytes < 4 * len(held)
    assert after.peak_bytes >= after.now_bytes


def test_a_process_that_has_ended_takes_nothing() -> None:
    with subprocess.Popen([sys.executable, "-I", "-c", ""]) as ended:
        ended.wait(timeout=30)
    assert footprint(ended.pid) is None
