"""How much memory a model takes: of the engine's process tree and of the whole system, at three moments and at peak.

The engine is whoever listens on its port on this machine, with all its children; this process itself is left out, so an
engine inside it counts with its children alone. A thread reads their footprints a few times per second. It looks for
new processes at the three moments only, because that is the expensive part. Video memory is read at the moments too.
Nothing is known of an engine on another machine.

Traded away: peaks between two readings, and how much of the resident memory is shared between processes.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from lmstrix.core.memory.footprint import footprint
from lmstrix.ground.addresses import local_port

if TYPE_CHECKING:
    from types import TracebackType

    import psutil

PERIOD_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReading:
    """Memory at one moment. `engine_bytes` None: the engine's processes cannot be seen."""

    engine_bytes: int | None
    system_used_bytes: int
    gpu_used_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Memory of one visit: before the load, after it, after generating; and the most that was seen."""

    baseline: MemoryReading | None = None
    loaded: MemoryReading | None = None
    generated: MemoryReading | None = None
    engine_peak_bytes: int | None = None
    system_peak_bytes: int | None = None


class MemorySampler:
    """Watches the memory of the engine at `address` (host:port) and of the system, from entering to leaving."""

    def __init__(self, address: str, *, period_s: float = PERIOD_S) -> None:
        self._port = local_port(address)
        self._period_s = period_s
        self._engine: list[psutil.Process] = []
        self._engine_peak: int | None = None
        self._system_peak: int | None = None
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="lmstrix-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def engine(self) -> tuple[psutil.Process, ...]:
        """The engine's processes as `read` last found them; none where they cannot be seen."""
        with self._guard:
            return tuple(self._engine)

    def restart(self) -> None:
        """Forget the peaks: another model follows."""
        with self._guard:
            self._engine_peak = self._system_peak = None

    def read(self) -> MemoryReading:
        """Memory now, with the engine's present processes; these are watched from here on."""
        from lmstrix.core.memory.host import read_host_memory

        processes = engine_processes(self._port) if self._port is not None else []
        with self._guard:
            self._engine = processes
        engine, system = self._sample()
        gpus = read_host_memory(with_gpus=True).gpus
        return MemoryReading(
            engine_bytes=engine,
            system_used_bytes=system,
            gpu_used_bytes=sum(gpu.total_bytes - gpu.free_bytes for gpu in gpus) if gpus else None,
        )

    def use(
        self, baseline: MemoryReading | None, loaded: MemoryReading | None, generated: MemoryReading | None
    ) -> MemoryUse:
        """The three moments with the peaks since `restart`."""
        with self._guard:
            return MemoryUse(
                baseline=baseline,
                loaded=loaded,
                generated=generated,
                engine_peak_bytes=self._engine_peak,
                system_peak_bytes=self._system_peak,
            )

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            self._sample()

    def _sample(self) -> tuple[int | None, int]:
        import psutil

        # Copied, so that reading sizes, which takes a while, does not make `read` wait for the lock.
        with self._guard:
            processes = list(self._engine)
        taken = [footprint(process.pid) for process in processes if process.pid != os.getpid()]
        sizes = [each.now_bytes for each in taken if each is not None]
        engine = sum(sizes) if sizes else None
        memory = psutil.virtual_memory()
        # Total less available: what the system gives back on demand, such as file cache, is not in use.
        system = int(memory.total - memory.available)
        with self._guard:
            if engine is not None:
                self._engine_peak = max(engine, self._engine_peak or 0)
            self._system_peak = max(system, self._system_peak or 0)
        return engine, system


def engine_processes(port: int) -> list[psutil.Process]:
    """Whoever listens on a port, and all its descendants; this process too, if the engine is inside it."""
    import psutil

    tree: list[psutil.Process] = []
    for process in psutil.process_iter():
        # Processes of other users refuse to tell, and some end while they are asked.
        with suppress(psutil.Error):
            listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            if any(connection.laddr.port == port for connection in listening):
                tree += [process, *process.children(recursive=True)]
    return list(dict.fromkeys(tree))
