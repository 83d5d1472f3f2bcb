"""Finds the server in use and connects a backend to it.

"auto" is LM Studio if it answers, else a running embedded engine. Where neither runs, an engine of our own serves while
the command runs, if the extra is installed and there is a models folder.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.answers.shared_loads import SharedLoads
from lmstrix.ground.access import access_to
from lmstrix.ground.addresses import host_of
from lmstrix.ground.errors import BackendUnavailableError, EngineError
from lmstrix.service.hung_engine import REMEDY, hung_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.api.client import AsyncLMStudioBackend
    from lmstrix.engine import EmbeddedEngine
    from lmstrix.ground.paths import Paths
    from lmstrix.ground.settings import Settings
    from lmstrix.ground.types import ServerInfo


@dataclass(frozen=True, slots=True)
class Connection:
    """A backend on a server, what is being loaded there, and the engine of our own that ends with it.

    `models_dir` is known for the embedded engine only.
    """

    backend: AsyncLMStudioBackend
    server: ServerInfo
    loads: SharedLoads
    models_dir: Path | None = None
    own_engine: EmbeddedEngine | None = None

    @property
    def name(self) -> str:
        """What to call the server in messages."""
        kind = "LM Studio" if self.server.engine == "lmstudio" else "the embedded engine"
        return f"{kind} at {self.server.address}"

    async def close(self) -> None:
        """Hang up, and end an engine of our own."""
        await self.backend.close()
        # After the backend, which may still have something to unload there.
        if self.own_engine is not None:
            await asyncio.to_thread(self.own_engine.stop)


async def connect(paths: Paths, settings: Settings, *, notify: Callable[[str], None], models_dir: Path) -> Connection:
    """Connect as the settings say, starting an engine for this command if none runs, which serves `models_dir`.

    Raises BackendUnavailableError.
    """
    from lmstrix.api.discovery import find_server

    try:
        return await connect_running(paths, settings, notify=notify)
    except BackendUnavailableError as exc:
        if settings.server not in ("auto", "embedded"):
            raise  # an address, or LM Studio, was asked for: another server must not answer in its place
        if not models_dir.is_dir():
            raise
        try:
            engine = await _own_engine(models_dir)
        except EngineError as problem:
            raise BackendUnavailableError(f"{exc}; and no engine could be started: {problem}") from exc
    why = hung_engine(paths, settings.server)
    why = "no server is running" if why is None else f"{why} ({REMEDY})"
    notify(f"{why}; serving {models_dir} with an engine of our own for this command")
    server = await find_server(engine.address)
    backend = _backend(server, settings)
    # Nobody else knows of this server, so no lock is needed against others.
    return Connection(
        backend=backend, server=server, loads=SharedLoads(backend), models_dir=models_dir, own_engine=engine
    )


async def connect_running(
    paths: Paths, settings: Settings, *, notify: Callable[[str], None] | None = None
) -> Connection:
    """Connect to a server that runs already. Raises BackendUnavailableError naming what was tried."""
    from lmstrix.api.discovery import find_server

    try:
        server = await find_server(settings.server, paths=paths, access=access_to(settings, settings.server))
    except BackendUnavailableError as exc:
        hung = hung_engine(paths, settings.server)
        if hung is None:
            raise
        raise BackendUnavailableError(f"{hung}; {REMEDY}", address=exc.address) from exc
    models_dir = None
    if server.engine == "embedded":
        from lmstrix.engine.state_file import engine_status

        # Another home's engine may answer at this address: its folder is not known here.
        engine = engine_status(paths.home)
        models_dir = engine.models_dir if engine.address == server.address else None
    # By the machine, as one has many names: localhost, 127.0.0.1, ::1.
    name = f"{host_of(server.address)}:{server.address.rpartition(':')[2]}"
    backend = _backend(server, settings)
    loads = SharedLoads(backend, server=name, locks=paths.own / "locks", notify=notify)
    return Connection(backend=backend, server=server, loads=loads, models_dir=models_dir)


def _backend(server: ServerInfo, settings: Settings) -> AsyncLMStudioBackend:
    from lmstrix.api.client import AsyncLMStudioBackend

    return AsyncLMStudioBackend(server, access=access_to(settings, server.address))


async def _own_engine(directory: Path) -> EmbeddedEngine:
    """An engine that is started; one that nobody waits for any more is stopped as soon as it has."""
    starting = asyncio.ensure_future(asyncio.to_thread(_start_engine, directory))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_stop_engine)
        raise


def _stop_engine(starting: asyncio.Future[EmbeddedEngine]) -> None:
    if starting.cancelled() or starting.exception() is not None:
        return
    # In a thread of its own: whoever waited for the engine leaves, and the loop may end before the engine has.
    threading.Thread(target=starting.result().stop, name="lmstrix-engine-stop", daemon=True).start()


def _start_engine(directory: Path) -> EmbeddedEngine:
    from lmstrix.engine import EmbeddedEngine
    from lmstrix.engine.daemon import write_event

    return EmbeddedEngine(models_dir=directory, on_log=write_event).start()
