"""`recommend`: the registry's models as candidates, with predicted memory and logged speeds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.core.answers.recommend import Advice, Candidate, Wish, recommend
from lmstrix.core.memory.prediction import shape_of
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.loads import DEFAULT_LOAD
from lmstrix.loaders.model_header import read_model_header
from lmstrix.service.budgets import assumed_runtime, host_budget, server_budget
from lmstrix.service.logs import call_statistics
from lmstrix.service.model_folders import model_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.memory.budgets import Budget
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.types import LoadedModel
    from lmstrix.service.workspace import Workspace

ASSUMED_CONTEXT_LENGTH = 8192  # for models without a tested one: a declared 128k would rule most of them out
_HERE = ("auto", "lmstudio", "embedded")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surroundings:
    """What models may take and whose memory that is, beside what is loaded there."""

    budget: Budget
    source: str
    loaded: Sequence[LoadedModel] = ()


async def advise(workspace: Workspace, wish: Wish) -> Advice:
    """Rank the models that are there for a wish. What the server in use may take limits them, unless the wish does."""
    around = await _surroundings(workspace)
    source = around.source
    if wish.budget_bytes is None:
        wish = replace(wish, budget_bytes=around.budget.available_bytes)
    else:
        source = "what the wish names"
    return await asyncio.to_thread(_advice, workspace, wish, around, source)


def _advice(workspace: Workspace, wish: Wish, around: _Surroundings, source: str) -> Advice:
    speeds = {item.model_path: item.mean_decode_tokens_per_second for item in call_statistics(workspace)}
    records = [record for record in workspace.registry() if not record.is_missing]
    candidates = [_candidate(workspace, record, wish, around, speeds.get(record.path)) for record in records]
    return recommend(candidates, wish, budget_source=source)


async def _surroundings(workspace: Workspace) -> _Surroundings:
    """The word of a server that runs, else this machine's memory."""
    try:
        connection = await workspace.connect_running(workspace.deadline())
        backend = connection.backend
        budget = await server_budget(backend, workspace.headroom, with_own_limit=True)
        loaded = await backend.list_loaded()
    except LMStrixError:
        server = workspace.settings.server
        budget = host_budget(assumed_runtime(server), workspace.headroom)
        if server in _HERE:
            return _Surroundings(budget=budget, source=f"this machine: {budget.explained}")
        # An address may be another machine, whose memory is not known here.
        unknown = replace(budget, available_bytes=None)
        return _Surroundings(budget=unknown, source=f"no server answers at {server}, so memory is not known")
    whose = connection.name if budget.source != "main memory" and budget.source != "cards" else "this machine"
    return _Surroundings(budget=budget, source=f"{whose}: {budget.explained}", loaded=loaded)


def _candidate(
    workspace: Workspace, record: ModelRecord, wish: Wish, around: _Surroundings, speed: float | None
) -> Candidate:
    declared = record.max_context_length or UNKNOWN_DECLARED_TOKENS
    needed = min(wish.min_context_length or record.tested_context_length or ASSUMED_CONTEXT_LENGTH, declared)
    shape = shape_of(model_file(workspace, record), record, read_model_header)
    known = record.best_result
    return Candidate(
        model_key=record.model_key,
        kind=record.kind,
        size_bytes=record.size_bytes or 0,
        memory_bytes=around.budget.use(shape, needed, DEFAULT_LOAD),
        params=record.params,
        bits=record.bits,
        max_context_length=record.max_context_length,
        tested_context_length=record.tested_context_length,
        tested_is_limit=known is None or known.is_limit,
        test_failed=record.test_status == "failed",
        vision=record.vision,
        trained_for_tool_use=record.trained_for_tool_use,
        decode_tokens_per_second=speed,
        is_loaded=any(
            model.model_key == record.model_key and model.context_length >= needed for model in around.loaded
        ),
    )
