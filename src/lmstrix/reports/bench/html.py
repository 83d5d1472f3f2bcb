"""A benchmark report as one page that needs nothing else: no network, no script to be read, no trust in what it shows.

A model's page is shown only inside the frame that `sandbox` makes for it. A page that needs its scripts to be judged
opens on demand in a viewer of its own, in such a frame again.

Traded away: animations in the gallery, and the end of answers longer than the preview. A script in the viewer can load
nothing and reach nothing of ours, but no policy keeps it from contacting other machines (WebRTC, preconnect): that is
why it runs only when asked for.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstrix.core.benchmark.against import compare_sides
from lmstrix.core.benchmark.suspicion import LIMITS as SUSPICION
from lmstrix.reports.bench import charts
from lmstrix.reports.bench.clocks import ABOUT, NO_CLOCK, clock_rows
from lmstrix.reports.bench.clocks import COLUMNS as CLOCK_COLUMNS
from lmstrix.reports.bench.comparison import comparison_columns, comparison_row, is_shown
from lmstrix.reports.bench.csv import SAMPLE_COLUMNS, sample_rows
from lmstrix.reports.bench.facts import place_facts
from lmstrix.reports.bench.page_charts import charts_of, pareto_of
from lmstrix.reports.bench.page_tables import clock_row, limit_rows, remark, result_columns, result_row
from lmstrix.reports.bench.sandbox import boxed, data_element, policy, printable
from lmstrix.reports.bench.view import DECODE, ENERGY, PREFILL, TTFT, Artefact, BenchView, duration

if TYPE_CHECKING:
    import minijinja

    from lmstrix.core.benchmark.records import BenchReport

TEMPLATES = Path(__file__).parent / "templates"
EXCERPT_CHARS = 1200


def render_page(report: BenchReport, *, files: bool = True) -> str:
    """The whole page. `files`: the folder around it has the raw files, which are then linked."""
    view = BenchView(report)
    script, style = _asset("bench.js"), _asset("bench.css")
    # The policy lets run only the script of this hash, so no text of a model that slips through becomes one.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page_templates().render_template(
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
        limits=limit_rows(view),
        columns=result_columns(view),
        rows=[result_row(view, cell) for cell in view.cells],
        comparison=_comparison(report),
        clock_columns=[name for name in CLOCK_COLUMNS if name != "At a time" or len(view.concurrencies) > 1],
        clocks=[clock_row(view, row) for row in clock_rows(view)],
        clock_about=ABOUT,
        no_clock=NO_CLOCK,
        charts=charts_of(view),
        pareto=pareto_of(view),
        gallery=[_card(artefact) for artefact in view.artefacts],
        remarks=[remark(cell) for cell in view.cells if cell.marks or cell.result.reason],
        prompt=view.prompt,
        method=_method(view),
        notes=report.notes,
        data=data_element({"name": f"lmstrix-bench-{report.session}", **_samples(report)}),
    )
    return printable(page)


def render_viewer(artefact: Artefact) -> str:
    """A page of its own that shows one model's page with its scripts, boxed."""
    content_policy = policy(script_src="'unsafe-inline'")
    page = page_templates().render_template(
        "viewer.html",
        policy=content_policy,
        model_key=artefact.model_key,
        page=boxed(artefact.page or "", content_policy),
    )
    return printable(page)


def write_pages(report: BenchReport, folder: Path) -> Path:
    """Write index.html, and for each answer its text and, where it is a page, its viewer. Returns the index."""
    view = BenchView(report)
    # Answers as text beside the page: the gallery shows only their beginning.
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
def page_templates() -> minijinja.Environment:
    """The templates of pages; they escape what they are given."""
    import minijinja

    return minijinja.Environment(
        loader=lambda name: (TEMPLATES / name).read_text(encoding="utf-8"),
        auto_escape_callback=lambda _name: "html",
        # A name mistyped in a template fails in the tests instead of leaving a hole in the page.
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
    # More digits than clocks have would double the size of a page that may hold thousands of runs.
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _comparison(report: BenchReport) -> dict[str, Any] | None:
    """The two sides against each other; None where there is one."""
    if report.request.against is None:
        return None
    found = compare_sides(report)
    rows = [{"cells": comparison_row(one), "verdict": one.verdict} for one in found.comparisons if is_shown(one)]
    return {"columns": comparison_columns(found), "rows": rows, "notes": found.notes}


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
        # Each model with its best cell: a fast model is not punished for also being measured at long contexts.
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
    load = request.load
    facts = [
        *place_facts(report),
        ("Session", report.session),
        ("Power source", report.power if report.power_sources else "none: energy was not measured"),
        ("Task", f"{request.task}, up to {request.max_tokens:,} tokens"),
        ("Runs", f"up to {request.runs} a cell after a warm-up, temperature {request.temperature:g}"),
        ("Requests at a time", ", ".join(map(str, view.concurrencies))),
        ("Cache types", "/".join(t for t in (load.k_cache_type, load.v_cache_type) if t)),
        ("Flash attention", {None: "", True: "on", False: "off"}[load.flash_attention]),
        ("GPU share", f"{load.gpu_ratio:.0%}" if load.gpu_ratio is not None else ""),
        ("Batch", f"{load.eval_batch_size:,} tokens" if load.eval_batch_size is not None else ""),
        ("Threads", str(load.threads or "")),
        ("Weights locked in memory", {None: "", True: "yes", False: "no"}[load.keep_in_memory]),
        ("Time budget", duration(request.budget_s) if request.budget_s is not None else ""),
    ]
    return [(name, value) for name, value in facts if value]


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
        # Said on the page: an answer that ends in the middle would else look like the model's fault.
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
        (
            "Server's own clock",
            "its time to the first token and rates stand beside ours; where they differ it is marked",
        ),
        ("Busy machine", f"marked where others keep more than {SUSPICION.others_cores:g} processor cores busy"),
        ("Token counts", "the server's own, never the number of pieces"),
        ("Order", f"cells interleaved forth and back; at most {request.runs} runs each, after one warm-up"),
        ("Prompt cache", f"every prompt opens with a nonce; {view.cached}"),
        ("Not measured", "is shown as -, and never counted as zero"),
    ]
