"""The registry's models, for use cases that are told a name: an empty registry is filled by a scan first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.registry.naming import CURRENT
from lmstrix.ground.errors import ModelNotFoundError, UsageError
from lmstrix.ground.wording import call, parameter

if TYPE_CHECKING:
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.service.workspace import Workspace


async def known_models(workspace: Workspace) -> ModelRegistry:
    """The registry, filled by a scan when it is empty. Read in a worker thread: thousands of models take a while."""
    import asyncio  # here, as a dry run of a test imports this module and needs no loop

    registry = await asyncio.to_thread(workspace.registry)
    if len(registry):
        return registry
    # Imported here, because most registries have been filled before.
    from lmstrix.service.scanning import scan

    async with workspace.one_at_a_time("scan"):
        registry = await asyncio.to_thread(workspace.registry)
        if len(registry):
            return registry  # filled by another call while this one waited
        workspace.notify("the registry is empty; scanning")
        report = await scan(workspace)
        if not report.models:
            workspace.notify(
                f"no model was found in {' and '.join(report.sources)}: download one in LM Studio, "
                "or put a GGUF file into PUBLISHER/REPOSITORY of the models folder"
            )
        return await asyncio.to_thread(workspace.registry)


async def find_model(workspace: Workspace, registry: ModelRegistry, name: str) -> ModelRecord:
    """The model a name means; `current` is the one that is loaded on the server in use."""
    if name != CURRENT or registry.get(name) is not None:
        return registry.find(name)
    connection = await workspace.connect_running(workspace.deadline())
    loaded = await connection.backend.list_loaded()
    keys = sorted({model.model_key for model in loaded})
    if len(keys) != 1:
        state = f"has {', '.join(keys)} loaded" if keys else "has nothing loaded"
        raise ModelNotFoundError(
            f"current is the model that is loaded, and {connection.name} {state}; name the model", model_key=name
        )
    return registry.find(keys[0])


async def chosen_model(workspace: Workspace, named: str | None) -> ModelRecord:
    """The model that is named, else the default, the one used last, or the only one. Raises where that leaves none."""
    import asyncio

    # Not the default: a name that came to be empty, as of a variable that is not set, meant another model.
    if named is not None and not named.strip():
        raise UsageError(f"{parameter('model')}: the name is empty; leave it out, or name a model")
    name = named or await asyncio.to_thread(workspace.usual_model)
    registry = await known_models(workspace)
    if name is not None:
        return await find_model(workspace, registry, name)
    only = only_model(registry)
    if not len(registry):
        raise ModelNotFoundError("there is no model to ask yet", model_key="")
    if only is None:
        raise UsageError(f"which model? give {parameter('model')} ({call('list_models')} shows them)")
    return only


def only_model(registry: ModelRegistry) -> ModelRecord | None:
    """The model that generates text, where there is just one."""
    models = [record for record in registry if record.kind == "llm" and not record.is_missing]
    return models[0] if len(models) == 1 else None
