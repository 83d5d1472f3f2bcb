"""Stored results in words: what ended a test, in a cell and in a line, and all results of a model in a table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lmstrix.ground.units import format_tokens
from lmstrix.reports.table import Column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmstrix.core.registry.places import Place
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import ContextResult
    from lmstrix.ground.choices import EndedBy
    from lmstrix.reports.console import Console

_CELLS: Mapping[EndedBy, str] = {
    "declared": "declared",
    "memory_at_load": "memory at load",
    "memory_at_prefill": "memory at prefill",
    "memory_spilled": "memory spilled",
    "guardrail": "guardrail",
    "threshold": "threshold",
    "headroom": "headroom",
    "asked_length": "asked length",
    "recall": "recall",
    "time_budget": "time budget",
}
_MEMORY = ("memory_at_load", "memory_at_prefill")
_ENGINES = {"lmstudio": "LM Studio", "embedded": "the embedded engine"}
_RESULT_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="MEASURED ON", shrink=True, keep=12),
    Column(title="SETTINGS", shrink=True, keep=8),
    Column(title="TESTED", right=True),
    Column(title="LOADS", right=True, drop=2),
    Column(title="RECALLS", right=True, drop=3),
    Column(title="ENDED BY"),
    Column(title="TESTED ON", drop=1),
)


def ended_cell(result: ContextResult | None) -> str:
    """What ended a test, in a word or two; "-" where its outcome says it."""
    if result is None or result.ended_by is None:
        return "-"
    if result.ended_by in _MEMORY and result.last_known_bad is None:
        return "memory (expected)"  # nothing failed: the search stopped short of it
    return _CELLS.get(result.ended_by, result.ended_by)


def up_to_words(result: ContextResult) -> str | None:
    """How far a model was tested where that is no limit of it."""
    if result.is_limit or not result.tested_context_length:
        return None
    return f"tested only up to {result.tested_context_length:,} ({ended_cell(result)})"


def show_results(console: Console, records: Sequence[ModelRecord]) -> None:
    """All results of some models, of whatever engine, host and settings."""
    rows = [
        (
            record.model_key,
            result.configuration.server,
            result.configuration.settings or "default",
            format_tokens(result.tested_context_length),
            format_tokens(result.loadable_context_length),
            format_tokens(result.effective_context_length),
            ended_cell(result) if result.ended_by else result.outcome,
            result.dated_at.date().isoformat() if result.dated_at else "-",
        )
        for record in records
        for result in record.results
    ]
    if rows:
        sys.stdout.write("\n")
        console.table(_RESULT_COLUMNS, rows)


def note_others(console: Console, records: Sequence[ModelRecord], place: Place | None) -> None:
    """Say of which server the results shown are, where models have others."""
    count = sum(record.has_other_results for record in records)
    if place is None:
        _note_newest(console, records)
    if not count:
        return
    shown = "the newest" if place is None else f"those of {_name(place)}"
    models = "1 model has" if count == 1 else f"{count} models have"
    console.note(
        f"the results shown are {shown}; {models} others, of other engines, hosts or settings: "
        "lmstrix list MODEL --verbose"
    )


def _note_newest(console: Console, records: Sequence[ModelRecord]) -> None:
    """Say whose results are shown before there is a server in use: which will be, is not known."""
    engines = sorted({best.configuration.engine for record in records if (best := record.best_result) is not None})
    if engines:
        names = " and ".join(_ENGINES.get(engine, engine) for engine in engines)
        console.note(f"no server was in use yet: the results shown are of {names}, and count there alone")


def _name(place: Place) -> str:
    return f"{_ENGINES.get(place.engine, place.engine)} on {'this machine' if place.is_here else place.host}"


def result_json(result: ContextResult) -> dict[str, Any]:
    """One result as `list --json` shows it among all of a model."""
    return {
        "configuration": result.configuration.key,
        "engine": result.configuration.engine,
        "host": result.configuration.host,
        "tested_context_length": result.tested_context_length,
        "loadable_context_length": result.loadable_context_length,
        "effective_context_length": result.effective_context_length,
        "ended_by": result.ended_by,
        "ended_detail": result.ended_detail,
        "outcome": result.outcome,
        "tested_at": result.dated_at.isoformat() if result.dated_at else None,
    }
