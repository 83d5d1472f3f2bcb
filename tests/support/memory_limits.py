"""Real limits on the memory of processes, set by the system: a control group where one may be made, else RLIMIT_AS.

    with best_limit() as limit:
        limit.set(200 * MIB)
        subprocess.run(["sh", "-c", f"{limit.entry}; exec …"])

`entry` is a line of shell that puts the process that runs it, and all it starts, under the limit. A control group kills
who takes more; RLIMIT_AS makes the allocation fail. Version 2 groups need a folder in which the memory controller is
handed down; without one, or without the right to make a group, RLIMIT_AS is left, which every system of POSIX has but
macOS ignores.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

LimitKind = Literal["cgroup", "address-space"]

MIB = 2**20
_SETTLE_S = 5.0
"""How long the processes of a group may take to leave it once they were killed."""
_POLL_S = 0.02
_CGROUPS = Path("/sys/fs/cgroup")


class NoLimitError(Exception):
    """This system lets us limit no process's memory."""


class MemoryLimit(Protocol):
    """A way to limit memory. `set` takes effect for processes that run `entry` from then on; None lifts it."""

    @property
    def kind(self) -> LimitKind: ...
    @property
    def entry(self) -> str: ...
    def set(self, limit_bytes: int | None) -> None: ...
    def taken_bytes(self, pid: int) -> int:
        """What counts against the limit: of process `pid`, which must be the only one under it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class _Files(NamedTuple):
    """The names of a control group's files, and the words they take."""

    limit: str
    unlimited: str
    usage: str
    no_swap: str
    reclaim: str | None


_VERSION_1 = _Files("memory.limit_in_bytes", "-1", "memory.usage_in_bytes", "memory.swappiness", "memory.force_empty")
_VERSION_2 = _Files("memory.max", "max", "memory.current", "memory.swap.max", None)


class ControlGroup:
    """A control group of our own, removed at the end."""

    kind: LimitKind = "cgroup"

    def __init__(self, folder: Path, files: _Files) -> None:
        self._folder = folder
        self._files = files

    @classmethod
    def make(cls) -> ControlGroup:
        """A new group that takes processes and limits them. Raises NoLimitError."""
        name = f"lmstrix-limit-{os.getpid()}-{secrets.token_hex(2)}"
        for parent, files in _parents():
            group = cls(parent / name, files)
            with suppress(OSError):
                group._folder.mkdir()
                # Folders can be made where the memory controller is not: there they have no such file.
                if group._works():
                    return group
                group._folder.rmdir()
        raise NoLimitError("no control group with a memory limit may be made here")

    @property
    def entry(self) -> str:
        return f"echo $$ > '{self._folder}/cgroup.procs' || exit 125"

    def set(self, limit_bytes: int | None) -> None:
        self._wait_until_empty()
        if self._files.reclaim is not None:
            # What earlier processes read from files still counts, and would be one process's loss and another's gain.
            with suppress(OSError):
                self._write(self._files.reclaim, "0")
        self._write(self._files.limit, self._files.unlimited if limit_bytes is None else str(limit_bytes))

    def taken_bytes(self, pid: int) -> int:
        assert [str(pid)] == self._processes(), f"{pid} is not alone under the limit: {self._processes()}"
        return int((self._folder / self._files.usage).read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._wait_until_empty()
        self._folder.rmdir()

    def _works(self) -> bool:
        if not (self._folder / self._files.limit).exists():
            return False
        with suppress(OSError):  # a system without swap may lack the file
            self._write(self._files.no_swap, "0")
        return subprocess.run(["sh", "-c", self.entry], stderr=subprocess.DEVNULL, check=False).returncode == 0

    def _write(self, name: str, value: str) -> None:
        (self._folder / name).write_text(value)

    def _processes(self) -> list[str]:
        return (self._folder / "cgroup.procs").read_text().split()

    def _wait_until_empty(self) -> None:
        deadline = time.monotonic() + _SETTLE_S
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        assert not left, f"processes {left} are still under the limit"


class AddressSpace:
    """RLIMIT_AS: the system refuses what would make a process's address space larger than this."""

    kind: LimitKind = "address-space"

    def __init__(self) -> None:
        self._limit_bytes: int | None = None

    @classmethod
    def make(cls) -> AddressSpace:
        """Raises NoLimitError where it does not hold."""
        # The kernel of macOS takes the number and then does nothing with it.
        if sys.platform in ("win32", "darwin"):
            raise NoLimitError(f"RLIMIT_AS limits nothing on {sys.platform}")
        return cls()

    @property
    def entry(self) -> str:
        return ":" if self._limit_bytes is None else f"ulimit -v {self._limit_bytes // 1024}"

    def set(self, limit_bytes: int | None) -> None:
        self._limit_bytes = limit_bytes

    def taken_bytes(self, pid: int) -> int:
        return status_bytes(pid, "VmPeak")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._limit_bytes = None


_KINDS: dict[LimitKind, type[ControlGroup | AddressSpace]] = {"cgroup": ControlGroup, "address-space": AddressSpace}


def best_limit() -> MemoryLimit:
    """A control group where one may be made, else RLIMIT_AS. Raises NoLimitError where there is neither."""
    try:
        return ControlGroup.make()
    except NoLimitError:
        return AddressSpace.make()


def limit_of_kind(kind: LimitKind) -> MemoryLimit:
    """A limit of this kind. Raises NoLimitError where it cannot be had."""
    return _KINDS[kind].make()


def status_bytes(pid: int, name: str) -> int:
    """A line of /proc/PID/status, such as VmPeak or RssAnon."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/status has no {name}")


def _parents() -> Iterator[tuple[Path, _Files]]:
    """Folders in which a group might be made: the top first, then our own and those above it."""
    own = Path("/proc/self/cgroup")
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            top, files = _CGROUPS / "memory", _VERSION_1
        elif controllers == "":
            top, files = _CGROUPS, _VERSION_2
        else:
            continue
        yield top, files
        folder = top / path.lstrip("/")
        while folder != top and folder.is_relative_to(top):
            yield folder, files
            folder = folder.parent
