"""What a `test` would try, by arithmetic alone: the server that runs says what models may take, and loads nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lmstrix.core.context.report import PlannedTest
from lmstrix.core.context.search import ContextSearch
from lmstrix.core.registry.places import place_of
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.headroom import NO_HEADROOM
from lmstrix.service.budgets import present_budget
from lmstrix.service.due_tests import ceiling_of, due_models, leaving_free, model_shape, named_model

if TYPE_CHECKING:
    from lmstrix.core.memory.budgets import Budget
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.choices import TestOrder
    from lmstrix.service.due_tests import ContextTestRequest
    from lmstrix.service.workspace import Workspace


async def plan(
    workspace: Workspace, model: str | None, options: ContextTestRequest, *, order: TestOrder = "risk"
) -> list[PlannedTest]:
    """The models that a test would take, in its order. Without a server, this machine's memory is reckoned with."""
    options.check_for(model)
    options = options.within(workspace.settings.threshold)
    registry = workspace.registry()
    connection = None
    with suppress(LMStrixError):
        connection = await workspace.connect_running(workspace.deadline())
        # Which models are due depends on the server: what was measured on another one says nothing here.
        registry.place = place_of(connection.server)
    named = named_model(registry, model)
    chosen = [named] if named else due_models(workspace, registry, options, order, connection=connection)[0]
    budget = await present_budget(workspace, connection, NO_HEADROOM)
    return [_planned(workspace, record, budget, options) for record in chosen]


def _planned(workspace: Workspace, record: ModelRecord, budget: Budget, options: ContextTestRequest) -> PlannedTest:
    shape = model_shape(workspace, record)
    ceiling = max(1, leaving_free(ceiling_of(record, options), shape, budget, options, workspace.headroom)[0])
    available = budget.for_loading(shape, options.load)
    assert available is not None

    def cost(length: int) -> int:
        return budget.cost(shape, length, options.load)

    search = ContextSearch(
        cost=cost,
        declared=ceiling,
        budget_bytes=available,
        architecture=record.architecture or "",
        precision=options.precision,
        approximate=shape.approximate,
    )
    first = ceiling if options.context_length is not None else search.next_load()
    return PlannedTest(
        record=record,
        ceiling=ceiling,
        predicted_bytes=cost(ceiling),
        budget_bytes=available,
        predicted_limit=budget.limit(shape, ceiling, options.load),
        approximate=shape.approximate,
        first_load=first,
        first_load_bytes=cost(first) if first is not None else None,
        first_load_risk_ratio=search.risk(first) if first is not None else None,
    )
