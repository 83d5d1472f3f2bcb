"""`/system`: the models on disk, and the server itself."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.protocol import wire
from lmstrix.engine.protocol.endpoints import parameters
from lmstrix.engine.protocol.presentation import model_info
from lmstrix.engine.protocol.session import EndpointNamespace, RpcRequest, ServerChannel
from lmstrix.ground.version import __version__

if TYPE_CHECKING:
    from lmstrix.engine.state import EngineState


def system_namespace(state: EngineState) -> EndpointNamespace:
    """`/system`."""
    system = System(state)
    return EndpointNamespace(
        calls={
            "listDownloadedModels": system.list_downloaded_models,
            "listDownloadedModelVariants": system.list_downloaded_model_variants,
            "version": system.version,
            "info": system.info,
            "notify": system.notify,
            "startHttpServer": system.start_http_server,
            "stopHttpServer": system.stop_http_server,
            "requestShutdown": system.request_shutdown,
            "setExperimentFlag": system.set_experiment_flag,
            "getExperimentFlags": system.get_experiment_flags,
        },
        channels={"alive": system.alive},
    )


class System:
    """Handlers of `/system`."""

    def __init__(self, state: EngineState) -> None:
        self._state = state

    async def list_downloaded_models(self, _request: RpcRequest) -> object:
        """Every model on disk."""
        await self._state.catalog_ready()
        return [model_info(entry) for entry in self._state.pool.catalog.entries]

    async def list_downloaded_model_variants(self, request: RpcRequest) -> object:
        """The files that share a model key up to its `@variant`."""
        await self._state.catalog_ready()
        entry = self._state.pool.catalog.find(parameters.required_text(request.parameter, "modelKey"))
        # The catalog tells quantizations of one model apart by what follows the @.
        base = entry.model_key.partition("@")[0]
        variants = self._state.pool.catalog.entries
        return [model_info(other) for other in variants if other.model_key.partition("@")[0] == base]

    async def version(self, _request: RpcRequest) -> object:
        """Our version; we number no builds."""
        return {"version": __version__, "build": 0}

    async def info(self, _request: RpcRequest) -> object:
        """The process."""
        return {"pid": os.getpid(), "isDaemon": self._state.daemon, "version": __version__}

    async def notify(self, request: RpcRequest) -> object:
        """There is no screen: a notification is a line of the log."""
        title, description = parameters.required_text(request.parameter, "title"), request.parameter.get("description")
        self._state.logs.server(f"{title}: {description}" if description else title)
        return wire.ABSENT

    async def alive(self, channel: ServerChannel) -> None:
        """Stays open, silently, until the client or the engine goes."""
        await channel.stopped.wait()

    async def start_http_server(self, request: RpcRequest) -> object:
        """Answer on a further port; the one the engine was started on always answers."""
        port = request.parameter.get("port")
        if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535):
            raise EngineFault("port must be a whole number from 1 to 65535.", kind="invalid")
        host = parameters.optional_text(request.parameter, "networkInterface") or "127.0.0.1"
        await self._state.open_http(port, host, parameters.flag(request.parameter, "cors", default=False))
        return wire.ABSENT

    async def stop_http_server(self, _request: RpcRequest) -> object:
        """Take the further port back."""
        await self._state.close_http()
        return wire.ABSENT

    async def request_shutdown(self, _request: RpcRequest) -> object:
        """End the engine, once the answer is out."""
        if self._state.shut_down is None:
            raise EngineFault("This engine belongs to a program that ends it itself.", kind="unsupported")
        # The answer has to leave first, or the client would take its success for a lost connection.
        asyncio.get_running_loop().call_later(0.1, self._state.shut_down, "a client asked for it")
        return wire.ABSENT

    async def set_experiment_flag(self, request: RpcRequest) -> object:
        """Remember a flag; none changes anything here."""
        code = parameters.required_text(request.parameter, "code")
        if parameters.flag(request.parameter, "value", default=True):
            self._state.experiment_flags.add(code)
        else:
            self._state.experiment_flags.discard(code)
        return wire.ABSENT

    async def get_experiment_flags(self, _request: RpcRequest) -> object:
        """The flags that are set."""
        return sorted(self._state.experiment_flags)
