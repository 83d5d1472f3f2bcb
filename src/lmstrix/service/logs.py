"""`logs`: what the log of calls holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import call

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
        return history.calls.search(search, model_path=path, limit=last)


def logged_call(workspace: Workspace, call_id: int) -> LoggedCall:
    """One call by its number. Raises UsageError where the log has none."""
    history = workspace.history()
    found = None
    if history is not None:
        with history:
            found = history.calls.find(call_id)
    if found is None:
        raise UsageError(f"there is no call {call_id} in the log ({call('logs')} shows the numbers)")
    return found


def call_statistics(workspace: Workspace, *, model: str | None = None) -> list[CallStatistics]:
    """What the log says of each model: calls, failures, tokens, mean speed."""
    path = workspace.find(model).path if model is not None else None
    history = workspace.history()
    if history is None:
        return []
    with history:
        return history.calls.statistics(model_path=path)
