"""Work on what a client sent, done in a process of its own that may take so much time and memory and no more.

Fuel and counting bound what a library lets one count; a text doubled thirty times, or an archive of nested elements, is
bounded by the system alone. The price is a process for every request: about 30 ms.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmstrix.engine.limited_child import OUT_OF_MEMORY
from lmstrix.engine.memory_guard import GUARD, Guard, until_over
from lmstrix.ground.child_processes import ChildProcess, spawn_child
from lmstrix.ground.processes import own_python

_CHILD: Final = Path(__file__).with_name("limited_child.py")
# Rust aborts where it cannot have memory, C may go on with a null pointer, and the kernel kills when all is used up.
if sys.platform == "win32":
    _OUT_OF_TIME: Final = None
    # STATUS_STACK_BUFFER_OVERRUN, which is how an abort is told, and STATUS_ACCESS_VIOLATION.
    _OUT_OF_MEMORY: Final = frozenset({OUT_OF_MEMORY, 0xC0000409, 0xC0000005})
else:
    _OUT_OF_TIME: Final = -signal.SIGXCPU
    _OUT_OF_MEMORY: Final = frozenset({OUT_OF_MEMORY, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL})
_INTERPRETER_BYTES: Final = 64 * 2**20
"""Room for Python and what a script imports where the limit counts them too: 13 MiB resident on Linux."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """What one request may take: memory beside the code, time of the processor, time on the clock."""

    memory_bytes: int
    cpu_s: int
    wall_s: float


class LimitReachedError(Exception):
    """The work took more than its limits allow; the message says of what."""


class LimitedProcessError(Exception):
    """The process failed in another way than by its limits."""


async def run_limited(script: Path, request: bytes, limits: ProcessLimits, *, guard: Guard = GUARD) -> bytes:
    """What `script` answers to `request`. Raises LimitReachedError; cancelled, it leaves no process behind."""
    in_child = limits.memory_bytes if guard == "address space" else 0
    from_outside = limits.memory_bytes + _INTERPRETER_BYTES
    child = await spawn_child(
        own_python("-I", str(_CHILD), str(script), str(in_child), str(limits.cpu_s)),
        stderr=asyncio.subprocess.DEVNULL,
        memory_limit_bytes=from_outside if guard == "job" else None,
    )
    process = child.process
    watch = asyncio.create_task(_end_beyond(child, from_outside)) if guard == "watched" else None
    try:
        async with asyncio.timeout(limits.wall_s):
            answer, _ = await process.communicate(request)
    except TimeoutError:
        raise LimitReachedError(f"it takes more than {limits.wall_s:g} s") from None
    finally:
        if watch is not None:
            watch.cancel()
        child.kill()
        await asyncio.shield(process.wait())
    if process.returncode == 0:
        return answer
    if process.returncode == _OUT_OF_TIME:
        raise LimitReachedError(f"it takes more than {limits.cpu_s} s of the processor")
    if process.returncode in _OUT_OF_MEMORY:
        raise LimitReachedError(f"it takes more than {limits.memory_bytes // 2**20} MiB")
    raise LimitedProcessError(f"it ended with {process.returncode}")


async def _end_beyond(child: ChildProcess, limit_bytes: int) -> None:
    await until_over(child.process.pid, limit_bytes)
    child.kill()
