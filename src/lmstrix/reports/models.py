"""Models on the terminal: what a scan found, what the registry lists, what is loaded, predicted, saved and reset."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lmstrix.core.context.mlx_runtimes import ignored_words
from lmstrix.ground.context_lengths import keeps_asked
from lmstrix.ground.units import counted, format_bytes, format_seconds, format_tokens
from lmstrix.reports.json_form import json_form, value_text
from lmstrix.reports.results import up_to_words
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.registry.defaults import DefaultsChange, LoadedAsSaved, SavedDefaults
    from lmstrix.core.registry.listing import ScanReport
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import InstanceMemory, LoadedModel
    from lmstrix.reports.console import Console

_ON_GPU = Column(title="ON GPU", right=True, drop=6)
_LOADED_COLUMNS = (
    Column(title="INSTANCE", shrink=True, keep=18),
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="CONTEXT", right=True),
    Column(title="DECLARED", right=True, drop=4),
    Column(title="SIZE", right=True, drop=3),
    Column(title="MEMORY", right=True, drop=5),
    _ON_GPU,
    Column(title="STATUS", drop=1),
    Column(title="TTL", right=True, drop=2),
)
_NO_MODEL = (
    "no model yet: download one in LM Studio, or put a GGUF file into PUBLISHER/REPOSITORY of the models folder; "
    "lmstrix demo brings one along"
)
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
        "left out": report.problems,
        "reset": report.forgotten,
    }
    counts = [f"{len(found)} {word}" for word, found in found_by_word.items() if found]
    state = "" if report.written else " (registry unchanged)"
    sources, changed = " and ".join(report.sources), ", ".join(counts) or "no change"
    sys.stdout.write(f"{counted(report.models, 'model')} from {sources}: {changed}{state}\n")
    if not report.models:
        console.note(_NO_MODEL)


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


def show_loaded(
    console: Console,
    models: Sequence[LoadedModel],
    *,
    command: str,
    memory: Mapping[str, InstanceMemory] | None = None,
    loads: Mapping[str, LoadConfig] | None = None,
) -> None:
    """The loaded models, for `load` and `ps`: with their memory and their loads, by the names of their instances."""
    taken, how = memory or {}, loads or {}
    if console.json:
        found = [
            _loaded_json(model)
            | _memory_json(taken.get(model.instance_id))
            | _load_json(how.get(model.instance_id), taken.get(model.instance_id))
            for model in models
        ]
        console.result(command, {"models": found})
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
            _memory_text(taken.get(model.instance_id)),
            *([] if loads is None else [_on_gpu(how.get(model.instance_id), taken.get(model.instance_id))]),
            model.status or "",
            format_seconds(model.ttl_s) if model.ttl_s else "-",
        )
        for model in models
    ]
    told = [column for column in _LOADED_COLUMNS if loads is not None or column is not _ON_GPU]
    console.table(told, rows)
    if console.verbose:
        for model in models:
            console.note(f"{model.instance_id}: {_load_words(how.get(model.instance_id))}")


def show_unloaded(console: Console, models: Sequence[LoadedModel]) -> None:
    """What `unload` unloaded."""
    if console.json:
        console.result("unload", {"models": [_loaded_json(model) for model in models]})
    for model in models:
        console.note(f"unloaded {model.instance_id}")
    if not models:
        console.note("nothing was loaded")


def _memory_text(memory: InstanceMemory | None) -> str:
    return "-" if memory is None else format_bytes(memory.memory_bytes)


def _memory_json(memory: InstanceMemory | None) -> dict[str, Any]:
    return {} if memory is None else {"memory": json_form(memory, without=("gpu_layers", "all_layers"))}


def _on_gpu(load: LoadConfig | None, memory: InstanceMemory | None) -> str:
    """How much of a model is on graphics cards."""
    if memory is not None and memory.gpu_layers is not None and memory.all_layers is not None:
        return f"{memory.gpu_layers}/{memory.all_layers}"
    return "not told" if load is None or load.gpu_ratio is None else f"{load.gpu_ratio:.0%}"


def _load_json(load: LoadConfig | None, memory: InstanceMemory | None) -> dict[str, Any]:
    settings = {} if load is None else json_form(load)
    told = {"load": {name: value for name, value in settings.items() if value is not None}} if settings else {}
    if memory is None or memory.gpu_layers is None:
        return told
    return told | {"gpu_layers": memory.gpu_layers, "all_layers": memory.all_layers}


def _load_words(load: LoadConfig | None) -> str:
    if load is None:
        return "the server does not tell how it was loaded"
    flash = {None: None, True: "flash attention", False: "no flash attention"}[load.flash_attention]
    locked = {None: None, True: "weights locked in memory", False: None}[load.keep_in_memory]
    caches = {f"{name} cache {kind}" for name, kind in (("K", load.k_cache_type), ("V", load.v_cache_type)) if kind}
    words = [
        counted(load.parallel_slots, "slot"),
        None if load.eval_batch_size is None else f"batch of {load.eval_batch_size:,} tokens",
        None if load.threads is None else counted(load.threads, "thread"),
        *sorted(caches),
        flash,
        locked,
    ]
    return ", ".join(word for word in words if word)


def _loaded_json(model: LoadedModel) -> dict[str, Any]:
    # The reference is the server's own handle for one load: it means nothing in another process.
    return json_form(model, without=("instance_reference", "device"))


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
        ("kept free", format_bytes(report.headroom_bytes)),
        ("longest that fits", f"{format_tokens(report.predicted_limit)} tokens"),
    ]
    if parts.checkpoint_bytes:
        where = "in main memory, once prompts have been answered"
        rows.insert(-4, ("checkpoints", f"{format_bytes(parts.checkpoint_bytes)}  ({where})"))
    if server is not None:
        verdict = "lets it through" if server.passes_guardrails else "would refuse it"
        rows.append(("server says", f"{format_bytes(server.total_bytes)}  ({report.server_name} {verdict})"))
    sys.stdout.write(f"{clean(report.record.model_key)} at {format_tokens(report.context_length)} tokens\n")
    # Most models have no projector and no recurrent state, and most users keep nothing free.
    shown = [row for row in rows if row[1] != "0 B"]
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
        "headroom_bytes": report.headroom_bytes,
        "fits": report.fits,
        "predicted_limit": report.predicted_limit,
        "approximate": parts.approximate,
        "server": report.server_name,
        "server_total_bytes": server.total_bytes if server else None,
        "server_passes_guardrails": server.passes_guardrails if server else None,
    }


NOTHING_TO_SAVE = (
    "nothing to write: no context was measured on LM Studio on this machine (lmstrix test --all --server lmstudio does)"
)


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
        if item.loaded is not None:
            same = f"{item.record.model_key}: loads {item.loaded.saved_context_length:,} tokens, as saved"
            console.note(other_context(item) or same)
    if not saved:
        console.note("nothing to put back" if restore else NOTHING_TO_SAVE)
    elif dry_run:
        console.note("nothing was written (--dry-run)")


def other_context(item: SavedDefaults) -> str | None:
    """That a load after saving got another context than the saved one, or none; None where it got that, or was none."""
    loaded, name = item.loaded, item.record.model_key
    if loaded is None:
        return None
    if loaded.context_length is None:
        return f"{name}: does not load as saved: {loaded.problem}"
    if keeps_asked(loaded.saved_context_length, loaded.context_length):
        return None
    if item.record.is_mlx:
        words = ignored_words(loaded.saved_context_length, loaded.context_length, loaded.runtime, saved=True)
        return f"{name}: {words}"
    return f"{name}: saved {loaded.saved_context_length:,}, runs at {loaded.context_length:,}"


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
        "loaded": _checked_json(item.loaded) if item.loaded else None,
    }


def _checked_json(loaded: LoadedAsSaved) -> dict[str, Any]:
    runtime = json_form(loaded.runtime) if loaded.runtime else None
    return {**json_form(loaded, without=("runtime",)), "runtime": runtime}


def show_reset(console: Console, records: Sequence[ModelRecord]) -> None:
    """Whose results `reset` forgot."""
    if console.json:
        console.result("reset", {"models": [record.model_key for record in records]})
    for record in records:
        console.note(f"forgot the results of {record.model_key}")
    if not records:
        console.note("there were no results to forget")
