"""How much memory this machine has for models. The edge of the memory model: it asks the system, and only asks.

Main memory comes from psutil, lowered to the control group's limit where one is set (containers, systemd units). Apple
silicon shares main memory with the GPU, which may use only a working set of it. `cards` reads graphics cards.

Traded away: what other programs will ask for a moment later. The numbers are of the moment they were read.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from lmstrix.core.memory.cards import Cards, GpuMemory, command_output, read_cards

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["GroupLimit", "HostMemory", "address_space_limit", "cgroup_limit", "read_host_memory"]

_SMALL_MAC_BYTES = 36 * 2**30
_UNLIMITED_BYTES = 2**60
"""Control groups without a limit report a number near 2**63."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """Main memory as this process may use it, and the graphics cards beside it.

    `limited_by` says whether `available_bytes` is the machine's or a control group's. `working_set_bytes` is the share
    a GPU without memory of its own may use; None where there is none. `unreadable_gpus` are there, but nobody says how
    much memory they have.
    """

    total_bytes: int
    available_bytes: int
    limited_by: Literal["host", "control group"] = "host"
    working_set_bytes: int | None = None
    gpus: tuple[GpuMemory, ...] = ()
    unreadable_gpus: tuple[str, ...] = ()

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
    import psutil

    memory = psutil.virtual_memory()
    total, available = int(memory.total), int(memory.available)
    limit = cgroup_limit(Path("/")) if sys.platform == "linux" else None
    limited_by: Literal["host", "control group"] = "host"
    # A limit above what the machine has limits nothing.
    if limit is not None and limit.limit_bytes < total:
        total, left = limit.limit_bytes, max(0, limit.limit_bytes - limit.used_bytes)
        if left < available:
            available, limited_by = left, "control group"
    cards = read_cards() if with_gpus else Cards()
    return HostMemory(
        total_bytes=total,
        available_bytes=available,
        limited_by=limited_by,
        working_set_bytes=_working_set_bytes(total),
        gpus=cards.readable,
        unreadable_gpus=cards.unreadable,
    )


def _working_set_bytes(total_bytes: int) -> int | None:
    """What macOS lets an Apple silicon GPU use: the wired limit if set, else 2/3 of a small memory, 3/4 of a large."""
    if sys.platform != "darwin" or platform.machine() != "arm64":
        return None
    wired_limit_mb = command_output("/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb").strip()
    # 0 means that nobody has set it.
    if wired_limit_mb.isdigit() and int(wired_limit_mb) > 0:
        return int(wired_limit_mb) * 2**20
    return total_bytes * 2 // 3 if total_bytes <= _SMALL_MAC_BYTES else total_bytes * 3 // 4


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
    for folder, names in _cgroup_folders(root):
        limit = _file_number(folder / names[0])
        if limit is None or limit >= _UNLIMITED_BYTES:
            continue
        used = _file_number(folder / names[1]) or 0
        # Cached files count as used but are dropped when memory is short: models read from disk would seem to fill it.
        limits.append(GroupLimit(limit, max(0, used - _reclaimable_bytes(folder / "memory.stat"))))
    return min(limits, key=lambda limit: limit.limit_bytes - limit.used_bytes, default=None)


def _cgroup_folders(root: Path) -> Iterable[tuple[Path, tuple[str, str]]]:
    """Folders of the memory controller from this process's group up to the top, with the names of their files."""
    mount = root / "sys/fs/cgroup"
    for line in _file_text(root / "proc/self/cgroup").splitlines():
        # Version 2 has one line without controllers; version 1 a line for each, of which one is for memory.
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top, names = mount, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top, names = mount / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = top / group.lstrip("/")
        # Every group above this one limits it too.
        while folder != top and folder.is_relative_to(top):
            yield folder, names
            folder = folder.parent
        yield top, names


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
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
