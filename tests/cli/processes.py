"""`lmstrix` as a process of its own, for what only a process shows: signals, closed pipes, terminals, limits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMAND = [sys.executable, "-m", "lmstrix"]
PATIENCE_S = 30.0


def start(*words: str, command: Sequence[str] = COMMAND, **options: Any) -> subprocess.Popen[bytes]:
    """Start `lmstrix` with these words; its three streams are pipes unless told otherwise."""
    environment = options.pop("env", None) or {**os.environ, **options.pop("environment", {})}
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, *words], env=environment, **(streams | options))


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Wait for its end: exit code, stdout, stderr."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something another process or thread will make true."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen in time")
        time.sleep(0.01)
