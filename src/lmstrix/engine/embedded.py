"""An engine inside this process, for tests and scripts: `with` or `async with`, on a free port, on a thread of its own.

The thread lives as long as the engine: on Linux a child process ends when the thread that started it does.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lmstrix.engine.options import DEFAULT_JIT_TTL_S, EngineOptions
from lmstrix.engine.requirements import check_requirements
from lmstrix.ground.context_lengths import SERVER_DEFAULT_CONTEXT_LENGTH
from lmstrix.ground.errors import EngineError
from lmstrix.ground.headroom import parse_headroom

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from lmstrix.engine.records import LogEvent
    from lmstrix.engine.server import EngineServer


class EmbeddedEngine:
    """A server of the models in `models_dir`, from entering the context to leaving it.

    `memory_limit` is what all models together may take, in bytes; of that, or else of what the machine has, `headroom`
    stays free ("2GB", "10%"). With `port` 0 a free one is taken. An `api_token` (sk-lm-…) is asked of every client.
    Models that load because a REST request names them get the context length that tests kept in `registry_file` have
    proven. `on_log` gets every line of the engine's log, on the engine's thread.
    """

    def __init__(
        self,
        models_dir: str | Path,
        *,
        memory_limit: int | None = None,
        headroom: str | int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        api_token: str | None = None,
        cors: bool = False,
        default_context_length: int = SERVER_DEFAULT_CONTEXT_LENGTH,
        jit_ttl_s: float | None = DEFAULT_JIT_TTL_S,
        registry_file: str | Path | None = None,
        on_log: Callable[[LogEvent], None] | None = None,
    ) -> None:
        check_requirements()
        self._options = EngineOptions(
            models_dir=Path(models_dir),
            host=host,
            port=port,
            api_token=api_token,
            cors=cors,
            memory_limit_bytes=memory_limit,
            headroom=parse_headroom(headroom),
            default_context_length=default_context_length,
            jit_ttl_s=jit_ttl_s,
        )
        self._options.check()
        self._registry_file = None if registry_file is None else Path(registry_file)
        self._on_log = on_log
        self._server: EngineServer | None = None
        self._stop: Callable[[], object] | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._running().port

    @property
    def address(self) -> str:
        """host:port, as clients want it."""
        return self._running().address

    def _running(self) -> EngineServer:
        if self._server is None:
            raise EngineError("the engine is not running: use it inside its `with` block")
        return self._server

    def start(self) -> Self:
        """Start it, and return when it answers."""
        if self._thread is not None:
            raise EngineError("the engine is running already")
        self._started.clear()
        self._failure = None
        # A daemon thread: a program that forgets to stop its engine must still be able to end.
        self._thread = threading.Thread(target=self._run, name="lmstrix-engine", daemon=True)
        self._thread.start()
        self._started.wait()
        # Raised here and not in the thread, where nobody would see it.
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise self._failure
        return self

    def stop(self) -> None:
        """End it and all its models."""
        if self._thread is None:
            return
        if self._stop is not None:
            self._stop()
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
        import asyncio  # here and below, as everything that asks for an engine's status imports this module

        try:
            asyncio.run(self._serve())
        except BaseException as exc:  # noqa: BLE001 - handed to the thread that waits for the start
            self._failure = exc
        finally:
            self._server = self._stop = None
            self._started.set()

    async def _serve(self) -> None:
        import asyncio

        from lmstrix.engine.server import EngineServer

        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        server = EngineServer(self._options, registry_file=self._registry_file, on_log=self._on_log or (lambda _: None))
        await server.start()
        try:
            self._server = server
            # Whoever stops it does so from another thread, and events of a loop may be set on that loop only.
            self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
            self._started.set()
            await stopped.wait()
        finally:
            await server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        import asyncio

        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.to_thread(self.stop)
