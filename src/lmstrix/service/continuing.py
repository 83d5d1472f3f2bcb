"""What an interrupted `test --all` has left to test.

Each such run writes its models down before it begins. A run that goes on with another writes down what that one left,
so that it can be interrupted and gone on with in its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.context.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from lmstrix.core.history import History
    from lmstrix.core.history.journal import Journal
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.service.workspace import Workspace

ONE_MODEL, ALL_MODELS = "test", "test all"  # the kinds of runs in the journal
DONE, INTERRUPTED = "done", "interrupted"  # how they end; one that was killed has no ending
_MODELS = "models"


def begin_run(journal: Journal, models: Sequence[ModelRecord], *, all_models: bool) -> str:
    """Open a run in the journal; one of all models can be gone on with."""
    if not all_models:
        return journal.begin_run(ONE_MODEL)
    return journal.begin_run(ALL_MODELS, details={_MODELS: [record.path for record in models]})


def left_over(workspace: Workspace, registry: ModelRegistry) -> frozenset[str] | None:
    """The paths that the last `test --all` did not come to, nor a test since; None when none was interrupted."""
    history = workspace.history()
    left = None
    if history is not None:
        with history:
            left = _left_over(history, registry)
    if left is None:
        workspace.notify("no test of all models was interrupted; testing those that have no result yet")
    else:
        workspace.notify(f"going on with an interrupted test of all models: {len(left)} left")
    return left


def _left_over(history: History, registry: ModelRegistry) -> frozenset[str] | None:
    run = history.journal.last_run(ALL_MODELS)
    if run is None or run.outcome == DONE:
        return None
    # A test that lost its server says nothing about its model, which is therefore still to be tested.
    finished = history.journal.finished_models(run.run_id).items()
    done = {path for path, outcome in finished if outcome not in [o for o in Outcome if o.ends_the_run]}
    planned = run.details.get(_MODELS, ())
    left = (record for record in registry if record.path in planned and record.path not in done)
    return frozenset(record.path for record in left if not _tested_since(record, run.started_at))


def _tested_since(record: ModelRecord, began_at: datetime) -> bool:
    return any(result.conclusive and result.tested_at >= began_at for result in record.results)
