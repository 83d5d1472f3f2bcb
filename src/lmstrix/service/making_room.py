"""Before anything is measured: unload what is ours, which is what killed runs left and answerers that are idle."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from lmstrix.core.answers.load_policy import MEASURED_PREFIXES, OWN_PREFIX
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.tasks import to_its_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import LoadedModel
    from lmstrix.service.workspace import Workspace


async def make_room(workspace: Workspace, backend: ModelBackend, *, all_models: bool = False) -> list[LoadedModel]:
    """Unload our own instances; with `all_models` those of others too. Returns what is loaded still.

    Whoever measures holds the tester's lock, so an instance that is being measured is one that a killed run left.
    """
    for loaded in await backend.list_loaded():
        stray = loaded.instance_id.startswith(MEASURED_PREFIXES)
        idle = loaded.instance_id.startswith(OWN_PREFIX) and loaded.status == "idle" and not loaded.queued
        if stray or idle or all_models:
            await backend.unload(loaded.instance_id, kind=loaded.kind)
        if stray:
            workspace.notify(f"unloaded {loaded.instance_id}, left over from an interrupted run")
    return await backend.list_loaded()


@asynccontextmanager
async def room_to_measure(workspace: Workspace, backend: ModelBackend | None, prefix: str) -> AsyncIterator[None]:
    """What is ours is unloaded before measuring, and what begins with `prefix` after it, however that ends.

    `backend` None stands for a server that loads and unloads by itself.
    """
    if backend is None:
        yield
        return
    if beside := await make_room(workspace, backend):
        names = ", ".join(model.instance_id for model in beside)
        workspace.notify(f"loaded too, and measured beside: {names}")
    try:
        yield
    finally:
        await to_its_end(_unload_started_with(backend, prefix))


async def _unload_started_with(backend: ModelBackend, prefix: str) -> None:
    """Unload whatever of a run is loaded still, such as a load that was cut off and came to its end nevertheless."""
    with suppress(LMStrixError):  # a server that is gone has nothing loaded either
        for loaded in await backend.list_loaded():
            if loaded.instance_id.startswith(prefix):
                await backend.unload(loaded.instance_id, kind=loaded.kind)
