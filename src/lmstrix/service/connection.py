"""Finds the server in use and connects a backend to it.

"auto" is LM Studio if it answers, else a running embedded engine. Where neither runs, an engine of our own serves while
the command runs, if the extra is installed and there is a models folder.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.ground.errors import BackendUnavailableError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.api.client import AsyncLMStudioBackend
    from lmstrix.engine import EmbeddedEngine
    from lmstrix.ground.paths import Paths
    from lmstrix.ground.settings import Settings
    from lmstrix.ground.types import ServerInfo


@dataclass(frozen=True, slots=True)
class Connection:
    """A backend on a server, and the engine of our own that ends with it.

    `models_dir` is known for the embedded engine only.
    """

    backend: AsyncLMStudioBackend
    server: ServerInfo
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


async def connect(paths: Paths, settings: Settings, *, notify: Callable[[str], None]) -> Connection:
    """Connect as the settings say, starting an engine for this command if none runs. Raises BackendUnavailableError."""
    from lmstrix.api.discovery import find_server

    try:
        return await connect_running(paths, settings)
    except BackendUnavailableError as exc:
        if settings.server not in ("auto", "embedded"):
            raise  # an address, or LM Studio, was asked for: another server must not answer in its place
        directory = Path(settings.models_dir or paths.models_dir)
        if not directory.is_dir():
            raise
        try:
            engine = await asyncio.to_thread(_start_engine, directory)
        except EngineError as problem:
            raise BackendUnavailableError(f"{exc}; and no engine could be started: {problem}") from exc
    notify(f"no server is running; serving {directory} with an engine of our own for this command")
    server = await find_server(engine.address)
    return Connection(backend=_backend(server, settings), server=server, models_dir=directory, own_engine=engine)


async def connect_running(paths: Paths, settings: Settings) -> Connection:
    """Connect to a server that runs already. Raises BackendUnavailableError naming what was tried."""
    from lmstrix.api.discovery import find_server

    server = await find_server(settings.server, paths=paths)
    models_dir = None
    if server.engine == "embedded":
        from lmstrix.engine.daemon import engine_status

        # Another home's engine may answer at this address: its folder is not known here.
        engine = engine_status(paths.home)
        models_dir = engine.models_dir if engine.address == server.address else None
    return Connection(backend=_backend(server, settings), server=server, models_dir=models_dir)


def _backend(server: ServerInfo, settings: Settings) -> AsyncLMStudioBackend:
    from lmstrix.api.client import AsyncLMStudioBackend

    return AsyncLMStudioBackend(server, api_token=settings.api_token)


def _start_engine(directory: Path) -> EmbeddedEngine:
    from lmstrix.engine import EmbeddedEngine
    from lmstrix.engine.daemon import write_event

    return EmbeddedEngine(models_dir=directory, on_log=write_event).start()
