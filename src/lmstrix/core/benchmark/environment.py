"""Where a benchmark was measured: the machine, its graphics cards, its load before it began, and the versions at work.

Everything here is of the machine this runs on. A server elsewhere tells nothing of its processor, memory or load, so
for such a one the record says what is not known instead of showing ours. What the system does not say stays None.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lmstrix.core.benchmark.machine_load import read_cpu, use_between
from lmstrix.core.benchmark.memory_sampler import engine_processes
from lmstrix.core.memory.cards import command_output
from lmstrix.core.memory.host import read_host_memory
from lmstrix.ground.addresses import host_of, local_port
from lmstrix.ground.version import __version__

_WATCHED_S = 0.5  # enough ticks of 10 ms to tell a quarter of a core from nothing
_CPU_NAMES = ("model name", "Hardware", "cpu model", "Model")  # x86; ARM boards; MIPS; more ARM boards


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphicsCard:
    """One card. `memory_bytes` None: it has none of its own, or nobody says."""

    name: str
    memory_bytes: int | None = None
    driver: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine of a benchmark. `usable_cores` are those this process may run on.

    `load_average` is of the last 1, 5 and 15 minutes before the benchmark; `others_cores` is how many cores programs
    other than the engine kept busy in the moment before it.
    """

    cpu: str | None
    architecture: str
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int | None
    memory_bytes: int
    system: str
    graphics: tuple[GraphicsCard, ...] = ()
    load_average: tuple[float, float, float] | None = None
    others_cores: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Versions, and the machine. `runtime` is what ran the models, where the server said so.

    `machine` None: it is another one, and `unknown` says what that leaves open.
    """

    lmstrix_version: str
    python_version: str
    runtime: str | None = None
    machine: Machine | None = None
    unknown: str = ""


def read_environment(address: str, *, runtime: str | None) -> Environment:
    """Where a benchmark of the server at `address` (host:port) is about to run. Takes about a second."""
    port = local_port(address)
    unknown = (
        f"the server is on another machine ({host_of(address)}); its processor, memory, graphics cards, system and "
        "load cannot be read from here"
    )
    return Environment(
        lmstrix_version=__version__,
        python_version=platform.python_version(),
        runtime=runtime,
        machine=read_machine(port) if port is not None else None,
        unknown=unknown if port is None else "",
    )


def read_machine(port: int) -> Machine:
    """This machine, where an engine listens on `port`."""
    import psutil

    memory = read_host_memory()
    named = [(gpu.name, gpu.total_bytes) for gpu in memory.gpus] + [(name, None) for name in memory.unreadable_gpus]
    cards = [GraphicsCard(name=name, memory_bytes=size, driver=_driver(name)) for name, size in named]
    return Machine(
        cpu=_cpu(),
        architecture=platform.machine(),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(),
        usable_cores=_usable_cores(),
        memory_bytes=memory.total_bytes,
        system=_system(),
        graphics=tuple(cards) or _apple_graphics(),
        load_average=psutil.getloadavg() if sys.platform != "win32" else None,
        others_cores=_others_cores(port),
    )


def _others_cores(port: int) -> float | None:
    engine = engine_processes(port)
    first = read_cpu(engine)
    time.sleep(_WATCHED_S)
    use = use_between(first, read_cpu(engine))
    return use.others_cores if use is not None else None


def _usable_cores() -> int | None:
    """The cores this process is kept to; None where the system keeps none to any."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return None


def _cpu() -> str | None:
    if sys.platform == "darwin":
        return command_output("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string").strip() or None
    if sys.platform == "win32":
        return _windows_cpu()
    return linux_cpu(Path("/"))


def _windows_cpu() -> str | None:
    if sys.platform != "win32":
        return None
    import winreg

    place = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    with suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
        return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    return platform.processor() or None


def linux_cpu(root: Path) -> str | None:
    """The processor as the files under `root` name it; on ARM that is often the board's name."""
    fields: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    named = next((fields[name] for name in _CPU_NAMES if fields.get(name)), None)
    return named or _text(root / "proc/device-tree/model").strip("\0\n ") or None


def _system() -> str:
    """The system and its version: "Debian GNU/Linux 12 (bookworm), Linux 6.1.0"."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    if sys.platform == "win32":
        return f"Windows {platform.release()} ({platform.version()})"
    kernel = f"{platform.system()} {platform.release()}"
    with suppress(OSError):
        release = platform.freedesktop_os_release()
        return f"{release.get('PRETTY_NAME') or release['NAME']}, {kernel}"
    return kernel


def _driver(card: str) -> str | None:
    """The version of a card's driver; all but NVIDIA's own names begin with their vendor here."""
    if not card.startswith(("AMD", "Intel", "Radeon")):
        return _text(Path("/sys/module/nvidia/version")).strip() or _nvidia_driver()
    if sys.platform != "linux":
        return None
    # The drivers of the kernel have no version of their own.
    module = "amdgpu" if card.startswith("AMD") else "i915"
    return _text(Path(f"/sys/module/{module}/version")).strip() or f"{platform.system()} {platform.release()}"


def _nvidia_driver() -> str | None:
    told = command_output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()
    return told[0].strip() or None if told else None


def _apple_graphics() -> tuple[GraphicsCard, ...]:
    """The GPU in an Apple processor; its driver is the system's, and its memory the machine's."""
    if sys.platform != "darwin" or platform.machine() != "arm64":
        return ()
    cores = re.search(
        r'"gpu-core-count"\s*=\s*(\d+)', command_output("/usr/sbin/ioreg", "-rc", "AGXAccelerator", "-d1")
    )
    name = f"GPU of the {_cpu() or 'processor'}" + (f", {cores[1]} cores" if cores else "")
    return (GraphicsCard(name=name),)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
