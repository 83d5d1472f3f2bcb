"""What a load is estimated to take, by our arithmetic and by the server's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.core.memory.fit import LoadBreakdown
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.types import ResourceEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateReport:
    """What a load takes by our arithmetic, and by the server's own where one answers.

    `predicted_limit` is the longest context that fits `budget_bytes`; 0 when none does. `used_bytes` is what counts
    against that: context checkpoints only where they lie in the same memory. `headroom_bytes` stay free beside both.
    """

    record: ModelRecord
    context_length: int
    breakdown: LoadBreakdown
    budget_bytes: int
    headroom_bytes: int
    used_bytes: int
    predicted_limit: int
    kv_bytes_per_token: float
    server_name: str | None = None
    server_estimate: ResourceEstimate | None = None

    @property
    def fits(self) -> bool:
        return self.used_bytes <= self.budget_bytes
