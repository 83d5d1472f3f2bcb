"""Work on what a client sent, done in a process of its own that may take so much time and memory and no more.

Fuel and counting bound what a library lets one count; a text doubled thirty times, or an archive of nested elements, is
bounded by the system alone. The price is a process for every request: about 30 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmstrix.engine.limited_child import OUT_OF_MEMORY

_CHILD: Final = Path(__file__).with_name("limited_child.py")
_OUT_OF_TIME: Final = None if sys.platform == "win32" else -signal.SIGXCPU
# Rust aborts where it cannot have memory, C may go on with a null pointer, and the kernel kills when all is used up.
_OUT_OF_MEMORY: Final = frozenset(
    {OUT_OF_MEMORY} if sys.platform == "win32" else {OUT_OF_MEMORY, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL}
)


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


async def run_limited(script: Path, request: bytes, limits: ProcessLimits) -> bytes:
    """What `script` answers to `request`. Raises LimitReachedError; cancelled, it leaves no process behind."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(_CHILD),
        str(script),
        str(limits.memory_bytes),
        str(limits.cpu_s),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(limits.wall_s):
            answer, _ = await process.communicate(request)
    except TimeoutError:
        raise LimitReachedError(f"it takes more than {limits.wall_s:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
    if process.returncode == 0:
        return answer
    if process.returncode == _OUT_OF_TIME:
        raise LimitReachedError(f"it takes more than {limits.cpu_s} s of the processor")
    if process.returncode in _OUT_OF_MEMORY:
        raise LimitReachedError(f"it takes more than {limits.memory_bytes // 2**20} MiB")
    raise LimitedProcessError(f"it ended with {process.returncode}")
