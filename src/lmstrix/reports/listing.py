"""What `list` shows of the registry: a table of chosen columns, names, paths, CSV, YAML, JSON, or a summary."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from lmstrix.ground.choices import ListColumn
from lmstrix.ground.units import counted, format_bytes, format_tokens
from lmstrix.reports.json_form import yaml_fields
from lmstrix.reports.recalled import recalled_text
from lmstrix.reports.results import ended_cell, note_others, result_json, show_results
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.registry.listing import Listing
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import ContextResult
    from lmstrix.reports.console import Console


class _Cells(NamedTuple):
    """A column, and what stands in it for a model and its result that counts."""

    column: Column
    text: Callable[[ModelRecord, ContextResult | None], str]


def show_listing(
    console: Console,
    listing: Listing,
    *,
    show: str,
    columns: Sequence[ListColumn] = (),
    header: bool = True,
    max_width: int | None = None,
) -> None:
    """The registry as `show` says: a table (of these columns, where some are named), keys, paths, CSV, YAML or JSON."""
    records = listing.records
    if console.json or show == "json":
        console.result("list", {"models": [record_json(record) for record in records]})
    elif show in ("id", "path"):
        lines = (record.model_key if show == "id" else record.path for record in records)
        sys.stdout.write("".join(f"{clean(line)}\n" for line in lines))
    elif show == "csv":
        _write_csv(console, records, columns)
    elif show == "yaml":
        _write_yaml(console, [record_json(record) for record in records])
    elif not listing.total:
        console.note("no models yet: lmstrix scan finds them; lmstrix demo needs none")
    elif not records:
        console.note(f"none of {counted(listing.total, 'model')} matches")
    elif show == "summary":
        _show_summary(console, listing)
    else:
        chosen = [_COLUMNS[name] for name in columns or _DEFAULT]
        rows = [[cells.text(record, best) for cells in chosen] for record, best in _with_results(records)]
        console.table([cells.column for cells in chosen], rows, header=header, max_width=max_width)
        if console.verbose:
            show_results(console, records)
            _show_recall_curves(console, records)
        else:
            note_others(console, records, listing.place)


def _with_results(records: Sequence[ModelRecord]) -> list[tuple[ModelRecord, ContextResult | None]]:
    return [(record, record.best_result) for record in records]


def _show_summary(console: Console, listing: Listing) -> None:
    """How many models there are, of what kinds, how far they are tested, and what they take."""
    records = listing.records
    llms = [record for record in records if record.kind == "llm"]
    states = [_status(record, best) for record, best in _with_results(records)]
    ratios = sorted(record.effectiveness_ratio for record in llms if record.effectiveness_ratio is not None)
    ended = [ended_cell(best) for _, best in _with_results(llms) if best is not None and best.ended_by]
    lines = [
        f"models     {len(records):,}" + (f" of {listing.total:,}" if len(records) < listing.total else ""),
        f"size       {format_bytes(sum(record.all_bytes for record in records))}",
        f"types      {_tally([record.kind for record in records])}",
        f"formats    {_tally([record.format for record in records])}",
        f"status     {_tally(states)}",
    ]
    if ended:
        lines.append(f"ended by   {_tally(ended)}")
    if ratios:
        middle = ratios[len(ratios) // 2]
        lines.append(f"tested     {middle:.0%} of the declared context at the median, {ratios[0]:.0%} at worst")
    console.text("\n".join(clean(line) for line in lines) + "\n")


def _tally(words: Sequence[str]) -> str:
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    return ", ".join(f"{count:,} {word}" for word, count in sorted(counts.items(), key=lambda item: -item[1]))


def _write_csv(console: Console, records: Sequence[ModelRecord], columns: Sequence[ListColumn]) -> None:
    """One line per model: all fields of the JSON form that fit a cell, or those behind the columns named."""
    rows = [record_json(record) for record in records]
    # The fields are those of the first row; without one there is nothing to name them by.
    if not rows:
        return
    import csv
    import io

    fields = [name for name in rows[0] if name not in _LISTS]
    if columns:
        fields = [field for column in columns for field in _FIELDS[column]]
        rows = [row | _more_fields(record) for row, record in zip(rows, records, strict=True)]
    shown = io.StringIO()
    writer = csv.DictWriter(shown, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # Names are a stranger's text: exact for a program, harmless for a terminal.
    console.text(shown.getvalue())


def _more_fields(record: ModelRecord) -> dict[str, Any]:
    """What columns show beside the JSON form, or in one cell."""
    return {
        "display_name": record.display_name,
        "publisher": record.publisher,
        "effectiveness_ratio": record.effectiveness_ratio,
        "tags": " ".join(record.tags),
    }


def _write_yaml(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """A list of mappings."""
    lines = []
    for row in rows:
        lines += [f"{'- ' if not place else '  '}{field}" for place, field in enumerate(yaml_fields(row))]
    console.text("\n".join(lines or ["[]"]) + "\n")


def _show_recall_curves(console: Console, records: Sequence[ModelRecord]) -> None:
    from lmstrix.reports.tests import recall_chart  # imports the tester's verdicts, which a plain list does not need

    unicode = "utf" in (sys.stdout.encoding or "").lower()
    for record in records:
        for result in record.results:
            if len(result.recall_curve) > 1:
                chart = recall_chart(result.recall_curve, unicode=unicode)
                console.indented(f"{clean(record.model_key)} ({clean(result.configuration.key)})  ", chart)


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
        "prefill_tokens_per_second": best.prefill_tokens_per_second if best else None,
        "decode_tokens_per_second": best.decode_tokens_per_second if best else None,
        "engine": best.provenance.engine if best and best.provenance else None,
        "host": best.provenance.host if best and best.provenance else None,
        "vision": record.vision,
        "trained_for_tool_use": record.trained_for_tool_use,
        "tags": list(record.tags),
        "recall_curve": [list(point) for point in best.recall_curve] if best else [],
        "configuration": best.configuration.key if best else None,
        "results": [result_json(result) for result in record.results],
    }


def _status(record: ModelRecord, best: ContextResult | None) -> str:
    """How things stand with a model; one that loads and answers nonsense is not simply "completed"."""
    if record.is_missing:
        return "missing"
    if record.kind == "embedding":
        return "embedding"
    nonsense = best is not None and best.outcome in ("garbage answer", "empty answer")
    return best.outcome if best is not None and nonsense and record.test_status == "completed" else record.test_status


def _abilities(record: ModelRecord) -> str:
    able = [("embed", record.kind == "embedding"), ("vision", record.vision), ("tools", record.trained_for_tool_use)]
    return ", ".join(word for word, can in able if can) or "-"


def _where(best: ContextResult | None) -> str:
    if best is None or best.provenance is None:
        return "-"
    return " on ".join(part for part in (best.provenance.engine, best.provenance.host) if part) or "-"


def _rate(tokens_per_second: float | None) -> str:
    if tokens_per_second is None:
        return "-"
    return f"{tokens_per_second:,.0f}/s" if tokens_per_second >= 100 else f"{tokens_per_second:.1f}/s"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.0%}"


_LISTS = ("recall_curve", "effective_range", "tags", "results")  # which fit no cell of a CSV file
_FIELDS: dict[ListColumn, tuple[str, ...]] = {
    "model": ("model_key",),
    "size": ("size_bytes",),
    "declared": ("max_context_length",),
    "tested": ("tested_context_length",),
    "loads": ("loadable_context_length",),
    "recalls": ("effective_context_length",),
    "ended-by": ("ended_by",),
    "status": ("status",),
    "tested-on": ("tested_at",),
    "name": ("display_name",),
    "path": ("path",),
    "type": ("kind",),
    "quant": ("quantization",),
    "params": ("params",),
    "arch": ("architecture",),
    "publisher": ("publisher",),
    "can": ("vision", "trained_for_tool_use"),
    "eff": ("effectiveness_ratio",),
    "prefill": ("prefill_tokens_per_second",),
    "decode": ("decode_tokens_per_second",),
    "where": ("engine", "host"),
    "tags": ("tags",),
}
"""What a column of the table is in a CSV file, where sizes are bytes and numbers have no commas."""
_COLUMNS: dict[ListColumn, _Cells] = {
    "model": _Cells(Column(title="MODEL", shrink=True, keep=18), lambda record, _: record.model_key),
    "size": _Cells(
        Column(title="SIZE", right=True, drop=4),
        lambda record, _: format_bytes(record.all_bytes) if record.all_bytes else "-",
    ),
    "declared": _Cells(
        Column(title="DECLARED", right=True, drop=1), lambda record, _: format_tokens(record.max_context_length)
    ),
    "tested": _Cells(Column(title="TESTED", right=True), lambda record, _: format_tokens(record.tested_context_length)),
    "loads": _Cells(
        Column(title="LOADS", right=True, drop=2),
        lambda _, best: format_tokens(best.loadable_context_length if best else None),
    ),
    "recalls": _Cells(
        Column(title="RECALLS", right=True, drop=3), lambda _, best: recalled_text(best) if best else "-"
    ),
    "ended-by": _Cells(Column(title="ENDED BY", drop=6), lambda _, best: ended_cell(best)),
    "status": _Cells(Column(title="STATUS"), _status),
    "tested-on": _Cells(
        Column(title="TESTED ON", drop=5),
        lambda record, _: record.tested_at.date().isoformat() if record.tested_at else "-",
    ),
    "name": _Cells(Column(title="NAME", shrink=True, keep=12, drop=3), lambda record, _: record.display_name),
    "path": _Cells(Column(title="PATH", shrink=True, keep=18, drop=3), lambda record, _: record.path),
    "type": _Cells(Column(title="TYPE", drop=5), lambda record, _: record.kind),
    "quant": _Cells(Column(title="QUANT", drop=4), lambda record, _: record.quantization or "-"),
    "params": _Cells(Column(title="PARAMS", right=True, drop=4), lambda record, _: record.params or "-"),
    "arch": _Cells(Column(title="ARCH", drop=5), lambda record, _: record.architecture or "-"),
    "publisher": _Cells(Column(title="PUBLISHER", drop=5), lambda record, _: record.publisher or "-"),
    "can": _Cells(Column(title="CAN", drop=4), lambda record, _: _abilities(record)),
    "eff": _Cells(Column(title="EFF", right=True, drop=3), lambda record, _: _percent(record.effectiveness_ratio)),
    "prefill": _Cells(
        Column(title="PREFILL", right=True, drop=4),
        lambda _, best: _rate(best.prefill_tokens_per_second if best else None),
    ),
    "decode": _Cells(
        Column(title="DECODE", right=True, drop=4),
        lambda _, best: _rate(best.decode_tokens_per_second if best else None),
    ),
    "where": _Cells(Column(title="WHERE", shrink=True, keep=10, drop=5), lambda _, best: _where(best)),
    "tags": _Cells(Column(title="TAGS", shrink=True, keep=8, drop=4), lambda record, _: ", ".join(record.tags) or "-"),
}
_DEFAULT: tuple[ListColumn, ...] = get_args(ListColumn)[:9]
