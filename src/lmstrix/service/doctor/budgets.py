"""For doctor: how much memory models may take on each engine, and whose word that is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.health import Check
from lmstrix.ground.errors import BackendUnavailableError, EngineError, LMStrixError
from lmstrix.ground.headroom import NO_HEADROOM
from lmstrix.ground.text import one_line
from lmstrix.ground.units import format_bytes
from lmstrix.service.hung_engine import hung_engine

if TYPE_CHECKING:
    from lmstrix.core.memory.budgets import Budget
    from lmstrix.service.workspace import Workspace

_ENGINES = {"lmstudio": "LM Studio", "embedded": "embedded engine"}


async def budget_checks(workspace: Workspace) -> tuple[Check, ...]:
    """A line for each engine; where the settings name a server by its address, one for that alone."""
    server = workspace.settings.server
    servers = _ENGINES if server in ("auto", *_ENGINES) else {server: server}
    return tuple([await _budget_check(workspace, server, name) for server, name in servers.items()])


async def _budget_check(workspace: Workspace, server: str, name: str) -> Check:
    title = f"budget, {name}"
    try:
        budget, running = await _budget(workspace, server)
    except (LMStrixError, OSError, ImportError) as exc:
        return Check(name=title, state="note", found=one_line(exc))
    if budget.available_bytes is None:
        return Check(
            name=title,
            state="note",
            found=f"not known: {budget.explained}",
            remedy="tests find the limit all the same, with some more loads",
        )
    beside = "" if running else "; not running"
    return Check(name=title, state="ok", found=f"{format_bytes(budget.available_bytes)}: {budget.explained}{beside}")


async def _budget(workspace: Workspace, server: str) -> tuple[Budget, bool]:
    """The budget, and whether the server runs; of one that does not, what it would have."""
    from lmstrix.service.budgets import server_budget
    from lmstrix.service.connection import connect_running

    try:
        connection = await connect_running(workspace.paths, replace(workspace.settings, server=server))
    except BackendUnavailableError:
        # An engine that hangs holds memory that nobody tells.
        if server not in _ENGINES or (server == "embedded" and hung_engine(workspace.paths, server)):
            raise
        return (await _budget_of_none_running(server)).keeping(workspace.headroom), False
    try:
        async with workspace.deadline().step("asking what models may take"):
            return await server_budget(connection.backend, workspace.headroom, with_own_limit=True), True
    finally:
        await connection.close()


async def _budget_of_none_running(server: str) -> Budget:
    from lmstrix.core.memory.budgets import Readings, choose_budget
    from lmstrix.service.budgets import assumed_runtime, host_budget

    if server != "embedded":
        return host_budget(assumed_runtime(server), NO_HEADROOM)
    from lmstrix.engine.llama.idle import ask_idle_child
    from lmstrix.engine.memory import server_memory

    idle = await ask_idle_child()
    if idle is None:
        raise EngineError("no process with llama.cpp can be started here")
    told = server_memory(idle, limit_bytes=None, in_use_bytes=0)
    return choose_budget(Readings(engine="embedded", told=told), with_own_limit=True)
