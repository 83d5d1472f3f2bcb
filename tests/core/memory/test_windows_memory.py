"""What is available under Windows, by what GlobalMemoryStatusEx told of machines."""

from __future__ import annotations

import sys

import psutil
import pytest

from lmstrix.core.memory import host, windows_memory
from lmstrix.core.memory.host import read_host_memory
from lmstrix.core.memory.windows_memory import MemoryStatus, read_status

GIB = 2**30
ROOMY = MemoryStatus(32 * GIB, 20 * GIB, 40 * GIB, 26 * GIB)
WITHOUT_PAGE_FILE = MemoryStatus(32 * GIB, 20 * GIB, 32 * GIB, 3 * GIB)
"""Programs have been promised 29 GiB that they do not use: allocations fail long before memory is full."""


def test_what_windows_promises_limits_what_is_available() -> None:
    assert ROOMY.available_bytes == 20 * GIB
    assert WITHOUT_PAGE_FILE.available_bytes == 3 * GIB


def windows(monkeypatch: pytest.MonkeyPatch, status: MemoryStatus | None) -> None:
    """A Windows that tells this of its memory; what psutil was imported for is not asked again."""
    virtual_memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: virtual_memory)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(host, "_swap", lambda: None)
    monkeypatch.setattr(windows_memory, "read_status", lambda: status)


def test_the_hosts_memory_is_what_windows_says(monkeypatch: pytest.MonkeyPatch) -> None:
    windows(monkeypatch, WITHOUT_PAGE_FILE)
    memory = read_host_memory(with_gpus=False)
    assert (memory.total_bytes, memory.available_bytes) == (32 * GIB, 3 * GIB)
    assert (memory.commit_left_bytes, memory.model_budget_bytes) == (3 * GIB, 3 * GIB)
    assert (memory.source, memory.limited_by, memory.unseen) == ("GlobalMemoryStatusEx", "host", ())


def test_a_source_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    windows(monkeypatch, None)
    memory = read_host_memory(with_gpus=False)
    assert (memory.source, memory.unseen) == ("psutil", ("GlobalMemoryStatusEx",))
    assert memory.available_bytes == psutil.virtual_memory().available


@pytest.mark.skipif(sys.platform == "win32", reason="Windows answers")
def test_other_systems_are_not_asked() -> None:
    assert read_status() is None


@pytest.mark.skipif(sys.platform != "win32", reason="asks the real kernel32")
def test_this_machine_is_read() -> None:
    status = read_status()
    assert status is not None
    assert 0 < status.available_bytes <= status.total_physical <= status.commit_limit
