"""What the use cases return and take. Plain records: `reports` turns them into text, callers read them in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.core.answers.acting import Tool
    from lmstrix.core.answers.tokens import TokenCount
    from lmstrix.core.context.tester import ContextOutcome
    from lmstrix.core.memory.fit import LoadBreakdown
    from lmstrix.core.registry.defaults import DefaultsChange
    from lmstrix.core.registry.registry import ModelRecord, ScanChanges
    from lmstrix.core.registry.scanner import ScanProblem
    from lmstrix.ground.types import Message, ResourceEstimate

Precision = Literal["safe", "balanced", "tight", "exhaustive"]
SortKey = Literal["id", "name", "ctx", "tested", "size", "status", "date"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """What a scan found. `sources` say where it looked; `written` whether the registry file changed."""

    changes: ScanChanges
    problems: tuple[ScanProblem, ...]
    models: int
    forgotten: tuple[str, ...]
    sources: tuple[str, ...]
    written: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Records in the order asked for, of `total` in the registry."""

    records: tuple[ModelRecord, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """One call of `infer`: a `prompt`, or a whole chat in `messages`. `in_ctx`/`out_ctx` as in InferenceOptions.

    `images` are files shown with the prompt. `tools` are called as the model asks, for at most `max_rounds` rounds.
    `cache` takes the answer from an earlier call that was exactly the same, and keeps this one.
    """

    prompt: str
    messages: tuple[Message, ...] = ()
    model: str | None = None
    system_prompt: str | None = None
    in_ctx: int | float | None = None
    out_ctx: int | float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[Tool, ...] = ()
    max_rounds: int = 10
    cache: bool = False
    reload: bool = False
    raw: bool = False
    ttl_s: float | None = 300.0
    first_token_s: float | None = None
    between_tokens_s: float | None = None
    total_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a dry run would send. `record` and `context_length` are None when no model was named or none is known."""

    prompt: str
    system_prompt: str | None
    count: TokenCount
    record: ModelRecord | None = None
    context_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """One vector a text, in the order of the texts."""

    vectors: tuple[tuple[float, ...], ...]
    model_key: str

    @property
    def dimensions(self) -> int:
        return len(self.vectors[0]) if self.vectors else 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedDefaults:
    """One model of `save`: what was (or with a dry run would be) changed in its file of defaults, or the `problem`."""

    record: ModelRecord
    change: DefaultsChange | None
    written: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateReport:
    """What a load takes by our arithmetic, and by the server's own where one answers.

    `predicted_limit` is the longest context that fits `budget_bytes`; 0 when none does.
    """

    record: ModelRecord
    context_length: int
    breakdown: LoadBreakdown
    budget_bytes: int
    predicted_limit: int
    kv_bytes_per_token: float
    server_name: str | None = None
    server_estimate: ResourceEstimate | None = None

    @property
    def fits(self) -> bool:
        return self.breakdown.total_bytes <= self.budget_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of `doctor`: what was looked at, what was found, and the remedy where it is not well."""

    name: str
    state: Literal["ok", "note", "problem"]
    found: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """All checks."""

    checks: tuple[Check, ...]

    @property
    def problems(self) -> int:
        return sum(check.state == "problem" for check in self.checks)

    @property
    def ok(self) -> bool:
        return self.problems == 0
