"""Models on the terminal: what a scan found, what the registry lists, what is loaded, predicted, saved and reset."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lmstrix.ground.units import counted, format_bytes, format_seconds, format_tokens
from lmstrix.reports.json_form import json_form, value_text
from lmstrix.reports.recalled import recalled_text
from lmstrix.reports.results import ended_cell, note_others, result_json, show_results, up_to_words
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.registry.defaults import DefaultsChange, SavedDefaults
    from lmstrix.core.registry.listing import Listing, ScanReport
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import ContextResult
    from lmstrix.ground.choices import ListColumn
    from lmstrix.ground.types import LoadedModel
    from lmstrix.reports.console import Console

_LIST_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=18),
    Column(title="SIZE", right=True, drop=4),
    Column(title="DECLARED", right=True, drop=1),
    Column(title="TESTED", right=True),
    Column(title="LOADS", right=True, drop=2),
    Column(title="RECALLS", right=True, drop=3),
    Column(title="ENDED BY", drop=6),
    Column(title="STATUS"),
    Column(title="TESTED ON", drop=5),
)
_LOADED_COLUMNS = (
    Column(title="INSTANCE", shrink=True, keep=18),
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="CONTEXT", right=True),
    Column(title="DECLARED", right=True, drop=4),
    Column(title="SIZE", right=True, drop=3),
    Column(title="STATUS", drop=1),
    Column(title="TTL", right=True, drop=2),
)
_LISTS = ("recall_curve", "effective_range")  # which fit no cell of a CSV file
_PATHS_SHOWN = 10  # of each kind of change; a first scan of a big folder would fill the screen


def show_scan(console: Console, report: ScanReport) -> None:
    """What a scan changed: paths as notes, counts as the result."""
    changes = report.changes
    if console.json:
        console.result("scan", _scan_json(report))
        return
    for problem in report.problems:
        console.note(f"{problem.path}: {problem.detail}")
    for word, paths in (("new", changes.added), ("gone", changes.missing), ("back", changes.restored)):
        for path in paths[:_PATHS_SHOWN] if not console.verbose else paths:
            console.note(f"{word}: {path}")
        if len(paths) > _PATHS_SHOWN and not console.verbose:
            console.note(f"{word}: … and {len(paths) - _PATHS_SHOWN} more (--verbose shows all)")
    for move in changes.moved:
        console.note(f"moved: {move.old_path} -> {move.new_path}")
    found_by_word = {
        "new": changes.added,
        "changed": changes.changed,
        "moved": changes.moved,
        "missing": changes.missing,
        "back": changes.restored,
        "unreadable": report.problems,
        "reset": report.forgotten,
    }
    counts = [f"{len(found)} {word}" for word, found in found_by_word.items() if found]
    state = "" if report.written else " (registry unchanged)"
    sources, changed = " and ".join(report.sources), ", ".join(counts) or "no change"
    sys.stdout.write(f"{counted(report.models, 'model')} from {sources}: {changed}{state}\n")


def _scan_json(report: ScanReport) -> dict[str, Any]:
    moved = [{"from": move.old_path, "to": move.new_path} for move in report.changes.moved]
    return {
        "models": report.models,
        **json_form(report.changes),
        "moved": moved,
        "forgotten": report.forgotten,
        "problems": [json_form(problem) for problem in report.problems],
        "sources": report.sources,
        "written": report.written,
    }


def show_listing(
    console: Console,
    listing: Listing,
    *,
    show: str,
    columns: Sequence[ListColumn] = (),
    header: bool = True,
    max_width: int | None = None,
) -> None:
    """The registry as `show` says: a table (of these columns, where some are named), keys, paths, CSV or JSON."""
    records = listing.records
    if console.json or show == "json":
        console.result("list", {"models": [record_json(record) for record in records]})
    elif show in ("id", "path"):
        lines = (record.model_key if show == "id" else record.path for record in records)
        sys.stdout.write("".join(f"{clean(line)}\n" for line in lines))
    elif show == "csv":
        _write_csv(console, [record_json(record) for record in records])
    elif not listing.total:
        console.note("no models yet: lmstrix scan finds them")
    else:
        places = [_column_names().index(name) for name in columns] or range(len(_LIST_COLUMNS))
        rows = [_list_row(record) for record in records]
        chosen = [[row[place] for place in places] for row in rows]
        console.table([_LIST_COLUMNS[place] for place in places], chosen, header=header, max_width=max_width)
        if not records:
            console.note(f"none of {counted(listing.total, 'model')} matches")
        if console.verbose:
            show_results(console, records)
            _show_recall_curves(records)
        else:
            note_others(console, records, listing.place)


def _column_names() -> list[str]:
    """The names of the columns as --columns takes them."""
    return [column.title.lower().replace(" ", "-") for column in _LIST_COLUMNS]


def _write_csv(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    # The columns are those of the first row; without one there is nothing to name them by.
    if not rows:
        return
    import csv
    import io

    columns = [name for name in rows[0] if name not in _LISTS]
    shown = io.StringIO()
    writer = csv.DictWriter(shown, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # Names are a stranger's text: exact for a program, harmless for a terminal.
    console.text(shown.getvalue())


def _show_recall_curves(records: Sequence[ModelRecord]) -> None:
    from lmstrix.reports.tests import recall_chart  # imports the tester's verdicts, which a plain list does not need

    unicode = "utf" in (sys.stdout.encoding or "").lower()
    for record in records:
        for result in record.results:
            if len(result.recall_curve) > 1:
                chart = recall_chart(result.recall_curve, unicode=unicode)
                sys.stdout.write(f"{clean(record.model_key)} ({result.configuration.key})  {chart}\n")


def record_json(record: ModelRecord) -> dict[str, Any]:
    """A registry record as `list --json` shows it."""
    # The figures are of one configuration: the default one of the server in use.
    best = record.best_result
    return {
        "model_key": record.model_key,
        "path": record.path,
        "kind": record.kind,
        "format": record.format,
        "architecture": record.architecture,
        "params": record.params,
        "quantization": record.quantization,
        "bits_per_weight": record.bits_per_weight,
        "size_bytes": record.all_bytes or None,
        "max_context_length": record.max_context_length,
        "tested_context_length": record.tested_context_length,
        "loadable_context_length": best.loadable_context_length if best else None,
        "effective_context_length": best.effective_context_length if best else None,
        "effective_range": best.effective_range if best else None,
        "status": record.test_status,
        "missing": record.is_missing,
        "outcome": best.outcome if best else None,
        "ended_by": best.ended_by if best else None,
        "error": best.error if best else None,
        "tested_at": record.tested_at.isoformat() if record.tested_at else None,
        "vision": record.vision,
        "trained_for_tool_use": record.trained_for_tool_use,
        "recall_curve": [list(point) for point in best.recall_curve] if best else [],
        "configuration": best.configuration.key if best else None,
        "results": [result_json(result) for result in record.results],
    }


def _list_row(record: ModelRecord) -> tuple[str, ...]:
    best = record.best_result
    return (
        record.model_key,
        format_bytes(record.all_bytes) if record.all_bytes else "-",
        format_tokens(record.max_context_length),
        format_tokens(record.tested_context_length),
        format_tokens(best.loadable_context_length if best else None),
        recalled_text(best) if best else "-",
        ended_cell(best),
        _status(record, best),
        record.tested_at.date().isoformat() if record.tested_at else "-",
    )


def _status(record: ModelRecord, best: ContextResult | None) -> str:
    """How things stand with a model; one that loads and answers nonsense is not simply "completed"."""
    if record.is_missing:
        return "missing"
    if record.kind == "embedding":
        return "embedding"
    nonsense = best is not None and best.outcome in ("garbage answer", "empty answer")
    return best.outcome if best is not None and nonsense and record.test_status == "completed" else record.test_status


def show_loaded(console: Console, models: Sequence[LoadedModel], *, command: str) -> None:
    """The loaded models, for `load` and `ps`."""
    if console.json:
        console.result(command, {"models": [_loaded_json(model) for model in models]})
        return
    if not models:
        console.note("nothing is loaded")
        return
    rows = [
        (
            model.instance_id,
            model.model_key,
            format_tokens(model.context_length),
            format_tokens(model.max_context_length),
            format_bytes(model.size_bytes),
            model.status or "",
            format_seconds(model.ttl_s) if model.ttl_s else "-",
        )
        for model in models
    ]
    console.table(_LOADED_COLUMNS, rows)


def show_unloaded(console: Console, models: Sequence[LoadedModel]) -> None:
    """What `unload` unloaded."""
    if console.json:
        console.result("unload", {"models": [_loaded_json(model) for model in models]})
    for model in models:
        console.note(f"unloaded {model.instance_id}")
    if not models:
        console.note("nothing was loaded")


def _loaded_json(model: LoadedModel) -> dict[str, Any]:
    # The reference is the server's own handle for one load: it means nothing in another process.
    return json_form(model, without=("instance_reference",))


def show_estimate(console: Console, report: EstimateReport) -> None:
    """What a load takes, part by part, and whether it fits."""
    if console.json:
        console.result("estimate", _estimate_json(report))
        return
    parts, server = report.breakdown, report.server_estimate
    guess = " (a guess: the file's header is not readable from here)" if parts.approximate else ""
    bits = report.record.bits_per_weight
    growing = ", taken as the prompt grows" if parts.lazy else ""
    rows = [
        ("weights", format_bytes(parts.weights_bytes) + (f"  ({bits:g} bits a weight)" if bits else "")),
        (
            "KV cache",
            f"{format_bytes(parts.kv_cache_bytes)}  ({format_bytes(report.kv_bytes_per_token)} a token{growing})",
        ),
        ("recurrent state", format_bytes(parts.recurrent_state_bytes)),
        ("compute buffer", format_bytes(parts.compute_buffer_bytes)),
        ("projector", format_bytes(parts.projector_bytes)),
        ("runtime", format_bytes(parts.runtime_overhead_bytes)),
        ("total", format_bytes(parts.total_bytes) + guess),
        ("available", f"{format_bytes(report.budget_bytes)}  ({'fits' if report.fits else 'does not fit'})"),
        ("longest that fits", f"{format_tokens(report.predicted_limit)} tokens"),
    ]
    if parts.checkpoint_bytes:
        where = "in main memory, once prompts have been answered"
        rows.insert(-3, ("checkpoints", f"{format_bytes(parts.checkpoint_bytes)}  ({where})"))
    if server is not None:
        verdict = "lets it through" if server.passes_guardrails else "would refuse it"
        rows.append(("server says", f"{format_bytes(server.total_bytes)}  ({report.server_name} {verdict})"))
    sys.stdout.write(f"{clean(report.record.model_key)} at {format_tokens(report.context_length)} tokens\n")
    shown = [row for row in rows if row[1] != "0 B"]  # most models have no projector and no recurrent state
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        sys.stdout.write(f"  {name:<{width}}  {value}\n")


def _estimate_json(report: EstimateReport) -> dict[str, Any]:
    parts, server = report.breakdown, report.server_estimate
    return {
        "model_key": report.record.model_key,
        "context_length": report.context_length,
        **json_form(parts, without=("approximate",)),
        "total_bytes": parts.total_bytes,
        "kv_bytes_per_token": report.kv_bytes_per_token,
        "budget_bytes": report.budget_bytes,
        "fits": report.fits,
        "predicted_limit": report.predicted_limit,
        "approximate": parts.approximate,
        "server": report.server_name,
        "server_total_bytes": server.total_bytes if server else None,
        "server_passes_guardrails": server.passes_guardrails if server else None,
    }


def show_saved(console: Console, saved: Sequence[SavedDefaults], *, dry_run: bool, restore: bool) -> None:
    """What `save` changed, or would change, in each model's defaults."""
    if console.json:
        models = [_saved_json(item) for item in saved]
        console.result("save", {"models": models, "dry_run": dry_run, "restored": restore})
        return
    for item in saved:
        if item.change is None:
            continue  # the command fails with it
        name = clean(item.record.model_key)
        if restore:
            sys.stdout.write(f"{name}: {'would put back' if dry_run else 'put back'} {item.change.file}\n")
        else:
            up_to = up_to_words(item.result) if item.result is not None else None
            sys.stdout.write(f"{name}: {_differences(item.change) or 'already so'}{f' ({up_to})' if up_to else ''}\n")
    if not saved:
        console.note("nothing to put back" if restore else "no tested context to write: lmstrix test --all finds some")
    elif dry_run:
        console.note("nothing was written (--dry-run)")


def _differences(change: DefaultsChange) -> str:
    return ", ".join(
        f"{key}: {value_text(change.before.get(key))} -> {value_text(value)}"
        for key, value in change.after.items()
        if change.before.get(key) != value
    )


def _saved_json(item: SavedDefaults) -> dict[str, Any]:
    change = item.change
    return {
        "model_key": item.record.model_key,
        "file": str(change.file) if change else None,
        "before": dict(change.before) if change else None,
        "after": dict(change.after) if change else None,
        "ended_by": item.result.ended_by if item.result else None,
        "written": item.written,
        "problem": item.problem,
    }


def show_reset(console: Console, records: Sequence[ModelRecord]) -> None:
    """Whose results `reset` forgot."""
    if console.json:
        console.result("reset", {"models": [record.model_key for record in records]})
    for record in records:
        console.note(f"forgot the results of {record.model_key}")
    if not records:
        console.note("there were no results to forget")
