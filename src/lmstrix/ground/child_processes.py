"""Processes that work for this one and end with it: what a server starts, read and written on its event loop.

On Windows each has a job object, so that it ends however we end, and what it starts ends with it. Elsewhere the child
itself sees to it that it does not stay behind (`engine/llama/child.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from lmstrix.ground.processes import creation_flags
from lmstrix.ground.windows_jobs import CREATE_SUSPENDED, open_job

if TYPE_CHECKING:
    from lmstrix.ground.processes import Command
    from lmstrix.ground.windows_jobs import Job


class ChildProcess:
    """A running child. `kill` it in the end, also when it has ended: that lets go of its job."""

    def __init__(self, process: asyncio.subprocess.Process, job: Job | None) -> None:
        self.process = process
        self._job = job

    @property
    def stdin(self) -> asyncio.StreamWriter:
        """What it reads."""
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        """What it writes."""
        assert self.process.stdout is not None
        return self.process.stdout

    def kill(self) -> None:
        """End it, and on Windows whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        # After it, as a process that ends with its job has no exit code that says so.
        if self._job is not None:
            self._job.close()


async def spawn_child(command: Command, *, stderr: int, memory_limit_bytes: int | None = None) -> ChildProcess:
    """Start a child whose input and output are pipes. Raises OSError.

    `memory_limit_bytes` limits what it and its own children take together, on Windows; elsewhere nothing.
    """
    job = open_job(memory_limit_bytes)
    flags = creation_flags("helper") | (CREATE_SUSPENDED if job is not None else 0)
    try:
        process = await asyncio.create_subprocess_exec(
            *command.words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=command.environ,
            creationflags=flags,
        )
    except BaseException:
        if job is not None:
            job.close()
        raise
    child = ChildProcess(process, job)
    if job is not None:
        try:
            job.take(process.pid)
        except OSError:
            child.kill()
            child.stdin.close()
            await process.wait()
            raise
    return child
