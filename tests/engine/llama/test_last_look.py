"""A process that the system ended for lack of memory is told from a killed one, and what it held is known."""

from __future__ import annotations

import asyncio
import mmap
import time
from typing import TYPE_CHECKING

import pytest

from lmstrix.engine.llama.last_look import LastLook
from lmstrix.ground.types import MemoryShortage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs_linux("reads /proc")
PID = 42
KILLED = -9
PAGE_BYTES = mmap.PAGESIZE


class System:
    """The files of a system with one process, in a folder."""

    def __init__(self, root: Path, group: str, counter: str) -> None:
        self.root = root
        self._counter = root / counter
        self._process = root / f"proc/{PID}"
        self._process.mkdir(parents=True)
        self._counter.parent.mkdir(parents=True, exist_ok=True)
        (self._process / "cgroup").write_text(group)
        self.count(3)
        self.hold(1000)

    def count(self, kills: int) -> None:
        self._counter.write_text(f"under_oom 0\noom_kill {kills}\noom_group_kill 0\n")

    def hold(self, pages: int) -> None:
        (self._process / "statm").write_text(f"99999 {pages} 100 5 0 123 0\n")

    def end(self) -> None:
        (self._process / "statm").write_text("0 0 0 0 0 0 0\n")


GROUPS = [
    ("4:memory:/box\n0::/\n", "sys/fs/cgroup/memory/box/memory.oom_control"),
    ("0::/box\n", "sys/fs/cgroup/box/memory.events.local"),
    ("0::/box\n", "sys/fs/cgroup/box/memory.events"),
    ("0::/\n", "proc/vmstat"),
]


@pytest.mark.parametrize(("group", "counter"), GROUPS, ids=["version 1", "version 2", "older version 2", "no group"])
async def test_what_it_held_is_known_when_memory_ran_out(tmp_path: Path, group: str, counter: str) -> None:
    system = System(tmp_path, group, counter)
    look = LastLook(PID, root=tmp_path)
    with look.at_work():
        await asyncio.sleep(0.05)
        system.hold(1500)
        await asyncio.sleep(0.05)
        system.end()
        system.count(4)
    # Two looks saw 1,500 pages if there was time for them.
    shortage = look.shortage(KILLED)
    assert shortage is not None
    assert shortage.held_bytes == 1500 * PAGE_BYTES
    assert shortage.grew_bytes in (0, 500 * PAGE_BYTES)


async def test_who_is_killed_by_somebody_ran_out_of_nothing(tmp_path: Path) -> None:
    system = System(tmp_path, *GROUPS[1])
    look = LastLook(PID, root=tmp_path)
    with look.at_work():
        await asyncio.sleep(0.02)
    assert look.shortage(KILLED) is None
    system.count(4)
    assert look.shortage(-11) is None
    assert look.shortage(1) is None


async def test_others_that_were_ended_before_do_not_count(tmp_path: Path) -> None:
    system = System(tmp_path, *GROUPS[3])
    look = LastLook(PID, root=tmp_path)
    system.count(9)
    with look.at_work():
        await asyncio.sleep(0.02)
    assert look.shortage(KILLED) is None


async def test_an_idle_model_that_somebody_kills_did_not_run_out_because_another_one_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = System(tmp_path, *GROUPS[1])
    look = LastLook(PID, root=tmp_path)
    with look.at_work():
        await asyncio.sleep(0.05)
    system.count(4)  # another process of the group
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 60)
    system.end()
    assert look.shortage(KILLED) is None


async def test_requests_side_by_side_are_one_work(tmp_path: Path) -> None:
    system = System(tmp_path, *GROUPS[0])
    look = LastLook(PID, root=tmp_path)
    with look.at_work():
        with look.at_work():
            await asyncio.sleep(0.02)
        system.hold(2000)
        await asyncio.sleep(0.25)  # more than the longest wait between two looks
        system.count(5)
    assert look.shortage(KILLED) == MemoryShortage(held_bytes=2000 * PAGE_BYTES, grew_bytes=0)


async def test_a_system_that_tells_nothing_is_asked_nothing(tmp_path: Path) -> None:
    look = LastLook(PID, root=tmp_path)
    with look.at_work():
        pass
    assert look.shortage(KILLED) is None
