"""`embed`: vectors of texts. Find the embedding model, load it unless it is loaded, ask."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from lmstrix.core.answers.inference import FORGOTTEN_TTL_S
from lmstrix.core.answers.load_policy import ONCE_PREFIX, OWN_PREFIX, embedding_instance
from lmstrix.core.answers.request import Embedded
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.loads import DEFAULT_LOAD
from lmstrix.ground.ranges import check_number, check_numbers
from lmstrix.ground.tasks import CLEAN_UP_S, to_its_end, within
from lmstrix.service.finding import find_model, known_models
from lmstrix.service.heeded import check_load_heeded
from lmstrix.service.model_folders import check_served, folder_to_serve
from lmstrix.service.room import leaving_room
from lmstrix.service.unheeded import check_settings
from lmstrix.service.unusual_loads import tell_unusual_load
from lmstrix.service.workspace import new_run_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.deadline import Deadline
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import LoadedModel
    from lmstrix.service.workspace import Workspace

EMBEDDING = "embedding the texts"


async def embed(
    workspace: Workspace,
    texts: Sequence[str],
    *,
    model: str | None = None,
    load: LoadConfig | None = None,
    ttl_s: float | None = 300.0,
) -> Embedded:
    """Embed texts. Without a model, the only embedding model there is. `ttl_s` 0 unloads what was loaded for it."""
    check_number("ttl_s", ttl_s)
    config = load or DEFAULT_LOAD
    check_numbers(config)
    # Before a model is loaded for it.
    for number, text in enumerate(texts, 1):
        if not text:
            raise UsageError(f"text {number} is empty; an empty text has no vector")
    deadline = workspace.deadline()
    async with deadline.step("reading the registry"):
        record = await chosen_embedding_model(workspace, model)
    check_settings(record, config)
    async with (
        embedding_model(workspace, record, deadline, load=config, ttl_s=ttl_s) as (backend, loaded),
        deadline.step(EMBEDDING),
    ):
        vectors = await backend.embed(loaded.instance_id, texts)
    return Embedded(vectors=tuple(tuple(vector) for vector in vectors), model_key=record.model_key)


@asynccontextmanager
async def embedding_model(
    workspace: Workspace,
    record: ModelRecord,
    deadline: Deadline,
    *,
    load: LoadConfig = DEFAULT_LOAD,
    ttl_s: float | None,
) -> AsyncIterator[tuple[ModelBackend, LoadedModel]]:
    """An instance of the model, loaded so unless it was, for as long as it is used here."""
    connection = await workspace.connect(deadline, models_dir=folder_to_serve(workspace, [record]))
    check_served(workspace, connection, record)
    check_load_heeded(connection.server, record, load)
    backend, loads = connection.backend, connection.loads
    keep = ttl_s != 0

    async def find() -> LoadedModel | None:
        return embedding_instance(
            load, await backend.list_loaded(), record.model_key, in_use=loads.in_use, loaded_as=loads.loaded_as
        )

    async def load_it() -> LoadedModel:
        fitting = await leaving_room(workspace, backend, record, load)
        workspace.notify(f"loading {record.model_key}")
        return await backend.load(
            record.model_key,
            fitting,
            instance_id=f"{OWN_PREFIX if keep else ONCE_PREFIX}{new_run_id()}-embed",
            kind="embedding",
            ttl_s=ttl_s if keep else FORGOTTEN_TTL_S,
        )

    loaded, is_own = await loads.get(record.model_key, load, find=find, load=load_it, deadline=deadline)
    try:
        await tell_unusual_load(workspace, connection, loaded, load, deadline)
        yield backend, loaded
    except BaseException:
        await within(CLEAN_UP_S, loads.leave(loaded, keep=keep or not is_own))
        raise
    with suppress(LMStrixError):  # a server that is gone has nothing loaded either
        await to_its_end(loads.leave(loaded, keep=keep or not is_own))


async def chosen_embedding_model(workspace: Workspace, model: str | None) -> ModelRecord:
    """The model that is named, else the only one that makes embeddings."""
    registry = await known_models(workspace)
    if model is not None:
        record = await find_model(workspace, registry, model)
        if record.kind != "embedding":
            raise UsageError(f"{record.model_key} makes no embeddings; choose an embedding model")
        return record
    found = [record for record in registry if record.kind == "embedding" and not record.is_missing]
    if len(found) == 1:
        return found[0]
    names = ", ".join(record.model_key for record in found[:8])
    raise UsageError(f"which embedding model? give -m MODEL ({names or 'there is none yet: lmstrix scan'})")
