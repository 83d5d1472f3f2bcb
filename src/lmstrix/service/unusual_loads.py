"""What is said where a plain call uses an instance that was loaded already, and in an unusual way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.answers.unusual_load import unusual
from lmstrix.ground.loads import DEFAULT_LOAD
from lmstrix.ground.wording import call

if TYPE_CHECKING:
    from lmstrix.ground.deadline import Deadline
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import LoadedModel
    from lmstrix.service.connection import Connection
    from lmstrix.service.workspace import Workspace


async def tell_unusual_load(
    workspace: Workspace, connection: Connection, instance: LoadedModel, wanted: LoadConfig, deadline: Deadline
) -> None:
    """Say in one line, once per instance, what is unusual about one that others loaded, where the server tells.

    Whoever `wanted` settings of a load gets an instance with just these, and knows them.
    """
    loads = connection.loads
    if replace(wanted, context_length=None) != DEFAULT_LOAD or instance.instance_reference in loads.told_unusual:
        return
    load = loads.loaded_as.get(instance.instance_id)
    if load is None:
        async with deadline.step("asking how the model was loaded"):
            load = await connection.backend.loaded_with(instance.instance_id, kind=instance.kind)
    words = unusual(load, engine=connection.server.engine) if load is not None else ()
    # Whatever it is: an instance keeps the settings it was loaded with.
    loads.told_unusual.add(instance.instance_reference)
    if words:
        workspace.notify(
            f"uses {instance.instance_id}, which is loaded already, with {', '.join(words)}; "
            f"{call('unload', instance.instance_id)} ends it"
        )
