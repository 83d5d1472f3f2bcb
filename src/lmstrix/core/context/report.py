"""What a test of context limits gives back: what was planned, what each model came to, all of them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.core.context.tester import ContextOutcome
    from lmstrix.core.registry.records import ModelRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTest:
    """One model's test: `outcome` None when it was skipped, and why."""

    record: ModelRecord
    outcome: ContextOutcome | None = None
    skipped: str | None = None

    @property
    def why(self) -> str:
        """How it ended, in one line that names the model once."""
        assert self.outcome is not None
        result, key = self.outcome.result, self.record.model_key
        if self.outcome.refused:
            return f"{key}: nothing was loaded: {self.outcome.refused}"
        if result.error and result.error.startswith(key):
            return result.error
        return f"{key}: {result.outcome}" + (f": {result.error}" if result.error else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextReport:
    """All models of one `test`."""

    models: tuple[ModelTest, ...]
    interrupted: bool = False

    @property
    def failed(self) -> tuple[ModelTest, ...]:
        """Those whose test ended without a usable length."""
        return tuple(m for m in self.models if m.outcome is not None and not m.outcome.result.tested_context_length)

    @property
    def failure_line(self) -> str:
        """One line about what failed."""
        if len(self.models) == 1:
            return self.failed[0].why
        return f"{len(self.failed)} of {len(self.models)} models have no usable context"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTest:
    """What `test --dry-run` says of a model: what a load at `ceiling` would take, and the limit arithmetic expects.

    `first_load` is what the search would load first, with how likely that is to fail; None when it would load nothing.
    """

    record: ModelRecord
    ceiling: int
    predicted_bytes: int
    budget_bytes: int
    predicted_limit: int
    approximate: bool
    first_load: int | None
    first_load_bytes: int | None
    first_load_risk_ratio: float | None
