"""How much memory this machine has for models. The edge of the memory model: it asks the system, and only asks.

Each system has its own reading of main memory: Linux by psutil, lowered to the control group's limit where one is set
(containers, systemd units); Windows within its commit limit (`windows_memory`); macOS with what it gives back on demand
(`mac_memory`). Apple silicon shares main memory with the GPU, which may use only a working set of it. `cards` reads
graphics cards. Swap is told, and never counted: a model that lies in it is
read from the drive again for each token.

Traded away: what other programs will ask for a moment later. The numbers are of the moment they were read.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from lmstrix.core.memory import mac_memory, windows_memory
from lmstrix.core.memory.cards import Cards, GpuMemory, command_output, read_cards
from lmstrix.core.memory.metal import metal_working_set_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "GroupLimit",
    "HostMemory",
    "Swap",
    "address_space_limit",
    "cgroup_limit",
    "linux_swap",
    "memory_group_folders",
    "read_host_memory",
]

_UNLIMITED_BYTES = 2**60
"""Control groups without a limit report a number near 2**63."""


class Swap(NamedTuple):
    """Room on the drive for what main memory does not hold: swap files and partitions, page files."""

    total_bytes: int
    used_bytes: int


class _MainMemory(NamedTuple):
    total_bytes: int
    available_bytes: int
    source: str
    commit_left_bytes: int | None = None
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """Main memory as this process may use it, and the graphics cards beside it.

    `limited_by` says whether `available_bytes` is the machine's or a control group's. `working_set_bytes` is the share
    a GPU without memory of its own may use; None where there is none. `unreadable_gpus` are there, but nobody says how
    much memory they have; `unseen` are sources of this system that did not answer.

    `source` and `working_set_source` name what was read. `commit_left_bytes` is how much Windows will still promise,
    which `available_bytes` does not exceed; `swap` is no part of it.
    """

    total_bytes: int
    available_bytes: int
    limited_by: Literal["host", "control group"] = "host"
    source: str = ""
    working_set_bytes: int | None = None
    working_set_source: str = ""
    commit_left_bytes: int | None = None
    swap: Swap | None = None
    gpus: tuple[GpuMemory, ...] = ()
    unreadable_gpus: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def model_budget_bytes(self) -> int:
        """What a model that runs where this machine runs models best may take now.

        All cards' free memory if there are cards, else what is available, within the working set on Apple silicon.
        """
        if self.gpus:
            return sum(gpu.free_bytes for gpu in self.gpus)
        if self.working_set_bytes is not None:
            return min(self.available_bytes, self.working_set_bytes)
        return self.available_bytes


class GroupLimit(NamedTuple):
    """A control group's limit, and how much of it is in use that could not be given back."""

    limit_bytes: int
    used_bytes: int


def read_host_memory(*, with_gpus: bool = True) -> HostMemory:
    """Memory of this machine now. Asking for cards may take a few hundred milliseconds where there are any."""
    main = _main_memory()
    total, available, source = main.total_bytes, main.available_bytes, main.source
    limit = cgroup_limit(Path("/")) if sys.platform == "linux" else None
    limited_by: Literal["host", "control group"] = "host"
    # A limit above what the machine has limits nothing.
    if limit is not None and limit.limit_bytes < total:
        total, left = limit.limit_bytes, max(0, limit.limit_bytes - limit.used_bytes)
        if left < available:
            available, limited_by, source = left, "control group", "cgroup"
    working_set = _working_set(main.total_bytes)
    cards = read_cards() if with_gpus else Cards()
    return HostMemory(
        total_bytes=total,
        available_bytes=available,
        limited_by=limited_by,
        source=source,
        working_set_bytes=working_set.size_bytes if working_set is not None else None,
        working_set_source=working_set.source if working_set is not None else "",
        commit_left_bytes=main.commit_left_bytes,
        swap=_swap(),
        gpus=cards.readable,
        unreadable_gpus=cards.unreadable,
        unseen=(*main.unseen, *cards.unseen),
    )


def _main_memory() -> _MainMemory:
    """Main memory by this system's own reading, by psutil where there is none or where it fails."""
    import psutil

    memory = psutil.virtual_memory()
    total = int(memory.total)
    unseen: tuple[str, ...] = ()
    if sys.platform == "win32":
        if (status := windows_memory.read_status()) is not None:
            left = status.commit_left
            return _MainMemory(status.total_physical, status.available_bytes, windows_memory.SOURCE, left)
        unseen = (windows_memory.SOURCE,)
    if sys.platform == "darwin":
        if (available := mac_memory.available_bytes(command_output("/usr/bin/vm_stat"))) is not None:
            return _MainMemory(total, available, "vm_stat")
        unseen = ("vm_stat",)
    return _MainMemory(total, int(memory.available), "psutil", unseen=unseen)


def _swap() -> Swap | None:
    if sys.platform == "linux":
        return linux_swap(Path("/"))
    import psutil

    swap = psutil.swap_memory()
    return Swap(int(swap.total), int(swap.used))


def linux_swap(root: Path) -> Swap | None:
    """Swap as the kernel under the file system at `root` tells it, in KiB; psutil warns where it cannot read more."""
    fields = dict(line.split(":", 1) for line in _file_text(root / "proc/meminfo").splitlines() if ":" in line)
    sizes = [fields.get(name, "").split() for name in ("SwapTotal", "SwapFree")]
    if not all(size and size[0].isdigit() for size in sizes):
        return None
    total_bytes, free_bytes = (int(size[0]) * 1024 for size in sizes)
    return Swap(total_bytes, total_bytes - free_bytes)


def _working_set(total_bytes: int) -> mac_memory.WorkingSet | None:
    """What macOS lets an Apple silicon GPU use; None on other machines."""
    if not mac_memory.is_apple_silicon():
        return None
    return mac_memory.working_set(
        total_bytes,
        wired_limit_mb=mac_memory.sysctl_number("iogpu.wired_limit_mb"),
        metal_bytes=metal_working_set_bytes(),
    )


def address_space_limit() -> int | None:
    """How much address space this process and each of its children may have; None is without limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def cgroup_limit(root: Path) -> GroupLimit | None:
    """The tightest memory limit of this process's control groups (version 2 or 1) under the file system at `root`."""
    limits = []
    for folder, version in memory_group_folders(root):
        names = _GROUP_FILES[version]
        limit = _file_number(folder / names[0])
        if limit is None or limit >= _UNLIMITED_BYTES:
            continue
        used = _file_number(folder / names[1]) or 0
        # Cached files count as used but are dropped when memory is short: models read from disk would seem to fill it.
        limits.append(GroupLimit(limit, max(0, used - _reclaimable_bytes(folder / "memory.stat"))))
    return min(limits, key=lambda limit: limit.limit_bytes - limit.used_bytes, default=None)


_GROUP_FILES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}
"""The limit of a control group and what it uses, by version."""


def memory_group_folders(root: Path, process: int | str = "self") -> Iterable[tuple[Path, int]]:
    """Folders of the memory controller from a process's own group up to the top, each with the version of groups."""
    mount = root / "sys/fs/cgroup"
    for line in _file_text(root / f"proc/{process}/cgroup").splitlines():
        # Version 2 has one line without controllers; version 1 a line for each, of which one is for memory.
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top, version = mount, 2
        elif "memory" in controllers.split(","):
            top, version = mount / "memory", 1
        else:
            continue
        folder = top / group.lstrip("/")
        # Every group above this one limits it too.
        while folder != top and folder.is_relative_to(top):
            yield folder, version
            folder = folder.parent
        yield top, version


def _reclaimable_bytes(stat: Path) -> int:
    """Page cache the kernel gives back before it runs out."""
    fields = dict(line.split(None, 1) for line in _file_text(stat).splitlines() if " " in line)
    value = fields.get("total_inactive_file", fields.get("inactive_file", "0")).strip()
    return int(value) if value.isdigit() else 0


def _file_number(path: Path) -> int | None:
    text = _file_text(path).strip()
    return int(text) if text.isdigit() else None


def _file_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
