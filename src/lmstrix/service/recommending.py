"""`recommend`: the registry's models as candidates, with predicted memory and logged speeds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.answers.recommend import Advice, Candidate, Wish, recommend
from lmstrix.core.memory.prediction import shape_of
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.loads import DEFAULT_LOAD
from lmstrix.loaders.model_header import read_model_header
from lmstrix.service.budgets import assumed_runtime, host_budget
from lmstrix.service.logs import call_statistics
from lmstrix.service.model_folders import model_file

if TYPE_CHECKING:
    from lmstrix.core.memory.budgets import Budget
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.service.workspace import Workspace

ASSUMED_CONTEXT_LENGTH = 8192  # for models without a tested one: a declared 128k would rule most of them out


def advise(workspace: Workspace, wish: Wish) -> Advice:
    """Rank the models that are there for a wish; this machine's memory limits them unless the wish says otherwise."""
    budget = host_budget(assumed_runtime(workspace.settings.server), workspace.headroom)
    # An address may be another machine, whose memory is not known here.
    if wish.budget_bytes is None and workspace.settings.server in ("auto", "lmstudio", "embedded"):
        wish = replace(wish, budget_bytes=budget.available_bytes)
    speeds = {item.model_path: item.mean_decode_tokens_per_second for item in call_statistics(workspace)}
    records = [record for record in workspace.registry() if not record.is_missing]
    candidates = [_candidate(workspace, record, wish, budget, speeds.get(record.path)) for record in records]
    return recommend(candidates, wish)


def _candidate(workspace: Workspace, record: ModelRecord, wish: Wish, budget: Budget, speed: float | None) -> Candidate:
    declared = record.max_context_length or UNKNOWN_DECLARED_TOKENS
    needed = wish.min_context_length or record.tested_context_length or ASSUMED_CONTEXT_LENGTH
    shape = shape_of(model_file(workspace, record), record, read_model_header)
    known = record.best_result
    return Candidate(
        model_key=record.model_key,
        kind=record.kind,
        size_bytes=record.size_bytes or 0,
        memory_bytes=budget.use(shape, min(needed, declared), DEFAULT_LOAD),
        params=record.params,
        bits=record.bits,
        max_context_length=record.max_context_length,
        tested_context_length=record.tested_context_length,
        tested_is_limit=known is None or known.is_limit,
        test_failed=record.test_status == "failed",
        vision=record.vision,
        trained_for_tool_use=record.trained_for_tool_use,
        decode_tokens_per_second=speed,
    )
