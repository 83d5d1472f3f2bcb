"""What was tried with a model, on the terminal: every load, filling and prompt that led to its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.ground.units import format_bytes, format_seconds, format_tokens
from lmstrix.reports.json_form import json_form
from lmstrix.reports.table import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.history.timeline import HistoryEvent
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.reports.console import Console

_COLUMNS = (
    Column(title="DATE", drop=4),
    Column(title="TIME"),
    Column(title="WHAT"),
    Column(title="TOKENS", right=True),
    Column(title="PREDICTED", right=True, drop=2),
    Column(title="TOOK", right=True, drop=3),
    Column(title="OUTCOME", shrink=True, keep=14, fold=True),
    Column(title="DETAIL", shrink=True, keep=24, fold=True, drop=1),
    Column(title="CONFIGURATION", drop=5),
)
_WORDS = {"load": "load", "prefill": "fill", "probe": "prompt"}


def show_test_history(console: Console, record: ModelRecord, events: Sequence[HistoryEvent]) -> None:
    """The events as a table, or as JSON with all their details."""
    if console.json:
        console.result("history", _json(record, events))
        return
    if not events:
        console.note(f"no test of {record.model_key} is on record: lmstrix test {record.model_key} makes one")
        return
    console.table(_COLUMNS, [_row(event) for event in events])
    console.note(_found(record))


def _row(event: HistoryEvent) -> tuple[str, ...]:
    here = event.at.astimezone() if event.at else None
    return (
        here.strftime("%Y-%m-%d") if here else "-",
        here.strftime("%H:%M:%S") if here else "-",
        # The second text is only asked about where recall of the first one ended.
        _WORDS[event.kind] + (", text 2" if event.details.get("text") == 2 else ""),
        format_tokens(event.tokens),
        format_bytes(event.predicted_bytes) if event.predicted_bytes is not None else "-",
        format_seconds(event.elapsed_s),
        event.outcome,
        event.detail if event.detail != event.outcome else "",
        event.configuration,
    )


def _found(record: ModelRecord) -> str:
    """What all this came to: the result as the registry has it."""
    result = record.best_result
    if result is None or result.tested_context_length is None:
        return f"{record.model_key} has no tested context"
    recalled = result.effective_context_length
    return (
        f"{record.model_key}: {format_tokens(result.tested_context_length)} tokens to use"
        f" (loads {format_tokens(result.loadable_context_length)}"
        + (f", recalls {format_tokens(recalled)})" if recalled is not None else ", recall not tested)")
    )


def _json(record: ModelRecord, events: Sequence[HistoryEvent]) -> dict[str, Any]:
    return {"model_key": record.model_key, "path": record.path, "events": [json_form(event) for event in events]}
