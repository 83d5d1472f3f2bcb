"""What every endpoint of a running engine shares: models, logs, clients' files, and the knobs of the server itself."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lmstrix.engine.documents import DocumentReader
from lmstrix.engine.records import LogEvent
from lmstrix.engine.uploads import FileStore, UploadLedger, UploadLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from lmstrix.engine.access import ClientIdentity
    from lmstrix.engine.just_in_time import JustInTime
    from lmstrix.engine.loop_watch import LoopWatch
    from lmstrix.engine.pool import InstancePool
    from lmstrix.engine.records import LogLevel

_LOG_BACKLOG: Final = 10_000
"""Lines a slow reader of the log stream may be behind before it loses the oldest."""


class LogHub:
    """Hands log lines to whoever listens, and to a sink of the process's own. `failures` counts what that raised."""

    def __init__(self, sink: Callable[[LogEvent], None] = lambda _: None) -> None:
        self._sink = sink
        self.failures = 0
        self._listeners: set[asyncio.Queue[LogEvent]] = set()

    def publish(self, event: LogEvent) -> None:
        """Pass a line on. Call it on the engine's loop."""
        try:
            self._sink(event)
        except Exception:  # noqa: BLE001 - a stranger's function, and what a line tells of must not fail with it
            self.failures += 1
        for queue in self._listeners:
            # A reader that sleeps must not hold up those who work, nor fill the memory.
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def server(self, text: str, level: LogLevel = "info") -> None:
        """A line about the server itself."""
        self.publish(LogEvent(type="server.log", text=text, level=level))

    @contextlib.contextmanager
    def listen(self) -> Iterator[asyncio.Queue[LogEvent]]:
        """A queue that gets every line from now on."""
        queue: asyncio.Queue[LogEvent] = asyncio.Queue(_LOG_BACKLOG)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)


class ClientFiles:
    """A file store for each client, shared by its connections, forgotten with the last of them."""

    def __init__(self, limits: UploadLimits | None = None) -> None:
        self._limits = limits or UploadLimits()
        self._ledger = UploadLedger()
        self._stores: dict[ClientIdentity, FileStore] = {}
        self._connections: dict[ClientIdentity, int] = {}

    @contextlib.contextmanager
    def connected(self, client: ClientIdentity) -> Iterator[None]:
        """Count a connection of `client` for as long as it lasts."""
        self._connections[client] = self._connections.get(client, 0) + 1
        try:
            yield
        finally:
            self._connections[client] -= 1
            # SDKs open one socket per namespace; files live until the last of them closes.
            if not self._connections[client]:
                del self._connections[client]
                store = self._stores.pop(client, None)
                if store is not None:
                    store.close()

    def of(self, client: ClientIdentity) -> FileStore:
        """The store of a connected client."""
        if client not in self._stores:
            self._stores[client] = FileStore(self._limits, self._ledger)
        return self._stores[client]


@dataclass(kw_only=True)
class EngineState:
    """One running engine.

    `catalog_ready` returns when the models on disk have been looked at, which takes a while where there are many.
    `open_http` makes it answer on a further address (port, host, cors) and `close_http` takes that back; `shut_down`
    ends it for a reason, and is None where the engine belongs to a program that ends it itself.
    """

    pool: InstancePool
    just_in_time: JustInTime
    logs: LogHub
    catalog_ready: Callable[[], Awaitable[None]]
    open_http: Callable[[int | None, str, bool], Awaitable[None]]
    close_http: Callable[[], Awaitable[None]]
    shut_down: Callable[[str], None] | None
    daemon: bool
    jit_ttl_s: float | None
    loop_watch: LoopWatch
    files: ClientFiles = field(default_factory=ClientFiles)
    documents: DocumentReader = field(default_factory=DocumentReader)
    experiment_flags: set[str] = field(default_factory=set)
