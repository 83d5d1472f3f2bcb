"""`history`: what was tried with a model, from the journal. No server is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.history.timeline import HistoryEvent, timeline

if TYPE_CHECKING:
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.service.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHistory:
    """A model, and the events that led to its result, oldest first."""

    record: ModelRecord
    events: tuple[HistoryEvent, ...] = ()


def test_history(workspace: Workspace, model: str, *, all_runs: bool) -> ModelHistory:
    """The loads, prefills and probes of the newest test of a model, or of all its tests."""
    record = workspace.find(model)
    history = workspace.history()
    if history is None:
        return ModelHistory(record=record)
    with history:
        journal = history.journal
        events = timeline(
            journal.intents(model_path=record.path),
            journal.probes(record.path),
            dead={intent.intent_id for intent in journal.unfinished()},
            newest_run_only=not all_runs,
        )
    return ModelHistory(record=record, events=tuple(events))
