"""Job objects: what Windows is asked for and in which order, seen by a recorder in the place of its calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.ground import child_processes
from lmstrix.ground.child_processes import spawn_child
from lmstrix.ground.processes import Command, own_python
from lmstrix.ground.windows_jobs import CREATE_SUSPENDED, JOB_MEMORY, KILL_ON_JOB_CLOSE, Job, open_job

if TYPE_CHECKING:
    from collections.abc import Callable

JOB, PROCESS = 7, 8


class RecordedCalls:
    """`JobCalls`; `failing` names one that fails."""

    def __init__(self, failing: str = "") -> None:
        self.made: list[tuple[object, ...]] = []
        self._failing = failing

    def _note(self, *call: object) -> None:
        self.made.append(call)
        if call[0] == self._failing:
            raise OSError("access is denied")

    def create_job(self) -> int:
        self._note("create")
        return JOB

    def set_limits(self, job: int, *, flags: int, memory_bytes: int) -> None:
        self._note("limit", job, flags, memory_bytes)

    def open_process(self, pid: int) -> int:
        self._note("open", pid)
        return PROCESS

    def assign(self, job: int, process: int) -> None:
        self._note("assign", job, process)

    def resume(self, process: int) -> None:
        self._note("resume", process)

    def close(self, handle: int) -> None:
        self._note("close", handle)


@pytest.fixture
def as_on_windows(monkeypatch: pytest.MonkeyPatch) -> Callable[[RecordedCalls], None]:
    """Children get a job of recorded calls; the flags of their start are recorded too, and left out."""

    def replace(calls: RecordedCalls) -> None:
        start = asyncio.create_subprocess_exec

        async def started(*words: str, creationflags: int, **options: Any) -> asyncio.subprocess.Process:
            calls.made.append(("start", creationflags))
            return await start(*words, **options)

        monkeypatch.setattr(child_processes, "open_job", lambda limit: Job(calls, limit))
        monkeypatch.setattr(asyncio, "create_subprocess_exec", started)

    return replace


@pytest.mark.parametrize(("limit_bytes", "flags"), [(None, KILL_ON_JOB_CLOSE), (2**33, KILL_ON_JOB_CLOSE | JOB_MEMORY)])
async def test_a_child_is_in_its_job_before_it_runs(
    as_on_windows: Callable[[RecordedCalls], None], limit_bytes: int | None, flags: int
) -> None:
    calls = RecordedCalls()
    as_on_windows(calls)
    words = own_python("-I", "-c", "input()")
    child = await spawn_child(words, stderr=asyncio.subprocess.DEVNULL, memory_limit_bytes=limit_bytes)
    assert calls.made == [
        ("create",),
        ("limit", JOB, flags, limit_bytes or 0),
        ("start", CREATE_SUSPENDED),
        ("open", child.process.pid),
        ("assign", JOB, PROCESS),
        ("resume", PROCESS),
        ("close", PROCESS),
    ]
    child.kill()
    child.kill()
    assert calls.made[7:] == [("close", JOB)]
    child.stdin.close()
    await child.process.wait()


@pytest.mark.parametrize("failing", ["open", "assign", "resume"])
async def test_a_child_that_cannot_be_put_into_a_job_does_not_stay_suspended(
    as_on_windows: Callable[[RecordedCalls], None], failing: str
) -> None:
    calls = RecordedCalls(failing)
    as_on_windows(calls)
    with pytest.raises(OSError, match="denied"):
        await spawn_child(own_python("-I", "-c", "input()"), stderr=asyncio.subprocess.DEVNULL)
    assert calls.made[-1] == ("close", JOB)


async def test_a_program_that_cannot_be_started_leaves_no_job(as_on_windows: Callable[[RecordedCalls], None]) -> None:
    calls = RecordedCalls()
    as_on_windows(calls)
    with pytest.raises(FileNotFoundError):
        await spawn_child(Command(words=("no-such-program-anywhere",)), stderr=asyncio.subprocess.DEVNULL)
    assert calls.made[-1] == ("close", JOB)


@pytest.mark.needs_posix("on Windows it is a job")
def test_other_systems_have_no_jobs() -> None:
    assert open_job(2**30) is None
