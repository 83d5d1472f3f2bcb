"""What keeps a process to the memory it may take: a limit of the system where there is a good one, else a watch.

    address space   RLIMIT_AS, which the process sets for itself: allocations fail inside it (Linux)
    job             the limit of its job object, set before it runs: allocations fail inside it (Windows)
    watched         we look at what it holds, and end it when that is too much (macOS, where a limit on the address
                    space makes the process itself fail: on Apple silicon it spans hundreds of GiB before any use)

Watching comes late by a look, and only sees what has been touched.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from lmstrix.engine.llama.process_memory import process_memory

if TYPE_CHECKING:
    from collections.abc import Callable

Guard: TypeAlias = Literal["address space", "job", "watched"]

_GUARDS: Final[dict[str, Guard]] = {"linux": "address space", "win32": "job"}
GUARD: Final[Guard] = _GUARDS.get(sys.platform, "watched")
_POLL_S: Final = 0.1
"""Between two looks: a process touches about 1 GiB in that time at most."""


def held_bytes(pid: int) -> int:
    """The resident memory of a process; 0 when it has ended."""
    return process_memory(pid).resident_bytes


async def until_over(pid: int, limit_bytes: int, held: Callable[[int], int] = held_bytes) -> int:
    """Wait until a process holds more than it may; how much that is."""
    while (taken_bytes := held(pid)) <= limit_bytes:
        await asyncio.sleep(_POLL_S)
    return taken_bytes
