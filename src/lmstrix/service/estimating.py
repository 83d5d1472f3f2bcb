"""What a load takes and how long a context fits, by arithmetic, beside what the server itself estimates."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.memory.estimate import EstimateReport
from lmstrix.core.memory.prediction import breakdown, kv_bytes_per_token, shape_of
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.ranges import check_numbers
from lmstrix.ground.wording import parameter
from lmstrix.loaders.model_header import read_model_header
from lmstrix.service.budgets import present_budget
from lmstrix.service.finding import find_model, known_models
from lmstrix.service.model_folders import model_file
from lmstrix.service.unheeded import check_settings

if TYPE_CHECKING:
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.service.workspace import Workspace


async def estimate(workspace: Workspace, model: str, load: LoadConfig) -> EstimateReport:
    """Bytes by part at `load.context_length` (default: declared), the limit that fits, the server's own estimate."""
    check_numbers(load)
    record = await find_model(workspace, await known_models(workspace), model)
    check_settings(record, load)
    declared = record.max_context_length or UNKNOWN_DECLARED_TOKENS
    length = load.context_length or declared
    if length > declared:
        raise UsageError(
            f"{record.model_key} declares {declared:,} tokens; {parameter('context_length')} {length:,} is beyond that"
        )
    shape = shape_of(model_file(workspace, record), record, read_model_header)
    connection = server_name = server_estimate = None
    # The arithmetic stands without a server; what one says is only a second opinion.
    with suppress(LMStrixError):
        connection = await workspace.connect_running()
        server_name = connection.name
    budget = await present_budget(workspace, connection, workspace.headroom)
    if connection is not None:
        with suppress(LMStrixError):
            server_estimate = await connection.backend.estimate(record.model_key, replace(load, context_length=length))
    assert budget.available_bytes is not None
    return EstimateReport(
        record=record,
        context_length=length,
        breakdown=breakdown(shape, length, load, runtime=budget.runtime),
        budget_bytes=budget.available_bytes,
        headroom_bytes=budget.headroom_bytes,
        used_bytes=budget.use(shape, length, load),
        predicted_limit=budget.limit(shape, declared, load),
        kv_bytes_per_token=kv_bytes_per_token(shape, length, load),
        server_name=server_name,
        server_estimate=server_estimate,
    )
