"""The records of a context test: what it is asked, its steps, and its results, for one model and then for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lmstrix.core.context.machine_belief import MachineBelief
from lmstrix.ground.loads import DEFAULT_LOAD, LoadConfig
from lmstrix.ground.types import Deadlines, RuntimeVersion

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.context.verdict import Outcome
    from lmstrix.core.registry.known_failure import KnownFailure
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import Configuration, ContextResult
    from lmstrix.ground.choices import EndedBy, Precision

StepKind = Literal["load", "prefill", "answer", "recall"]


def _nothing(_: int) -> int:
    return 0


def _in_proportion(tokens: int) -> float:
    return float(tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model to test. `cost` predicts the bytes of a load (`approximate`: it is a guess), of which `touched_later` are
    taken only once it is filled; `ceiling` is the longest length worth a load, `ceiling_by` what set it, None where a
    length is only assumed; `budget_bytes` what models may take, None when nobody knows, `budget_told` when the server
    itself says so; `weights_bytes` the model without any context, where its file says it; `lazy` backends take the
    cache only as the prompt grows, `runtime` is the one that does so. `decode_work` says by how much a token is more
    work behind a longer prompt. Lengths from `known_bad` on are not tried. Where it is not `alone`, other loaded models
    take memory too, and a failure says nothing lasting about this one.
    """

    model_key: str
    path: str
    declared: int
    ceiling: int
    ceiling_by: EndedBy | None = "declared"
    cost: Callable[[int], int]
    budget_bytes: int | None
    configuration: Configuration
    weights_bytes: int | None = None
    budget_told: bool = False
    touched_later: Callable[[int], int] = _nothing
    decode_work: Callable[[int], float] = _in_proportion
    approximate: bool = False
    lazy: bool = False
    runtime: RuntimeVersion | None = None
    architecture: str | None = None
    known_bad: KnownFailure | None = None
    alone: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextTestOptions:
    """How to test. `context_length` tests that one length; `question` replaces the recall questions."""

    precision: Precision = "balanced"
    context_length: int | None = None
    recall: bool = True
    question: str | None = None
    load: LoadConfig = DEFAULT_LOAD
    deadlines: Deadlines = field(default_factory=Deadlines)
    budget_s: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing the tester does, for progress displays; `ratio` grows while it goes on, `outcome` ends it.

    While the model answers a prompt of `context_length` tokens, `answered_tokens` of at most `max_tokens` have come.
    """

    model_key: str
    kind: StepKind
    context_length: int
    ratio: float | None = None
    outcome: Outcome | None = None
    detail: str = ""
    answered_tokens: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """What a server's own guardrail lets through: `limit` tokens, 0 for nothing. `predicted_limit` is what would fit
    into memory without it; None where that is not known. `headroom_bytes` are what the server was told to keep free,
    where that is what stands in the way, else 0.
    """

    limit: int
    predicted_limit: int | None = None
    headroom_bytes: int = 0

    @property
    def ends_by(self) -> EndedBy:
        """What ends a test that goes as far as it lets."""
        return "headroom" if self.headroom_bytes else "guardrail"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextOutcome:
    """What a test came to: the result for the registry, and what it cost. `guardrail` where one stood in the way."""

    result: ContextResult
    refused: str | None = None
    guardrail: Guardrail | None = None
    loads: int = 0
    failing_loads: int = 0
    failing_prefills: int = 0
    elapsed_s: float = 0.0
    steps: tuple[Step, ...] = ()
    learned: MachineBelief = field(default_factory=MachineBelief)

    @property
    def failing(self) -> int:
        """Everything that was tried and failed: a prefill that kills the engine costs as much as a load that does."""
        return self.failing_loads + self.failing_prefills


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
        # "recall lost at the beginning" says itself how it ended.
        if result.error and result.error.startswith(result.outcome):
            return f"{key}: {result.error}"
        return f"{key}: {result.outcome}" + (f": {result.error}" if result.error else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextReport:
    """All models of one `test`."""

    models: tuple[ModelTest, ...]

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
