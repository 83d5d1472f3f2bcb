"""Which models a `test` is for, in which order, and how far each is to be tried."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.core.context.ended import leaves_more
from lmstrix.core.context.report import ModelTest
from lmstrix.core.memory.prediction import breakdown, shape_of
from lmstrix.core.registry.naming import found_group
from lmstrix.ground.context_lengths import ALIGNMENT_TOKENS, UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import UsageError
from lmstrix.ground.headroom import NAME
from lmstrix.ground.loads import DEFAULT_LOAD, LoadConfig
from lmstrix.ground.ranges import check_numbers
from lmstrix.ground.wording import call, parameter
from lmstrix.loaders.model_header import read_model_header
from lmstrix.service import continuing
from lmstrix.service.model_folders import foreign_format, model_file, why_not_served

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.memory.budgets import Budget
    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.ground.choices import EndedBy, Precision, TestOrder
    from lmstrix.ground.headroom import Headroom
    from lmstrix.service.connection import Connection
    from lmstrix.service.workspace import Workspace


def tested_already() -> str:
    """Why a model is passed over that has a result."""
    return f"tested already ({parameter('force', True)} tests again)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextTestRequest:
    """What `lmstrix test` can be told; None leaves a default. `tag`: of all models, only those that have it."""

    tag: str | None = None
    threshold: int | None = None
    context_length: int | None = None
    precision: Precision = "balanced"
    fast: bool = False
    force: bool = False
    reset: bool = False
    prompt: str | None = None
    load_timeout_s: float | None = None
    budget_s: float | None = None
    load: LoadConfig = DEFAULT_LOAD
    unload_others: bool = False
    resume: bool = False
    ignore_guardrail: bool = False

    def __post_init__(self) -> None:
        check_numbers(self)
        # Below one step of a context nothing is measured: such a result would only stand in the way of a true one.
        if self.threshold is not None and self.threshold < ALIGNMENT_TOKENS:
            raise UsageError(
                f"{parameter('threshold')} {self.threshold:,} leaves no context to test; "
                f"give {ALIGNMENT_TOKENS} tokens or more"
            )

    def within(self, threshold: int | None) -> ContextTestRequest:
        """The same, below the threshold of the settings where nothing else was asked for."""
        if threshold is None or self.threshold is not None or self.context_length is not None:
            return self
        return replace(self, threshold=threshold)

    def check_for(self, model: str | None) -> None:
        """Refuse what makes no sense for one model (None stands for all of them), before anything is looked for."""
        if model is not None and self.resume:
            raise UsageError(
                f"{parameter('resume')} goes on with a test of all models: {call('test_all', switches=['resume'])}"
            )


def named_model(registry: ModelRegistry, model: str | None) -> ModelRecord | None:
    """The one model to test, None for all. Raises what keeps it from being tested."""
    if model is None:
        return None
    record = registry.find(model)
    if record.kind == "embedding":
        raise UsageError(f"{record.model_key} is an embedding model; there is no context limit to test")
    return record


def models_asked_for(registry: ModelRegistry, tag: str | None) -> list[ModelRecord]:
    """All models, or those that have a tag. Raises ModelNotFoundError where none has it."""
    return list(registry) if tag is None else found_group(tag, list(registry))


def due_models(
    workspace: Workspace,
    registry: ModelRegistry,
    options: ContextTestRequest,
    order: TestOrder,
    *,
    connection: Connection | None = None,
) -> tuple[list[ModelRecord], list[ModelTest]]:
    """The models to test, in order, and those passed over with the reason, also what `connection` does not serve."""
    left = continuing.left_over(workspace, registry) if options.resume else None
    chosen, skipped = [], []
    for record in models_asked_for(registry, options.tag):
        reason = None
        if record.kind == "embedding":
            reason = "embedding model"
        elif record.is_missing:
            reason = "missing"
        elif left is not None:
            reason = None if record.path in left else "not left over by the interrupted run"
        elif not is_due(record, ceiling_of(record, options)[0], options):
            reason = tested_already()
        if reason is None and connection is not None:
            reason = foreign_format(connection, record) or why_not_served(workspace, connection, record)
        if reason is None:
            chosen.append(record)
        else:
            skipped.append(ModelTest(record=record, skipped=reason))
    keys: dict[TestOrder, Callable[[ModelRecord], object]] = {
        "id": lambda r: r.model_key,
        "size": lambda r: r.size_bytes or 0,
        "ctx": lambda r: r.max_context_length or 0,
        "risk": lambda r: breakdown(model_shape(workspace, r), ceiling_of(r, options)[0], options.load).total_bytes,
    }
    chosen.sort(key=keys[order])  # type: ignore[arg-type]  # each key gives values of one comparable type
    return chosen, skipped


def is_due(record: ModelRecord, ceiling: int, options: ContextTestRequest) -> bool:
    """Whether a test up to `ceiling` is due: there is no result for its load settings, or one that met no limit."""
    if options.force or options.reset or options.context_length is not None:
        return True
    result = record.result_with(options.load)
    return result is None or not result.tested_context_length or leaves_more(result, ceiling)


def leaving_free(
    ceiling: tuple[int, EndedBy | None],
    shape: ModelShape,
    budget: Budget,
    options: ContextTestRequest,
    headroom: Headroom,
) -> tuple[int, EndedBy | None]:
    """How far to try so that the headroom stays free in a budget, 0 where no context does that, and what set it.

    A length that the user names is tried as it is.
    """
    kept = budget.keeping(headroom)
    if kept.available_bytes is None or not kept.headroom_bytes or options.context_length is not None:
        return ceiling
    longest = kept.limit(shape, ceiling[0], options.load)
    if longest >= ceiling[0]:
        return ceiling
    return longest if longest >= ALIGNMENT_TOKENS else 0, "headroom"


def nothing_left_free(headroom: Headroom) -> str:
    """Why a model is passed over that fits at no context then."""
    remedy = f"{parameter('context_length')} tries one all the same"
    return f"fits at no context while {NAME} keeps {headroom} free ({remedy})"


def model_shape(workspace: Workspace, record: ModelRecord) -> ModelShape:
    return shape_of(model_file(workspace, record), record, read_model_header)


def ceiling_of(record: ModelRecord, options: ContextTestRequest) -> tuple[int, EndedBy | None]:
    """The longest length to try, and what set it; None where a model declares nothing and a length is assumed."""
    declared = record.max_context_length or UNKNOWN_DECLARED_TOKENS
    by: EndedBy | None = "declared" if record.max_context_length else None
    if options.context_length is not None:
        if options.context_length > declared:
            raise UsageError(
                f"{record.model_key} declares {declared:,} tokens; "
                f"{parameter('context_length')} {options.context_length:,} is beyond that"
            )
        return options.context_length, by if options.context_length == declared else "asked_length"
    if options.threshold is not None and options.threshold < declared:
        return options.threshold, "threshold"
    return declared, by
