"""Which machine this is, from what each system answers."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from lmstrix.ground import machine
from lmstrix.ground.addresses import host_name
from lmstrix.ground.machine import boot_id, earlier_name, machine_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IOREG = """+-o J316cAP  <class IOPlatformExpertDevice, id 0x100000258, registered, matched, active, retain 39>
    {
      "manufacturer" = <"Apple Inc.">
      "IOPlatformSerialNumber" = "XXXXXXXXXX"
      "IOPlatformUUID" = "8B2DA3C5-6B0E-5E0A-9E1B-0F3C7A1D2E4F"
      "model" = <"MacBookPro18,2">
    }
"""
OWN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    for known in (machine_id, boot_id):
        known.cache_clear()
    yield
    for known in (machine_id, boot_id):
        known.cache_clear()


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the id; not there yet."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(machine, "_LINUX_FILES", (str(tmp_path / "absent"), str(tmp_path / "machine-id")))
    return tmp_path / "machine-id"


def named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("platform.node", lambda: name)
    machine_id.cache_clear()


def test_it_stays_when_the_name_changes_and_does_not_tell_the_systems_own(
    linux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linux.write_text(f"{OWN}\n")
    named(monkeypatch, "box.local")
    found = machine_id()
    named(monkeypatch, "192-168-1-7.example.org")
    assert machine_id() == found
    assert re.fullmatch("[0-9a-f]{16}", found)
    assert found not in OWN


@pytest.mark.parametrize("text", [None, "", "uninitialized\n"])
def test_a_system_without_an_id_goes_by_its_name(
    linux: Path, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        linux.write_text(text)
    named(monkeypatch, "box.local")
    found = machine_id()
    named(monkeypatch, "box.example.org")  # the domain changes with the network
    assert machine_id() == found
    named(monkeypatch, "other")
    assert machine_id() != found


class TestMac:
    @pytest.fixture(autouse=True)
    def programs(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        ran: list[str] = []

        def run(words: tuple[str, ...], **_options: object) -> subprocess.CompletedProcess[bytes]:
            ran.append(words[0])
            if self.broken:
                raise FileNotFoundError(words[0])
            out = {"/usr/sbin/ioreg": IOREG, "/usr/sbin/sysctl": "9E1B-5E0A\n"}[words[0]]
            return subprocess.CompletedProcess(words, 0, out.encode(), b"")

        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(subprocess, "run", run)
        return ran

    broken = False

    def test_the_hardware_has_an_id(self, programs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        named(monkeypatch, "a")
        found = machine_id()
        monkeypatch.setattr("platform.node", lambda: "b")
        assert machine_id() == found  # asked once
        assert programs == ["/usr/sbin/ioreg"]
        self.broken = True
        named(monkeypatch, "b")
        assert machine_id() != found

    def test_a_start_has_one_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "Path", lambda _name: tmp_path / "absent")
        assert boot_id() == "9E1B-5E0A"
        boot_id.cache_clear()
        self.broken = True
        monkeypatch.setattr(psutil, "boot_time", lambda: 6000.0)
        assert boot_id() == "boot-100"


def test_windows_tells_by_its_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(machine, "_windows_id", lambda: "6f1c")
    named(monkeypatch, "a")
    found = machine_id()
    named(monkeypatch, "b")
    assert machine_id() == found


def test_an_earlier_name_is_known_by_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    own = machine_id()
    assert earlier_name({}) is None
    assert earlier_name({own: host_name()}) is None
    assert earlier_name({"another": "box"}) is None
    assert earlier_name({"another": "box", own: "was"}) == "was"
    # A known name is enough: on some systems the id costs a program.
    machine_id.cache_clear()
    monkeypatch.setattr(machine, "_system_id", lambda: pytest.fail("asked"))
    assert earlier_name({own: host_name()}) is None
