"""Who kept the processors busy while something was measured: the engine, ourselves, or others.

The system says how long its processors were busy in all, and how long each process of ours was; the rest is others',
the time a hypervisor took away included. Two readings around a run cost well under a millisecond, outside of what is
timed. Systems count in ticks of 10 ms and more, so a short run alone tells little, and many together enough.

Traded away: work the kernel does for us outside of our processes counts as others'.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUse:
    """How many processor cores were busy on average: the engine's processes, and what neither it nor we started."""

    engine_cores: float
    others_cores: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuReading:
    """Processor seconds so far: of the whole system, of the engine, and of this process."""

    at_s: float
    busy_s: float
    engine_s: float
    own_s: float


def read_cpu(engine: Sequence[psutil.Process]) -> CpuReading | None:
    """Now; None where the engine's processes cannot be seen, since its work could not be told from others'."""
    import os

    import psutil

    if not engine:
        return None
    try:
        by_pid = {process.pid: _seconds(process) for process in engine}
        own_s = by_pid.pop(os.getpid(), None)
        times = psutil.cpu_times()
        return CpuReading(
            at_s=time.perf_counter(),
            busy_s=busy_seconds(times._asdict()),
            engine_s=sum(by_pid.values()),
            own_s=_seconds(psutil.Process()) if own_s is None else own_s,
        )
    except psutil.Error:  # one has just ended
        return None


def use_between(first: CpuReading | None, last: CpuReading | None) -> CpuUse | None:
    """What was used between two readings; None where one is missing or no time passed."""
    if first is None or last is None or last.at_s <= first.at_s:
        return None
    span_s = last.at_s - first.at_s
    engine_s = max(0.0, last.engine_s - first.engine_s)
    others_s = last.busy_s - first.busy_s - engine_s - (last.own_s - first.own_s)
    return CpuUse(engine_cores=engine_s / span_s, others_cores=max(0.0, others_s) / span_s)


def busy_seconds(times: dict[str, float]) -> float:
    """All but waiting. Guests' time is within the user's already."""
    waiting = ("idle", "iowait", "guest", "guest_nice")
    return sum(seconds for name, seconds in times.items() if name not in waiting)


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
