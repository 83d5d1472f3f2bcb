"""Keeping the machine from falling asleep by itself during hours of measuring, of which it would notice nothing.

Windows has a call for it, macOS a program of its own. Elsewhere what sleeps by itself are desktops, each with a way of
its own; there nothing is done. The screen may go dark, and a lid that is closed counts everywhere.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lmstrix.ground.processes import Command, end_program, spawn_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

_CAFFEINATE = "/usr/bin/caffeinate"
_FROM_NOW_ON, _SYSTEM_IS_NEEDED = 0x80000000, 0x00000001
"""ES_CONTINUOUS and ES_SYSTEM_REQUIRED."""
_END_S = 2.0


@contextmanager
def keep_awake() -> Iterator[None]:
    """While inside, the machine does not sleep for want of somebody at it. Where that cannot be had, it may."""
    if sys.platform == "win32":
        # It holds for the thread that asks, so the same one must enter and leave.
        _set_execution_state(_FROM_NOW_ON | _SYSTEM_IS_NEEDED)
        try:
            yield
        finally:
            _set_execution_state(_FROM_NOW_ON)
    elif sys.platform == "darwin":
        process = None
        with suppress(OSError):
            # It watches us, so that it ends also where we are killed.
            process = spawn_helper(Command(words=(_CAFFEINATE, "-i", "-w", str(os.getpid()))), read=False)
        try:
            yield
        finally:
            if process is not None:
                with suppress(OSError):
                    end_program(process, _END_S)
    else:
        yield


def _set_execution_state(state: int) -> None:
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.kernel32.SetThreadExecutionState(ctypes.c_uint32(state))
