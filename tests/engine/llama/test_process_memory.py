"""What the engine reads of a child's memory, on this system and where the system counts a footprint."""

from __future__ import annotations

import os
import sys

import psutil
import pytest

from lmstrix.core.memory.footprint import Footprint
from lmstrix.engine.llama import process_memory as module
from lmstrix.engine.llama.process_memory import GONE, process_memory

GIB = 2**30


def test_this_process_holds_memory_and_one_that_is_not_there_none() -> None:
    now = process_memory(os.getpid())
    assert 0 < now.resident_bytes <= now.peak_resident_bytes
    assert now.peak_address_space_bytes > 0
    assert process_memory(2**22 + 1) == GONE


def test_elsewhere_a_childs_footprint_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved_bytes = psutil.Process().memory_info().vms
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(module, "footprint", {os.getpid(): Footprint(6 * GIB, 7 * GIB)}.get)
    read = process_memory(os.getpid())
    assert (read.resident_bytes, read.peak_resident_bytes) == (6 * GIB, 7 * GIB)
    assert read.peak_address_space_bytes == pytest.approx(reserved_bytes, rel=0.5)
    monkeypatch.setattr(module, "footprint", lambda _pid: None)
    assert process_memory(os.getpid()) == GONE
