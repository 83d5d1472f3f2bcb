"""`logs`: what the log of calls holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.core.history.calls import CallStatistics, LoggedCall
    from lmstrix.service.workspace import Workspace


def logged_calls(
    workspace: Workspace, *, search: str | None = None, model: str | None = None, last: int = 20
) -> list[LoggedCall]:
    """The calls in the log, newest first, or the best matches of `search` first."""
    path = workspace.find(model).path if model is not None else None
    history = workspace.history()
    if history is None:
        return []
    with history:
        if search is None:
            return history.calls.latest(model_path=path, limit=last)
        # The text index does not know models: more is asked for than is wanted, and this model's calls are kept.
        found = history.calls.search(search, limit=last if path is None else 10 * last)
        return [entry for entry in found if path is None or entry.call.model_path == path][:last]


def call_statistics(workspace: Workspace, *, model: str | None = None) -> list[CallStatistics]:
    """What the log says of each model: calls, failures, tokens, mean speed."""
    path = workspace.find(model).path if model is not None else None
    history = workspace.history()
    if history is None:
        return []
    with history:
        return history.calls.statistics(model_path=path)
