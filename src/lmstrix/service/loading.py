"""`load`, `unload`, `ps`: models that are kept loaded on a server that runs already."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, count
from typing import TYPE_CHECKING

from lmstrix.core.answers.load_policy import choose_context, leaving_free
from lmstrix.core.registry.places import place_of
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import HeadroomError, ModelNotFoundError, UsageError
from lmstrix.ground.headroom import NAME
from lmstrix.ground.ranges import check_number, check_numbers
from lmstrix.ground.types import Deadlines
from lmstrix.ground.wording import parameter
from lmstrix.service.finding import find_model, known_models
from lmstrix.service.heeded import check_load_heeded
from lmstrix.service.model_folders import check_served
from lmstrix.service.room import room_on
from lmstrix.service.unheeded import check_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.ground.backend import LoadProgress
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import InstanceMemory, LoadedModel
    from lmstrix.service.workspace import Workspace


async def load(
    workspace: Workspace,
    model: str,
    config: LoadConfig,
    *,
    ttl_s: float | None = None,
    instance_id: str | None = None,
    on_progress: LoadProgress | None = None,
) -> LoadedModel:
    """Load a model and keep it. Without a context length: the tested one, or a modest one when untested."""
    check_numbers(config)
    check_number("ttl_s", ttl_s)
    deadline = workspace.deadline()
    async with deadline.step("reading the registry"):
        record = await find_model(workspace, await known_models(workspace), model)
    check_settings(record, config)
    declared = record.max_context_length
    if declared and config.context_length and config.context_length > declared:
        raise UsageError(
            f"{record.model_key} declares {declared:,} tokens; "
            f"{parameter('context_length')} {config.context_length:,} is beyond that"
        )
    # Only a server that runs already: an engine of our own would end, and the model with it, when this command does.
    connection = await workspace.connect_running(deadline)
    check_served(workspace, connection, record)
    check_load_heeded(connection.server, record, config)
    backend = connection.backend
    if config.context_length is None:
        known = record.seen_from(place_of(backend.server)).result_with(config)
        choice = choose_context(
            None,
            declared=declared or UNKNOWN_DECLARED_TOKENS,
            tested=known.tested_context_length if known else None,
            tested_is_limit=known is None or known.is_limit,
        )
        room = room_on(workspace, backend)
        if room is not None:
            tokens = await room(record, config)
            choice = leaving_free(choice, tokens, needed_tokens=0)
            if choice.source == "headroom" and not tokens:
                raise HeadroomError(
                    f"{record.model_key} fits at no context beside what {NAME} keeps free; make that less, or name a "
                    f"context ({parameter('context_length')})",
                    model_key=record.model_key,
                )
        config = replace(config, context_length=choice.context_length)
        workspace.notify(f"{record.model_key}: loading {choice.context_length:,} tokens ({choice.source})")

    async def nothing_serves() -> None:
        """For `load` is told to load: what is loaded already changes nothing."""

    async def load_another() -> LoadedModel:
        return await backend.load(
            record.model_key,
            config,
            # Named now: another load of the model may have ended meanwhile, and taken its name.
            instance_id=instance_id or _free_name(record.model_key, await backend.list_loaded()),
            kind=record.kind,
            ttl_s=ttl_s,
            deadlines=Deadlines(),
            on_progress=on_progress,
        )

    # In turn with the answers that load the model, which then use this instance.
    loaded, _ = await connection.loads.get(
        record.model_key, config, find=nothing_serves, load=load_another, deadline=deadline
    )
    await connection.loads.leave(loaded, keep=True)
    return loaded


async def unload(workspace: Workspace, instance: str | None) -> list[LoadedModel]:
    """Unload one instance by identifier or key, or everything for None; returns what was unloaded."""
    deadline = workspace.deadline()
    backend = (await workspace.connect_running(deadline)).backend
    async with deadline.step("asking what is loaded"):
        loaded = await backend.list_loaded()
    chosen = [m for m in loaded if instance is None or instance == m.instance_id]
    # An identifier is unique and counts first; a key may have several instances.
    if instance is not None and not chosen:
        chosen = [m for m in loaded if instance == m.model_key]
    if instance is not None and len(chosen) != 1:
        names = ", ".join(m.instance_id for m in (chosen or loaded)) or "nothing is loaded"
        what = "is loaded more than once" if chosen else "is not loaded"
        raise ModelNotFoundError(f"{instance!r} {what}; loaded: {names}", model_key=instance)
    for model in chosen:
        async with deadline.step(f"unloading {model.instance_id}"):
            await backend.unload(model.instance_id, kind=model.kind)
    return chosen


async def ps(workspace: Workspace) -> list[LoadedModel]:
    """The loaded models."""
    deadline = workspace.deadline()
    connection = await workspace.connect_running(deadline)
    async with deadline.step("asking what is loaded"):
        return await connection.backend.list_loaded()


async def memory_of(workspace: Workspace, loaded: Sequence[LoadedModel]) -> dict[str, InstanceMemory]:
    """What these instances take, by their names; those of which the server tells nothing are left out."""
    import asyncio

    deadline = workspace.deadline()
    backend = (await workspace.connect_running(deadline)).backend
    async with deadline.step("asking what the models take"):
        told = await asyncio.gather(*(backend.instance_memory(model.instance_id) for model in loaded))
    return {model.instance_id: memory for model, memory in zip(loaded, told, strict=True) if memory is not None}


async def loads_of(workspace: Workspace, loaded: Sequence[LoadedModel]) -> dict[str, LoadConfig]:
    """How these instances were loaded, by their names; those of which the server tells nothing are left out."""
    import asyncio

    deadline = workspace.deadline()
    backend = (await workspace.connect_running(deadline)).backend
    async with deadline.step("asking how the models were loaded"):
        told = await asyncio.gather(*(backend.loaded_with(model.instance_id, kind=model.kind) for model in loaded))
    return {model.instance_id: load for model, load in zip(loaded, told, strict=True) if load is not None}


def _free_name(model_key: str, loaded: Sequence[LoadedModel]) -> str:
    """The model's key, or key:2, key:3 where it is loaded already."""
    taken = {model.instance_id for model in loaded}
    names = chain([model_key], (f"{model_key}:{number}" for number in count(2)))
    return next(name for name in names if name not in taken)
