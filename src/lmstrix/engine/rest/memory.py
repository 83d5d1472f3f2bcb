"""Beyond LM Studio: what one more model may take here, what a loaded one takes, what runs, and how late the loop is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from aiohttp import web

from lmstrix.engine.activity import server_activity
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.rest.errors import Handler, answering

if TYPE_CHECKING:
    from lmstrix.engine.state import EngineState

ACTIVITY_PATH: Final = "/api/lmstrix/activity"


class MemoryRoutes:
    """Handlers under `/api/lmstrix`: each answers with the fields of a record."""

    def __init__(self, state: EngineState) -> None:
        self._state = state

    def table(self) -> list[tuple[str, str, Handler]]:
        """(method, path, handler)."""
        rows = [
            ("GET", "/memory", self.server_memory),
            ("GET", "/memory/instance", self.instance_memory),
            ("GET", "/memory/shortage", self.shortage),
            ("GET", "/loop", self.loop_lag),
            ("GET", "/activity", self.activity),
        ]
        return [(method, f"/api/lmstrix{path}", answering("v1", handler)) for method, path, handler in rows]

    async def server_memory(self, _request: web.Request) -> web.StreamResponse:
        """`ServerMemory`."""
        return web.json_response(dataclasses.asdict(await self._state.pool.memory()))

    async def loop_lag(self, _request: web.Request) -> web.StreamResponse:
        """`LoopLag`."""
        return web.json_response(dataclasses.asdict(self._state.loop_watch.lag))

    async def activity(self, _request: web.Request) -> web.StreamResponse:
        """`ServerActivity`."""
        return web.json_response(dataclasses.asdict(server_activity(self._state.pool)))

    async def instance_memory(self, request: web.Request) -> web.StreamResponse:
        """`InstanceMemory` of the instance in the query; its name may hold slashes, so it is no part of the path."""
        return web.json_response(dataclasses.asdict(self._state.pool.instance_memory(_asked(request))))

    async def shortage(self, request: web.Request) -> web.StreamResponse:
        """`MemoryShortage` of the instance in the query, which has ended; null where it did not end so."""
        shortage = self._state.pool.shortages.get(_asked(request))
        return web.json_response(None if shortage is None else dataclasses.asdict(shortage))


def _asked(request: web.Request) -> str:
    """The instance that is asked about."""
    identifier = request.query.get("instance_id")
    if not identifier:
        raise EngineFault("instance_id is missing: name the instance in the query.", kind="invalid")
    return identifier
