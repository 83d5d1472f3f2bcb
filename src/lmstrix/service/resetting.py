"""`reset`: forget what tests found, in the registry and in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.service.workspace import Workspace


def reset(workspace: Workspace, model: str | None) -> list[ModelRecord]:
    """Forget the test results of one model, or with None of all; returns those that had any."""
    records = [workspace.find(model)] if model is not None else list(workspace.registry())
    paths = [record.path for record in records]
    done = set(workspace.store.update(lambda registry: [path for path in paths if registry.reset(path)]))
    history = workspace.history()
    if history is not None:
        with history:
            # All of them, also without a result: the journal may still hold a size against a model.
            for path in paths:
                history.journal.forget_tests(path)
    return [record for record in records if record.path in done]
