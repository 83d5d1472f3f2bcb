"""What a load takes and how long a context fits, by arithmetic, beside what the server itself estimates."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.memory.estimate import EstimateReport
from lmstrix.core.memory.host import read_host_memory
from lmstrix.core.memory.prediction import breakdown, kv_bytes_per_token, predicted_limit, shape_of
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.loaders.gguf import read_header
from lmstrix.service.finding import known_models

if TYPE_CHECKING:
    from lmstrix.ground.types import LoadConfig
    from lmstrix.service.workspace import Workspace


async def estimate(workspace: Workspace, model: str, load: LoadConfig) -> EstimateReport:
    """Bytes by part at `load.context_length` (default: declared), the limit that fits, the server's own estimate."""
    record = (await known_models(workspace)).find(model)
    declared = record.max_context_length or UNKNOWN_DECLARED_TOKENS
    length = load.context_length or declared
    if length > declared:
        raise UsageError(f"{record.model_key} declares {declared:,} tokens; --ctx {length:,} is beyond that")
    shape = shape_of(workspace.models_dir / record.file, record, read_header)
    budget = read_host_memory().model_budget_bytes
    server_name = server_estimate = None
    # The arithmetic stands without a server; what one says is only a second opinion.
    with suppress(LMStrixError):
        connection = await workspace.connect_running()
        server_name = connection.name
        server_estimate = await connection.backend.estimate(record.model_key, replace(load, context_length=length))
    return EstimateReport(
        record=record,
        context_length=length,
        breakdown=breakdown(shape, length, load),
        budget_bytes=budget,
        predicted_limit=predicted_limit(shape, budget, declared, load),
        kv_bytes_per_token=kv_bytes_per_token(shape, length, load),
        server_name=server_name,
        server_estimate=server_estimate,
    )
