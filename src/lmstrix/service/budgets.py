"""Reads what a budget is chosen from: the server's own word on memory, this machine's, LM Studio's survey."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.memory.budgets import Budget, Readings, assumed_budget, choose_budget
from lmstrix.core.memory.host import read_host_memory
from lmstrix.core.memory.runtime import EMBEDDED, LM_STUDIO, Runtime
from lmstrix.ground.addresses import is_local
from lmstrix.ground.errors import LMStrixError

if TYPE_CHECKING:
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.headroom import Headroom
    from lmstrix.service.connection import Connection
    from lmstrix.service.workspace import Workspace


def host_budget(runtime: Runtime, headroom: Headroom) -> Budget:
    """What this machine has for models now, as far as can be said before a server is asked."""
    return assumed_budget(read_host_memory(), runtime, platform=sys.platform).keeping(headroom)


def assumed_runtime(server: str) -> Runtime:
    """The runtime to reckon with before any server is asked; `server` is the setting of that name."""
    return EMBEDDED if server == "embedded" else LM_STUDIO


async def server_budget(backend: ModelBackend, headroom: Headroom, *, with_own_limit: bool = False) -> Budget:
    """What models may take on this server now; `with_own_limit` for those who do not ask its guardrail as well."""
    return choose_budget(await _readings(backend), with_own_limit=with_own_limit).keeping(headroom)


async def present_budget(workspace: Workspace, connection: Connection | None, headroom: Headroom) -> Budget:
    """What a model may take now for all that is known: a server's word where one runs and tells, else this machine's.

    The limit that the server sets itself counts, so this is for those who do not ask its guardrail as well.
    """
    budget = host_budget(assumed_runtime(workspace.settings.server), headroom)
    if connection is not None:
        with suppress(LMStrixError):
            told = await server_budget(connection.backend, headroom, with_own_limit=True)
            # Of another machine that does not tell, this one's memory is the better guess than nothing.
            return told if told.available_bytes is not None else replace(budget, runtime=told.runtime)
    return budget


async def _readings(backend: ModelBackend) -> Readings:
    engine, told = backend.server.engine, await backend.memory()
    # Its own word is the last: nothing else need be read.
    if told is not None:
        return Readings(engine=engine, told=told)
    return Readings(
        engine=engine,
        host=read_host_memory() if is_local(backend.server.address) else None,
        survey=await backend.survey() if engine == "lmstudio" else None,
    )
