"""Which machine this is, whatever its name, and which of its starts.

machine_id()       stays when the name changes with the network; a hash of the system's own id, which goes nowhere
boot_id()          stays until the machine starts anew
earlier_name(…)    the name it had, where it has another now
"""

from __future__ import annotations

import hashlib
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.ground.addresses import host_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_ASKING_S = 5.0
_HEX_DIGITS = 16
_LINUX_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_PLATFORM_UUID = re.compile(r'"IOPlatformUUID" = "([0-9A-Fa-f-]+)"')


@cache
def machine_id() -> str:
    """A text only this machine has. Where the system gives none, it is of the name."""
    # The system's own id must not leave the machine (machine-id(5)); who has the hash cannot find the same machine in
    # what other programs wrote.
    own = _system_id() or f"name {host_name()}"
    return hashlib.sha256(f"lmstrix-machine {own}".encode()).hexdigest()[:_HEX_DIGITS]


@cache
def boot_id() -> str:
    """A text that stays the same until the machine starts anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        pass
    if sys.platform == "darwin" and (session := _output_of("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid").strip()):
        return session
    import psutil

    # To the minute: systems compute the time from a clock that is being corrected.
    return f"boot-{round(psutil.boot_time() / 60)}"


def earlier_name(names: Mapping[str, str]) -> str | None:
    """The name this machine had when `names` (machine id -> name) was written, where it has another now."""
    # Only a name that is not known makes it worth asking for the id, which starts a program on some systems.
    return None if not names or host_name() in names.values() else names.get(machine_id())


def _system_id() -> str | None:
    if sys.platform == "win32":
        return _windows_id()
    if sys.platform == "darwin":
        found = _PLATFORM_UUID.search(_output_of("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"))
        return found[1].lower() if found else None
    for file in _LINUX_FILES:
        try:
            text = Path(file).read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            continue
        # Empty, or "uninitialized", in an image that has not started yet.
        if re.fullmatch("[0-9a-f]{32}", text):
            return text
    return None


def _windows_id() -> str | None:
    if sys.platform != "win32":
        return None
    import winreg

    try:
        # A 32-bit Python is shown another part of the registry, where the value is missing.
        access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography", 0, access) as key:
            return str(winreg.QueryValueEx(key, "MachineGuid")[0]).lower()
    except OSError:
        return None


def _output_of(*words: str) -> str:
    """What a program of the system prints; nothing where it cannot be run."""
    from lmstrix.ground.processes import Command, run_helper

    try:
        return run_helper(Command(words=words), timeout_s=_ASKING_S).output
    except (OSError, TimeoutError):
        return ""
