"""Starts the process that hosts llama.cpp (`child.py`), which first tells its id.

The id of the process we start is that of a launcher where one stands between (`ground/processes.py`): memory would be
read of the launcher, and a load would show no progress. Telling it comes before the options, and so the options are
sent to a process that is already bound to end with us.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmstrix.ground.child_processes import ChildProcess, spawn_child
from lmstrix.ground.processes import own_python

if TYPE_CHECKING:
    import asyncio

CHILD: Final = Path(__file__).with_name("child.py")
_ENVIRONMENT: Final = {
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait by spinning starve the others on a shared machine
    "GOMP_SPINCOUNT": "0",
    "MALLOC_ARENA_MAX": "2",  # each further arena takes 64 MiB of address space, which the guard counts
    "GGML_NO_BACKTRACE": "1",  # an abort would wait for a debugger first
}


async def start_child(*, stderr: int, memory_limit_bytes: int | None = None) -> ChildProcess:
    """Start a child, which waits for its options on its input. The limit is that of its job, on Windows."""
    # A plain script, isolated (-I): importing this package there would cost each load its start-up time.
    command = own_python("-I", str(CHILD), environ={**os.environ, **_ENVIRONMENT})
    return await spawn_child(command, stderr=stderr, memory_limit_bytes=memory_limit_bytes)


async def told_pid(stdout: asyncio.StreamReader) -> int | None:
    """The id a child tells with its first line; None when it has ended instead."""
    line = await stdout.readline()
    return int(json.loads(line)["pid"]) if line else None


def send_options(child: ChildProcess, options: dict[str, Any]) -> None:
    """By its input, because arguments of a process can be read by every user of the machine."""
    child.stdin.write(json.dumps(options).encode() + b"\n")
