"""The server: one aiohttp application that answers probes, websockets and REST, and the models behind it.

Everything runs on one event loop that nothing blocks: models live in processes of their own. `EngineServer` is what the
daemon, the foreground command and `EmbeddedEngine` have in common.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import weakref
from typing import TYPE_CHECKING, Final

from aiohttp import web

from lmstrix.engine import access
from lmstrix.engine.catalog import Catalog, CatalogProblem
from lmstrix.engine.connections import Connections
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.identity import ENGINE_NAME, PACKAGE, llama_version
from lmstrix.engine.just_in_time import JustInTime
from lmstrix.engine.loop_watch import LoopWatch
from lmstrix.engine.options import EngineOptions, host_and_port
from lmstrix.engine.pool import InstancePool
from lmstrix.engine.protocol.endpoints import namespaces
from lmstrix.engine.protocol.session import serve_websocket
from lmstrix.engine.proven_contexts import ProvenContexts
from lmstrix.engine.rest import add_rest_routes
from lmstrix.engine.rest.errors import LOGS, Handler, error_response
from lmstrix.engine.rest.memory import ACTIVITY_PATH
from lmstrix.engine.run_folder import RunFolder
from lmstrix.engine.state import EngineState, LogHub
from lmstrix.engine.stopping import STOP_PATH
from lmstrix.ground.addresses import is_loopback
from lmstrix.ground.errors import EngineError
from lmstrix.ground.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine.access import ClientIdentity
    from lmstrix.engine.records import LogEvent

MAX_MESSAGE_BYTES: Final = 64 * 2**20
_SHUTDOWN_S: Final = 2.0
_CLOSING_S: Final = 2.0
"""How long a websocket may take to say goodbye."""
_ANSWER_S: Final = 0.1
"""How long the engine stays after it has agreed to end."""
_LINGERING_S: Final = 5.0
"""How long the rest of a body is read that nobody wants, so that its sender gets to read the refusal."""
_ANY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - compared only
_OPEN_PATHS: Final = frozenset({"/lmstudio-greeting", "/lms-status", STOP_PATH})
_CORS_HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Expose-Headers": "*",
}


class EngineServer:
    """A running engine, from `start` to `close`; `registry_file` is where LMStrix keeps what its tests found.

    Whoever sends `run_key` may end it (`shut_down`); where there is none, nobody may that way.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        registry_file: Path | None = None,
        on_log: Callable[[LogEvent], None] = lambda _: None,
        shut_down: Callable[[str], None] | None = None,
        daemon: bool = False,
        run_key: str | None = None,
    ) -> None:
        options.check()
        self._options = options
        self._run_key = run_key
        self._logs = LogHub(on_log)
        pool = InstancePool(
            Catalog(options.models_dir, on_problem=self._tell_problem),
            memory_limit_bytes=options.memory_limit_bytes,
            headroom=options.headroom,
            default_context_length=options.default_context_length,
            run_folder=RunFolder(),
            on_log=self._logs.publish,
        )
        contexts = ProvenContexts(registry_file, lambda text: self._logs.server(text, "warn"))
        self._state = EngineState(
            pool=pool,
            just_in_time=JustInTime(pool, contexts, self._logs.server),
            logs=self._logs,
            catalog_ready=self._catalog_ready,
            open_http=self._open_http,
            close_http=self._close_http,
            shut_down=shut_down,
            daemon=daemon,
            jit_ttl_s=options.jit_ttl_s,
            loop_watch=LoopWatch(lambda text: self._logs.server(text, "warn")),
        )
        self._namespaces = namespaces(self._state)
        self._websockets: weakref.WeakSet[web.WebSocketResponse] = weakref.WeakSet()
        self._cors_ports: set[int] = set()
        self._runner: web.AppRunner | None = None
        self._connections = Connections(lambda text: self._logs.server(text, "warn"))
        self._listening: asyncio.Server | None = None
        self._further: asyncio.Server | None = None
        self._scan: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.port = 0

    @property
    def host(self) -> str:
        """The address to connect to from this machine."""
        return "127.0.0.1" if self._options.host == _ANY_ADDRESS else self._options.host

    @property
    def address(self) -> str:
        """host:port, as clients want it."""
        return host_and_port(self.host, self.port)

    async def start(self) -> None:
        """Listen. Raises EngineError when the address cannot be had."""
        self._loop = asyncio.get_running_loop()
        listener = _listener(self._options.host, self._options.port)
        try:
            self.port = listener.getsockname()[1]
            if self._options.cors:
                self._cors_ports.add(self.port)
            # In a thread of its own: thousands of headers take seconds, and clients look for the port at once.
            self._scan = asyncio.create_task(asyncio.to_thread(self._state.pool.catalog.rescan))
            self._watching = asyncio.create_task(self._state.loop_watch.run())
            await self._state.pool.start()
            self._runner = web.AppRunner(
                self._application(),
                access_log=None,
                logger=_quiet_logger(),
                shutdown_timeout=_SHUTDOWN_S,
                handler_cancellation=True,  # a REST client that goes stops its prediction
                lingering_time=_LINGERING_S,
            )
            await self._runner.setup()
            self._listening = await self._connections.listen(listener, self._runner)
        except BaseException:
            listener.close()
            await self.close()
            raise
        self._logs.server(f"listening on {self.address}, models in {self._options.models_dir}")

    async def close(self) -> None:
        """Stop answering and end every model."""
        if self._watching is not None:
            self._watching.cancel()
        for listening in (self._listening, self._further):
            if listening is not None:
                listening.close()
        # Told before the socket breaks, so that clients report an end and not a failure.
        closing = [websocket.close(code=1001, message=b"the engine stops") for websocket in self._websockets]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SHUTDOWN_S):
                await asyncio.gather(*closing, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._scan is not None:
            await asyncio.wait([self._scan])
        await self._state.pool.close()

    async def _open_http(self, port: int | None, host: str, cors: bool) -> None:
        """Answer on a further port (`lms server start`); the first one is never given up."""
        # Clients ask for "the" server to start; it runs.
        if port in (None, self.port):
            return
        assert self._runner is not None
        if self._options.api_token is None and not is_loopback(host):
            raise EngineFault(
                f"Listening on {host} lets others in: start the engine with an API token for that.", kind="refused"
            )
        await self._close_http()
        try:
            listener = _listener(host, port or 0)
        except EngineError as exc:
            raise EngineFault(str(exc), kind="refused") from exc
        if cors:
            self._cors_ports.add(listener.getsockname()[1])
        self._further = await self._connections.listen(listener, self._runner)

    async def _close_http(self) -> None:
        """Give the further port up."""
        if self._further is not None:
            further, self._further = self._further, None
            further.close()
            self._cors_ports &= {self.port}

    async def _catalog_ready(self) -> None:
        """Wait for the first look at the models, which has a thread of its own: a thousand headers take seconds."""
        if self._scan is not None:
            await asyncio.shield(self._scan)
        # Headers that came since are read in a thread as well, not by the endpoint that lists them.
        await self._state.pool.refresh()

    def _tell_problem(self, problem: CatalogProblem) -> None:
        """Log an unusable file; the first look at the models calls this from its thread."""
        line = f"{problem.path}: {problem.reason}"
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._logs.server, line, "warn")
        else:
            self._logs.server(line, "warn")

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_MESSAGE_BYTES, middlewares=[self._attend, self._guard])
        application[LOGS] = self._logs
        application.on_response_prepare.append(self._add_cors_headers)
        application.router.add_get("/lmstudio-greeting", self._greet)
        application.router.add_get("/lms-status", self._tell_status)
        if self._run_key is not None:
            application.router.add_post(STOP_PATH, self._stop)
        for name in self._namespaces:
            application.router.add_get(f"/{name}", self._serve_namespace)
        add_rest_routes(application, self._state)
        application.router.add_route("*", "/{path:.*}", self._refuse_path)
        return application

    @web.middleware
    async def _attend(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tell the connection that its request has come, and when it has been answered."""
        connection = self._connections.of(request)
        if connection is None:
            return await handler(request)
        with connection.answering():
            return await handler(request)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn foreign web pages and missing tokens away, before anything else is looked at."""
        cors = self._allows_pages(request)
        token = self._options.api_token
        headers = request.headers
        refusal = access.page_refusal(
            headers.get("Host"),
            headers.get("Origin"),
            own_name=self._options.host,
            cors=cors,
            guarded=token is not None,
        )
        if refusal is not None:
            return error_response(403, "invalid_request", refusal)
        # A browser asks first, without token, whether its page may ask at all.
        if cors and request.method == "OPTIONS":
            return web.Response(status=204)
        is_websocket = request.path.strip("/") in self._namespaces  # its token comes in its first frame
        if not is_websocket and request.path not in _OPEN_PATHS:
            refusal = access.header_refusal(token, headers.get("Authorization"), headers.get("x-api-key"))
            if refusal is not None:
                return error_response(401, "invalid_request", refusal, code="invalid_api_key")
            # Who watches asks every second, and of files that nobody has loaded it tells nothing.
            if request.path != ACTIVITY_PATH:
                await self._catalog_ready()
        connection = self._connections.of(request)
        if connection is not None:
            connection.expect_body(request)
        return await handler(request)

    def _allows_pages(self, request: web.Request) -> bool:
        """Whether the port a request came in by was opened with CORS."""
        return request.transport is not None and request.transport.get_extra_info("sockname")[1] in self._cors_ports

    async def _add_cors_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        if self._allows_pages(request):
            response.headers.update(_CORS_HEADERS)

    async def _greet(self, _request: web.Request) -> web.Response:
        return web.json_response({"lmstudio": True})

    async def _tell_status(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {"package": PACKAGE, "version": __version__, "runtime": f"{ENGINE_NAME} of xllamacpp {llama_version()}"}
        )

    async def _stop(self, request: web.Request) -> web.Response:
        """End the engine for whoever may read its state file, which holds the key."""
        refusal = access.header_refusal(self._run_key, request.headers.get("Authorization"), None)
        if refusal is not None or self._state.shut_down is None:
            return error_response(401, "invalid_request", "Only who has the key of this run may end it this way")
        # The answer has to leave first, or its reader would take its success for a lost connection.
        asyncio.get_running_loop().call_later(_ANSWER_S, self._state.shut_down, "engine stop asked for it")
        return web.json_response({"stopping": True})

    async def _refuse_path(self, request: web.Request) -> web.Response:
        text = f"Unexpected endpoint or method. ({request.method} {request.path})"
        return web.json_response({"error": text}, status=404)

    async def _serve_namespace(self, request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse(timeout=_CLOSING_S, max_msg_size=MAX_MESSAGE_BYTES, compress=False)
        # A plain GET, for example by someone who opens the address in a browser.
        if not websocket.can_prepare(request):
            return await self._refuse_path(request)
        await websocket.prepare(request)
        self._websockets.add(websocket)
        connection = self._connections.of(request)
        if connection is not None:
            connection.expect_authentication()

        def authenticate(client: ClientIdentity) -> str | None:
            refusal = access.frame_refusal(self._options.api_token, client)
            if refusal is None and connection is not None:
                connection.settle()
            return refusal

        await serve_websocket(
            websocket,
            self._namespaces[request.path.strip("/")],
            authenticate=authenticate,
            connected=self._state.files.connected,
            log=lambda text: self._logs.server(text, "warn"),
        )
        return websocket


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise EngineError(
            f"cannot listen on {host}:{port} ({reason}): choose another port, or 0 for a free one"
        ) from exc


def _quiet_logger() -> logging.Logger:
    """aiohttp reports broken requests through `logging`, with tracebacks; ours say what matters."""
    logger = logging.getLogger("lmstrix.engine.http")
    logger.disabled = True
    return logger
