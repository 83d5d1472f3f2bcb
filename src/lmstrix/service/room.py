"""How long a context may be loaded so that the memory stays free that the user wants free."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.memory.prediction import shape_of
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import HeadroomError
from lmstrix.ground.headroom import NAME, NO_HEADROOM
from lmstrix.loaders.model_header import read_model_header
from lmstrix.service.budgets import server_budget
from lmstrix.service.model_folders import model_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from lmstrix.core.answers.inference import RoomTokens
    from lmstrix.core.benchmark.records import BenchTarget
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.service.workspace import Workspace


async def leaving_room(
    workspace: Workspace, backend: ModelBackend, record: ModelRecord, load: LoadConfig
) -> LoadConfig:
    """The load of a model without a context of its choice, shortened to what leaves free what is to stay free."""
    room = room_on(workspace, backend)
    tokens = None if room is None else await room(record, load)
    if tokens is None or tokens >= (record.max_context_length or UNKNOWN_DECLARED_TOKENS):
        return load
    if not tokens:
        raise HeadroomError(
            f"{record.model_key} fits at no context beside what {NAME} keeps free; make that less",
            model_key=record.model_key,
        )
    return replace(load, context_length=tokens)


def room_on(workspace: Workspace, backend: ModelBackend) -> RoomTokens | None:
    """What to ask before a load; None where nothing is to stay free, which then costs nothing."""
    headroom = workspace.headroom
    if headroom == NO_HEADROOM:
        return None

    async def room_tokens(record: ModelRecord, load: LoadConfig) -> int | None:
        budget = await server_budget(backend, headroom, with_own_limit=True)
        if budget.available_bytes is None:
            return None
        shape = shape_of(model_file(workspace, record), record, read_model_header)
        # A benchmark may name more than is assumed of a model that declares nothing.
        declared = record.max_context_length or max(UNKNOWN_DECLARED_TOKENS, load.context_length or 0)
        return budget.limit(shape, declared, load)

    return room_tokens


def room_for_targets(
    workspace: Workspace, backend: ModelBackend, records: Iterable[ModelRecord]
) -> Callable[[BenchTarget, LoadConfig], Awaitable[int | None]] | None:
    """The same for a benchmark, whose targets are named by the path of their record."""
    room = room_on(workspace, backend)
    if room is None:
        return None
    by_path = {record.path: record for record in records}

    async def room_tokens(target: BenchTarget, load: LoadConfig) -> int | None:
        return await room(by_path[target.path], load)

    return room_tokens
