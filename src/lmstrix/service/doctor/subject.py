"""The model that doctor examines, with all that is read of it and around it once. Nothing is loaded for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.core.memory.prediction import shape_of
from lmstrix.ground.addresses import is_local
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import LMStrixError, ModelNotFoundError
from lmstrix.loaders.model_header import read_model_header
from lmstrix.service.budgets import assumed_runtime, host_budget, server_budget
from lmstrix.service.doctor.unusable import unusable_named
from lmstrix.service.finding import find_model, known_models
from lmstrix.service.model_folders import foreign_format, model_file

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.memory.budgets import Budget
    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.types import InstanceMemory, LoadedModel
    from lmstrix.service.connection import Connection
    from lmstrix.service.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model on one server. `server` is None where none runs; `taken` is what the loaded instance is told to take;
    `foreign_format` says what it is where the server has no runtime for it.

    Not `is_read`: its header could not be read, and `shape` is a guess by its size. `budget` is what the model may
    take, its own memory included where it is loaded and that is told.
    """

    record: ModelRecord
    file: Path
    shape: ModelShape
    budget: Budget
    server: str | None
    is_here: bool
    is_read: bool
    loaded: LoadedModel | None = None
    taken: InstanceMemory | None = None
    foreign_format: str | None = None

    @property
    def declared(self) -> int:
        """The declared context length, or what is taken for it."""
        return self.record.max_context_length or UNKNOWN_DECLARED_TOKENS

    @property
    def is_lost_in_budget(self) -> bool:
        """Whether it is loaded, and nobody says how much of the memory that is not free it takes."""
        return self.loaded is not None and self.taken is None


async def read_subject(workspace: Workspace, model: str) -> Subject:
    """Find the model and look around. Raises ModelNotFoundError."""
    connection = None
    # Doctor tells of a model without a server too.
    with suppress(LMStrixError):
        connection = await workspace.connect_running(workspace.deadline())
    # After connecting: what a test found holds for the server that it was found on.
    registry = await known_models(workspace)
    try:
        record = await find_model(workspace, registry, model)
    except ModelNotFoundError as exc:
        problem = await asyncio.to_thread(unusable_named, workspace, model)
        if problem is None:
            raise
        raise ModelNotFoundError(f"{problem.path} is no usable model: {problem.detail}", model_key=model) from exc
    file = model_file(workspace, record)
    budget = host_budget(assumed_runtime(workspace.settings.server), workspace.headroom)
    subject = Subject(
        record=record,
        file=file,
        shape=shape_of(file, record, read_model_header),
        budget=budget,
        server=None if connection is None else connection.name,
        is_here=connection is None or is_local(connection.server.address),
        is_read=_is_readable(file),
        foreign_format=None if connection is None else foreign_format(connection, record),
    )
    return subject if connection is None else await _on_server(workspace, connection, subject)


def _is_readable(file: Path) -> bool:
    try:
        read_model_header(file)
    except (LMStrixError, OSError):
        return False
    return True


async def _on_server(workspace: Workspace, connection: Connection, subject: Subject) -> Subject:
    """The same, with what the server says of its memory and of the model."""
    backend, deadline = connection.backend, workspace.deadline()
    with suppress(LMStrixError):
        async with deadline.step("asking the server what is loaded"):
            subject = replace(subject, budget=await server_budget(backend, workspace.headroom, with_own_limit=True))
            same = [each for each in await backend.list_loaded() if each.model_key == subject.record.model_key]
            if not same:
                return subject
            # Of several instances the one with the longest context says most.
            loaded = max(same, key=lambda each: each.context_length)
            taken = await backend.instance_memory(loaded.instance_id)
        subject = replace(subject, loaded=loaded, taken=taken)
        if taken is not None and subject.budget.available_bytes is not None:
            room = subject.budget.available_bytes + taken.memory_bytes
            subject = replace(subject, budget=replace(subject.budget, available_bytes=room))
    return subject
