"""A benchmark report as one page that needs nothing else: no network, no script to be read, no trust in what it shows.

Three walls stand between a model's page and the reader. Text is escaped by the template; data lies in a script element
of type application/json, which no parser runs; a page is shown only inside `<iframe sandbox srcdoc>` with a policy of
its own as its first bytes, and inherits this page's policy besides, under which no script runs but ours (by its hash)
and nothing is fetched. Policies do not cover the connections that a browser makes ahead for links and frames, so these
elements are disarmed. A page that needs its scripts to be judged opens on demand in a viewer of its own, boxed again.

Traded away: animations in the gallery, and the end of answers longer than the preview. A script in the viewer can load
nothing and reach nothing of ours, but no policy keeps it from knocking at other machines (WebRTC, preconnect): that is
why it runs only when asked for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstrix.ground.units import format_bytes
from lmstrix.reports.bench import charts
from lmstrix.reports.bench.csv import SAMPLE_COLUMNS, sample_rows
from lmstrix.reports.bench.view import (
    DECODE,
    ENERGY,
    LOAD,
    METRICS,
    OUTPUT,
    PREFILL,
    TTFT,
    Artefact,
    BenchView,
    CellView,
    Metric,
    ModelView,
    duration,
    joules,
    three_figures,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import minijinja

    from lmstrix.core.benchmark.records import BenchReport

TEMPLATES = Path(__file__).parent / "templates"
PREVIEW_BYTES = 100 * 1024
EXCERPT_CHARS = 1200

_POLICY = {
    "default-src": "'none'",
    "style-src": "'unsafe-inline'",
    "img-src": "data:",
    "font-src": "data:",
    "frame-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
_STILL = '<meta http-equiv="Content-Security-Policy" content="{}"><meta name="referrer" content="no-referrer">'
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_REACHING = re.compile(r"<(?=(?:link|i?frame|fencedframe)[\s/>])", re.IGNORECASE)
"""Elements for which a browser connects before it asks any policy. A parser makes them of nothing but these letters."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with the words around it and the same figures as a table."""

    identifier: str
    title: str
    caption: str
    svg: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def policy(**directives: str) -> str:
    """A content security policy that fetches nothing; `script_src` and the like are added."""
    parts = _POLICY | {name.replace("_", "-"): value for name, value in directives.items()}
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def boxed(page: str, content_policy: str) -> str:
    """A model's page for `srcdoc`: with its policy as the first bytes, without links and frames, not too long."""
    data = page[:PREVIEW_BYTES].encode("utf-8", "replace")[:PREVIEW_BYTES]
    return _STILL.format(content_policy) + _REACHING.sub("<x-", data.decode("utf-8", "ignore").replace("\x00", ""))


def data_element(value: object) -> str:
    """JSON for a script element: no character in it means anything to HTML."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def render_page(report: BenchReport, *, files: bool = True) -> str:
    """The whole page. `files`: the folder around it has the raw files, which are then linked."""
    view = BenchView(report)
    script, style = _asset("bench.js"), _asset("bench.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _templates().render_template(
        "bench.html",
        policy=policy(script_src=f"'sha256-{digest}'"),
        script=script,
        style=style,
        files=files,
        report=report,
        title=_title(view),
        started=report.started_at.strftime("%Y-%m-%d %H:%M UTC"),
        highlights=_highlights(view),
        environment=_environment(view),
        models=[{"key": m.model_key, "facts": m.facts, "swatch": charts.swatch(m.slot)} for m in view.models],
        tiers=[f"{tier:,}" if tier else "prompt only" for tier in view.tiers],
        limits=_limits(view),
        columns=_columns(view),
        rows=[_row(view, cell) for cell in view.cells],
        charts=_charts(view),
        pareto=_pareto(view),
        gallery=[_card(artefact) for artefact in view.artefacts],
        remarks=[_remark(cell) for cell in view.cells if cell.marks or cell.result.reason],
        prompt=view.prompt,
        method=_method(view),
        notes=report.notes,
        data=data_element({"name": f"lmstrix-bench-{report.session}", **_samples(report)}),
    )
    return _printable(page)


def render_viewer(artefact: Artefact) -> str:
    """A page of its own that shows one model's page with its scripts, boxed."""
    content_policy = policy(script_src="'unsafe-inline'")
    page = _templates().render_template(
        "viewer.html",
        policy=content_policy,
        model_key=artefact.model_key,
        page=boxed(artefact.page or "", content_policy),
    )
    return _printable(page)


def _printable(page: str) -> str:
    """Text that UTF-8 can hold and that neither a terminal nor a reader is fooled by."""
    return _UNPRINTABLE.sub("\ufffd", page)


def write_pages(report: BenchReport, folder: Path) -> Path:
    """Write index.html, and for each answer its text and, where it is a page, its viewer. Returns the index."""
    view = BenchView(report)
    pages = folder / "pages"
    for artefact in view.artefacts:
        pages.mkdir(parents=True, exist_ok=True)
        (pages / f"{artefact.stem}.txt").write_text(artefact.answer, encoding="utf-8", errors="replace")
        if artefact.page is not None:
            (pages / f"{artefact.stem}.view.html").write_text(render_viewer(artefact), encoding="utf-8")
    index = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    index.write_text(render_page(report), encoding="utf-8")
    return index


@lru_cache(maxsize=1)
def _templates() -> minijinja.Environment:
    import minijinja

    return minijinja.Environment(
        loader=lambda name: (TEMPLATES / name).read_text(encoding="utf-8"),
        auto_escape_callback=lambda _name: "html",
        undefined_behavior="strict",
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _samples(report: BenchReport) -> dict[str, Any]:
    """Every run by columns, in six figures: what the page hands out by itself."""
    rows = sample_rows(report)
    return {
        "columns": list(SAMPLE_COLUMNS),
        "rows": [[_six_figures(row.get(name)) for name in SAMPLE_COLUMNS] for row in rows],
    }


def _six_figures(value: str | float | None) -> str | float | None:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _title(view: BenchView) -> str:
    if len(view.models) == 1:
        return f"Benchmark of {view.models[0].model_key}"
    return f"Benchmark of {len(view.models)} models"


def _highlights(view: BenchView) -> list[dict[str, str]]:
    """Who leads in what, while there is somebody to lead over."""
    found = []
    for metric, title in (
        (DECODE, "Fastest decode"),
        (PREFILL, "Fastest prefill"),
        (TTFT, "Quickest first token"),
        (ENERGY, "Least energy a token"),
    ):
        ranked = [(model, figure) for model in view.models if (figure := model.best(metric)) is not None]
        if ranked:
            choose = max if metric.more_is_better else min
            model, figure = choose(ranked, key=lambda pair: pair[1].summary.median)
            unit = " t/s" if metric in (DECODE, PREFILL) else ""
            found.append(
                {"title": title, "figure": figure.text + unit, "who": model.model_key, "detail": figure.spread}
            )
    tested = [model for model in view.models if model.target.tested_context_length]
    if tested:
        model = max(tested, key=lambda m: m.target.tested_context_length or 0)
        tokens = f"{model.target.tested_context_length:,}"
        found.append({"title": "Longest tested context", "figure": tokens, "who": model.model_key, "detail": "tokens"})
    return found


def _environment(view: BenchView) -> list[tuple[str, str]]:
    report, request = view.report, view.report.request
    bandwidth = report.memory_bandwidth_bytes_per_s
    load = request.load
    facts = [
        ("Machine", report.host or ""),
        ("Server", " ".join(part for part in (report.server, report.server_version) if part)),
        ("Session", report.session),
        ("Memory bandwidth", f"{bandwidth / 1e9:,.1f} GB/s measured" if bandwidth else ""),
        ("Power source", report.power if report.power_sources else "none: energy was not measured"),
        ("Task", f"{request.task}, up to {request.max_tokens:,} tokens"),
        ("Runs", f"up to {request.runs} a cell after a warm-up, temperature {request.temperature:g}"),
        ("Requests at a time", ", ".join(map(str, view.concurrencies))),
        ("Cache types", "/".join(t for t in (load.k_cache_type, load.v_cache_type) if t)),
        ("Flash attention", {None: "", True: "on", False: "off"}[load.flash_attention]),
        ("GPU share", f"{load.gpu_ratio:.0%}" if load.gpu_ratio is not None else ""),
        ("Time budget", duration(request.budget_s) if request.budget_s is not None else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _limits(view: BenchView) -> list[dict[str, Any]]:
    """The matrix: what every model did at every tier, shaded by decode speed."""
    speeds = {id(cell): figure.summary.median for cell in view.cells if (figure := cell.figure(DECODE))}
    top = max(speeds.values(), default=1.0)
    lowest = view.concurrencies[0]
    rows = []
    for model in view.models:
        by_tier = {c.result.cell.tier_tokens: c for c in model.cells if c.result.cell.concurrency == lowest}
        cells = []
        for tier in view.tiers:
            cell = by_tier.get(tier)
            speed = speeds.get(id(cell))
            cells.append(
                {
                    "state": "measured" if speed else cell.state if cell else "open",
                    "text": _limit_text(cell, speed),
                    "title": cell.state_text if cell else "not planned",
                    "heat": round(100 * (speed / top) ** 0.5) if speed else 0,
                }
            )
        target = model.target
        rows.append(
            {
                "key": model.model_key,
                "swatch": charts.swatch(model.slot),
                "size": format_bytes(target.size_bytes) if target.size_bytes else "-",
                "declared": _tokens(target.max_context_length),
                "tested": _tokens(target.tested_context_length),
                "share": _share(target.tested_context_length, target.max_context_length),
                "cells": cells,
            }
        )
    return rows


def _tokens(tokens: int | None) -> str:
    return f"{tokens:,}" if tokens else ""


def _share(tested: int | None, declared: int | None) -> int | None:
    """Percent of the declared context that works."""
    return round(100 * min(1.0, tested / declared)) if tested and declared else None


def _limit_text(cell: CellView | None, speed: float | None) -> str:
    if speed is not None:
        return three_figures(speed)
    if cell is None:
        return "-"
    over = cell.state == "skipped" and "limit" in cell.result.reason
    return "over limit" if over else {"measured": "ok", "open": "open"}.get(cell.state, cell.state)


def _columns(view: BenchView) -> list[str]:
    several = ["At a time", OUTPUT.title] if len(view.concurrencies) > 1 else []
    metrics = [metric.title for metric in METRICS if metric is not ENERGY or view.measures_energy]
    return ["Model", "Context", *several, *metrics, "Memory", "Runs", "Outcome"]


def _row(view: BenchView, cell: CellView) -> dict[str, Any]:
    """One line of the table of results: texts, tooltips, and values to sort by."""
    result = cell.result
    cells: list[dict[str, Any]] = [{"text": cell.tier, "value": result.cell.tier_tokens, "title": ""}]
    metrics = [metric for metric in METRICS if metric is not ENERGY or view.measures_energy]
    if len(view.concurrencies) > 1:
        cells.append({"text": str(result.cell.concurrency), "value": result.cell.concurrency, "title": ""})
        metrics.insert(0, OUTPUT)
    for metric in metrics:
        figure = cell.figure(metric)
        cells.append(
            {"text": figure.text, "value": figure.summary.median, "title": figure.spread}
            if figure is not None
            else {"text": "-", "value": "", "title": "not measured"}
        )
    memory = cell.memory
    cells.append({"text": memory.text if memory else "-", "value": memory.peak_bytes if memory else "", "title": ""})
    worked = sum(not run.failed for run in result.runs)
    cells.append({"text": str(worked) if worked else "-", "value": worked, "title": ""})
    return {
        "key": cell.model_key,
        "swatch": charts.swatch(cell.slot),
        "cells": cells,
        "state": cell.state,
        "outcome": result.outcome,
        "remark": cell.state_text or "; ".join(cell.marks),
        "doubtful": bool(cell.marks),
    }


def _remark(cell: CellView) -> dict[str, str]:
    """Why a cell has no figures, or doubtful ones."""
    at_a_time = cell.result.cell.concurrency
    several = f", {at_a_time} at a time" if at_a_time > 1 else ""
    text = "; ".join(part for part in (cell.result.reason, *cell.marks) if part)
    return {"key": cell.model_key, "tier": cell.tier + several, "text": text, "state": cell.state}


def _spot(cell: CellView, metric: Metric) -> charts.Spot | None:
    figure = cell.figure(metric)
    if figure is None:
        return None
    interval = figure.summary.interval
    return charts.Spot(
        x=cell.length_tokens,
        median=figure.summary.median,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        values=figure.values,
        label=f"{cell.tier}: {figure.text} ({figure.spread})",
    )


def _lines(view: BenchView, metric: Metric) -> list[charts.Line]:
    """One line a model, at the fewest requests at a time."""
    lowest = view.concurrencies[0]
    lines = []
    for model in view.models:
        spots = [_spot(cell, metric) for cell in model.cells if cell.result.cell.concurrency == lowest]
        lines.append(charts.Line(name=model.model_key, slot=model.slot, spots=tuple(s for s in spots if s is not None)))
    return lines


def _over_context(view: BenchView, metric: Metric, title: str, caption: str, write: Callable[[float], str]) -> Chart:
    identifier = metric.name.split("_")[0]
    lines = _lines(view, metric)
    lengths = {spot.x for line in lines for spot in line.spots}
    described = f"{title}: median, 95 % interval and every run of {len(lines)} models"
    if len(lengths) > 1:
        svg = charts.line_chart(lines, identifier=identifier, title=title, description=described, y_format=write)
    else:
        svg = charts.dot_chart(
            lines, identifier=identifier, title=title, description=described, x_format=write, write=metric.write
        )
    rows = [
        (cell.model_key, cell.tier, figure.text, figure.spread)
        for cell in view.cells
        if (figure := cell.figure(metric)) is not None
    ]
    return Chart(identifier, title, caption, svg, ("Model", "Context", metric.title, "Interval"), tuple(rows))


def _charts(view: BenchView) -> list[Chart]:
    found = [
        _over_context(view, DECODE, "Decode speed", "tokens per second, more is better", charts.short_number),
        _over_context(view, PREFILL, "Prefill speed", "prompt tokens per second, more is better", charts.short_number),
        _over_context(view, TTFT, "Time to first token", "from sending, less is better", _short_duration),
    ]
    if len(view.concurrencies) > 1:
        found.append(_throughput(view))
    found += [_memory(view), _load(view), _energy(view)]
    return [chart for chart in found if chart.svg]


def _throughput(view: BenchView) -> Chart:
    """Output of all requests together, over how many there are, at the shortest length."""
    tier = view.tiers[0]
    lines, rows = [], []
    for model in view.models:
        spots = []
        for cell in model.cells:
            figure = cell.figure(OUTPUT)
            if cell.result.cell.tier_tokens == tier and figure is not None:
                at_a_time = cell.result.cell.concurrency
                interval = figure.summary.interval
                spots.append(
                    charts.Spot(
                        x=at_a_time,
                        median=figure.summary.median,
                        low=interval.low if interval else None,
                        high=interval.high if interval else None,
                        values=figure.values,
                        label=f"{at_a_time} at a time: {figure.text} t/s ({figure.spread})",
                    )
                )
                rows.append((model.model_key, str(at_a_time), figure.text, figure.spread))
        lines.append(charts.Line(name=model.model_key, slot=model.slot, spots=tuple(spots)))
    title = "Throughput"
    svg = charts.line_chart(
        lines,
        identifier="throughput",
        title=title,
        description="Output tokens per second of all requests together, over requests at a time",
        x_title="requests at a time",
    )
    caption = "output tokens per second of all requests together"
    return Chart("throughput", title, caption, svg, ("Model", "At a time", OUTPUT.title, "Interval"), tuple(rows))


def _memory(view: BenchView) -> Chart:
    """Memory over the state before the load: after it, and at the most."""
    bars, rows = [], []
    seen = [(model, memory) for model in view.models if (memory := model.memory) is not None]
    for model, memory in seen:
        more = memory.peak_bytes - memory.loaded_bytes
        parts = [
            (0, float(memory.loaded_bytes), f"{format_bytes(memory.loaded_bytes)} after the load"),
            (1, float(more), f"{format_bytes(more)} more while generating"),
            (2, float(memory.gpu_bytes), f"{format_bytes(memory.gpu_bytes)} on the GPU"),
        ]
        shown = tuple(part for part in parts if part[1] > 0)
        bars.append(charts.Bar(name=model.model_key, slot=model.slot, parts=shown, label=memory.text))
        rows.append((model.model_key, format_bytes(memory.loaded_bytes), memory.text))
    title = "Memory"
    whose = "the engine's processes" if all(memory.of_engine for _, memory in seen) else "the whole system"
    svg = charts.bar_chart(
        bars, identifier="memory", title=title, description=f"Resident memory of {whose}, after load and at most"
    )
    caption = f"of {whose}, above the state before the load: solid after it, lighter the most while generating"
    return Chart("memory", title, caption, svg, ("Model", "After load", "Most"), tuple(rows))


def _load(view: BenchView) -> Chart:
    """Load time, cold and warm told apart where the file cache was seen."""
    bars, rows = [], []
    for model in view.models:
        loads = [load for cell in model.cells for load in cell.result.loads if load.load_s is not None]
        figure = model.best(LOAD)
        if figure is None or not loads:
            continue
        first = next((load for load in loads if load.file_cache == "cold"), loads[0])
        kind = f" ({first.file_cache})" if first.file_cache else ""
        fastest = min(load.load_s for load in loads if load.load_s is not None)
        slowest = max(load.load_s for load in loads if load.load_s is not None)
        parts = [(0, fastest, f"fastest {duration(fastest)}")]
        if slowest > fastest:
            parts.append((1, slowest - fastest, f"slowest {duration(slowest)}"))
        label = duration(fastest) if slowest == fastest else f"{duration(fastest)} to {duration(slowest)}"
        bars.append(charts.Bar(name=model.model_key, slot=model.slot, parts=tuple(parts), label=label))
        rows.append((model.model_key, str(len(loads)), duration(first.load_s or 0.0) + kind, label))
    title = "Load time"
    svg = charts.bar_chart(bars, identifier="load", title=title, description="Fastest and slowest load of every model")
    caption = "solid the fastest load, lighter up to the slowest"
    return Chart("load", title, caption, svg, ("Model", "Loads", "First", "Range"), tuple(rows))


def _energy(view: BenchView) -> Chart:
    """Joules of a run's two phases, above idle, at the longest length every model shares or the first it has."""
    bars, rows = [], []
    for model in view.models:
        cell = next((cell for cell in model.cells if cell.figure(ENERGY) is not None), None)
        if cell is None:
            continue
        figure = cell.figure(ENERGY)
        assert figure is not None
        summaries = cell.result.summaries
        prefill, decode = summaries.get("prefill_net_j"), summaries.get("decode_net_j")
        parts = [
            (weight, summary.median, f"{joules(summary.median)} {phase}")
            for weight, summary, phase in ((0, prefill, "prefill"), (1, decode, "decode"))
            if summary is not None and summary.median > 0
        ]
        if not parts and (net := summaries.get("net_j")) is not None:
            parts = [(0, max(net.median, 0.0), f"{joules(net.median)} in all")]
        bars.append(charts.Bar(name=model.model_key, slot=model.slot, parts=tuple(parts), label=f"{figure.text}/token"))
        rows.append((model.model_key, cell.tier, ", ".join(part[2] for part in parts), figure.text, figure.spread))
    title = "Energy of one answer"
    svg = charts.bar_chart(
        bars, identifier="energy", title=title, description="Joules above idle of prefill and decode, by model"
    )
    caption = f"above idle, measured by {view.report.power}: solid prefill, lighter decode"
    return Chart("energy", title, caption, svg, ("Model", "Context", "Phases", "J / token", "Interval"), tuple(rows))


def _pareto(view: BenchView) -> list[Chart]:
    """Decode speed against what it costs: memory, energy, and how long a context it leaves."""
    if len(view.models) < 2:
        return []
    measures: Sequence[tuple[str, str, str, bool, Callable[[ModelView], float | None], Callable[[float], str]]] = (
        ("memory", "Speed and memory", "most memory, less is better", False, _peak, _short_gib),
        ("energy", "Speed and energy", "joules a token above idle, less is better", False, _joules, _short_joules),
        ("context", "Speed and context", "tested context, more is better", True, _tested, charts.short_tokens),
    )
    found = []
    for name, title, caption, more, value_of, write in measures:
        dots, rows = [], []
        for model in view.models:
            speed, value = model.best(DECODE), value_of(model)
            if speed is None or value is None or value <= 0:
                continue
            label = f"{speed.text} t/s, {write(value)}"
            dots.append(charts.Dot(name=model.model_key, slot=model.slot, x=speed.summary.median, y=value, label=label))
            rows.append((model.model_key, speed.text, write(value)))
        if len(dots) > 1:
            svg = charts.scatter_chart(
                dots,
                identifier=f"pareto-{name}",
                title=title,
                description=f"Decode speed against {caption}; the line joins models none other beats in both",
                x_title="decode, tokens/s",
                y_format=write,
                more_y_is_better=more,
            )
            head = ("Model", DECODE.title, caption.partition(",")[0].capitalize())
            found.append(Chart(f"pareto-{name}", title, caption, svg, head, tuple(rows)))
    return found


def _peak(model: ModelView) -> float | None:
    return (model.memory.peak_bytes + model.memory.gpu_bytes) / 2**30 if model.memory is not None else None


def _joules(model: ModelView) -> float | None:
    figure = model.best(ENERGY)
    return figure.summary.median if figure is not None else None


def _tested(model: ModelView) -> float | None:
    return model.target.tested_context_length


def _short_duration(seconds: float) -> str:
    if seconds == 0:
        return "0"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _short_gib(value: float) -> str:
    return f"{value:.3g} GiB" if value else "0"


def _short_joules(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value * 1e3:.3g} mJ" if value < 0.1 else f"{value:.3g} J"


def _card(artefact: Artefact) -> dict[str, Any]:
    """One place in the gallery."""
    page = artefact.page
    return {
        "key": artefact.model_key,
        "swatch": charts.swatch(artefact.slot),
        "facts": artefact.facts,
        "stem": artefact.stem,
        "page": boxed(page, policy(script_src="'none'")) if page is not None else None,
        "excerpt": None if page is not None else artefact.answer[:EXCERPT_CHARS],
        "cut": artefact.cut or (page is None and len(artefact.answer) > EXCERPT_CHARS),
    }


def _method(view: BenchView) -> list[tuple[str, str]]:
    """The formulas, and how far to trust them."""
    request = view.report.request
    return [
        ("Time to first token", "first generated token of any kind, reasoning included, minus sending"),
        ("Prefill speed", "prompt tokens not cached / (time to first token minus the idle latency of one token)"),
        ("Decode speed", "(output tokens minus those of the first piece) / (last token minus first token)"),
        ("Whole answer", "end of the stream minus sending"),
        ("Energy", "joules above the idle power measured before and after, split at the first token"),
        ("Figures", "medians; intervals are order statistics of at least 95 %, from six runs on; nothing is dropped"),
        ("Token counts", "the server's own, never the number of pieces"),
        ("Order", f"cells interleaved forth and back; at most {request.runs} runs each, after one warm-up"),
        ("Prompt cache", f"every prompt opens with a nonce; {view.cached}"),
        ("Not measured", "is shown as -, and never counted as zero"),
    ]
