"""What a benchmark report shows, whatever its format: rows of a table, figures as people write them, pages found. Pure.

Models keep one slot (a colour and a shape) through all charts. A cell is at a *length*: its tier, or for the bare
prompt the tokens its runs really had in use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Literal, NamedTuple

from lmstrix.core.benchmark.artefacts import page_of, safe_stem
from lmstrix.core.benchmark.prompts import TASKS
from lmstrix.core.benchmark.records import series_of
from lmstrix.core.benchmark.several_servers import LESS_NETWORK
from lmstrix.ground.units import format_bytes
from lmstrix.reports.table import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.core.benchmark.memory_sampler import MemoryUse
    from lmstrix.core.benchmark.records import BenchReport, BenchTarget, CellResult, RequestFigures
    from lmstrix.core.benchmark.stats import Summary

State = Literal["measured", "skipped", "failed", "open"]
_OPEN = ("not reached", "interrupted")
_PAGE_TASKS = ("html", "custom")


class Metric(NamedTuple):
    """A figure reports show: its name in summaries, its title, how it is written, and whether more is better."""

    name: str
    title: str
    write: Callable[[float], str]
    more_is_better: bool


def three_figures(value: float) -> str:
    """ "1,234", "56.7", "1.20": three figures that count."""
    # Zero has no magnitude to take a logarithm of.
    decimals = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(6, max(0, decimals))}f}"


def duration(seconds: float) -> str:
    """ "805 µs", "56.0 ms", "1.23 s"."""
    for limit, factor, unit in ((0.001, 1e6, "µs"), (1.0, 1e3, "ms")):
        if 0 < abs(seconds) < limit:
            return f"{three_figures(seconds * factor)} {unit}"
    return f"{three_figures(seconds)} s"


def joules(value: float) -> str:
    """ "805 mJ", "12.3 J", "1.20 kJ"."""
    for limit, factor, unit in ((1.0, 1e3, "mJ"), (1000.0, 1.0, "J")):
        if abs(value) < limit:
            return f"{three_figures(value * factor)} {unit}"
    return f"{three_figures(value / 1000)} kJ"


TTFT = Metric("ttft_s", "First token", duration, more_is_better=False)
PREFILL = Metric("prefill_tokens_per_second", "Prefill t/s", three_figures, more_is_better=True)
DECODE = Metric("decode_tokens_per_second", "Decode t/s", three_figures, more_is_better=True)
E2E = Metric("e2e_s", "Whole answer", duration, more_is_better=False)
LOAD = Metric("load_s", "Load", duration, more_is_better=False)
ENERGY = Metric("net_j_per_output_token", "J / token", joules, more_is_better=False)
OUTPUT = Metric("output_tokens_per_second", "Output t/s", three_figures, more_is_better=True)
LESS_ROUND_TRIP = Metric(LESS_NETWORK, "Less round trip", duration, more_is_better=False)
METRICS = (DECODE, PREFILL, TTFT, LESS_ROUND_TRIP, E2E, ENERGY, LOAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One summary with the values behind it."""

    metric: Metric
    summary: Summary
    values: tuple[float, ...]

    @property
    def text(self) -> str:
        return self.metric.write(self.summary.median)

    @property
    def spread(self) -> str:
        """The interval in words, or the range where the runs are too few for one."""
        interval, write = self.summary.interval, self.metric.write
        runs = f"{self.summary.count} run{'s' if self.summary.count != 1 else ''}"
        if interval is not None:
            return f"{write(interval.low)} to {write(interval.high)} ({interval.coverage_ratio:.0%}, {runs})"
        if self.summary.count == 1:
            return "1 run"
        return f"{write(self.summary.minimum)} to {write(self.summary.maximum)} (range, {runs})"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryView:
    """What a model took above the state before its load. `of_engine` False: seen in the whole system's memory only."""

    loaded_bytes: int
    peak_bytes: int
    gpu_bytes: int
    of_engine: bool

    @property
    def text(self) -> str:
        gpu = f" + {format_bytes(self.gpu_bytes)} GPU" if self.gpu_bytes else ""
        return format_bytes(self.peak_bytes) + gpu


def _memory(use: MemoryUse) -> MemoryView | None:
    before, loaded = use.baseline, use.loaded
    if before is None or loaded is None:
        return None
    of_engine = before.engine_bytes is not None and loaded.engine_bytes is not None
    start = before.engine_bytes if of_engine else before.system_used_bytes
    full = loaded.engine_bytes if of_engine else loaded.system_used_bytes
    peak = use.engine_peak_bytes if of_engine else use.system_peak_bytes
    # The system may have freed more than the model took meanwhile; memory below zero would be no memory use.
    took = max(0, (full or 0) - (start or 0))
    gpu = max(0, (loaded.gpu_used_bytes or 0) - (before.gpu_used_bytes or 0))
    return MemoryView(
        loaded_bytes=took, peak_bytes=max(took, (peak or 0) - (start or 0)), gpu_bytes=gpu, of_engine=of_engine
    )


class CellView:
    """One cell for showing. `length_tokens` is its place on a chart of context lengths."""

    def __init__(self, result: CellResult, slot: int, length_tokens: float) -> None:
        self.result = result
        self.slot = slot
        self.length_tokens = length_tokens
        self._series = series_of(result.runs, result.loads)

    @property
    def model_key(self) -> str:
        """The model's key, fit to be shown."""
        return clean(self.result.cell.target.name)

    @property
    def tier(self) -> str:
        """The tier in words."""
        tokens = self.result.cell.tier_tokens
        return f"{tokens:,}" if tokens else "prompt only"

    @property
    def state(self) -> State:
        if self.result.outcome == "skipped":
            return "skipped"
        if self.result.outcome in _OPEN:
            return "open"
        # Every other outcome is the name of a failure, also one that a later version may bring.
        return "measured" if self.result.outcome == "ok" else "failed"

    @property
    def state_text(self) -> str:
        """The outcome and why, in one line."""
        if self.state == "measured":
            return ""
        return f"{self.result.outcome}: {self.result.reason}" if self.result.reason else self.result.outcome

    def figure(self, metric: Metric) -> Figure | None:
        """One figure of this cell; None when it was not measured."""
        summary = self.result.summaries.get(metric.name)
        if summary is None:
            return None
        return Figure(metric=metric, summary=summary, values=tuple(self._series.get(metric.name, ())))

    @cached_property
    def memory(self) -> MemoryView | None:
        """What the model took; None when nothing was seen."""
        return _memory(self.result.memory) if self.result.memory is not None else None

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Why figures of this cell are to be doubted; each text once, with how often it came."""
        texts = [mark.text for mark in self.result.marks]
        counted = {text: texts.count(text) for text in texts}
        return tuple(text if times == 1 else f"{text} ({times} times)" for text, times in counted.items())

    @property
    def requests(self) -> Iterator[RequestFigures]:
        """All requests of the runs that count."""
        for run in self.result.runs:
            yield from run.requests


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """A model and its cells."""

    target: BenchTarget
    slot: int
    cells: tuple[CellView, ...]

    @property
    def model_key(self) -> str:
        """The model's key, fit to be shown."""
        return clean(self.target.name)

    @property
    def stem(self) -> str:
        """A name for the model's files, of harmless characters."""
        return safe_stem(replace(self.cells[0].result.cell, tier_tokens=0, concurrency=1))

    @property
    def facts(self) -> str:
        """Quantization, size and limits in one line."""
        limit = self.target.tested_context_length
        parts = [
            clean(self.target.quantization or ""),
            format_bytes(self.target.size_bytes) if self.target.size_bytes else "",
            f"{limit:,} tokens tested" if limit else "limit not tested",
            f"{self.target.max_context_length:,} declared" if self.target.max_context_length else "",
        ]
        return ", ".join(part for part in parts if part)

    def best(self, metric: Metric) -> Figure | None:
        """The best of the model's cells by median."""
        figures = [figure for cell in self.cells if (figure := cell.figure(metric)) is not None]
        choose = max if metric.more_is_better else min
        return choose(figures, key=lambda figure: figure.summary.median, default=None)

    @property
    def memory(self) -> MemoryView | None:
        """The memory of the cell that took most."""
        seen = [cell.memory for cell in self.cells if cell.memory is not None]
        return max(seen, key=lambda memory: memory.peak_bytes, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """What one model answered. `page` is the HTML found in it, None when it is only text. `stem` names its files."""

    model_key: str
    slot: int
    stem: str
    answer: str
    page: str | None
    cut: bool
    facts: str


class BenchView:
    """One report, arranged."""

    def __init__(self, report: BenchReport) -> None:
        self.report = report
        slots: dict[tuple[str, str], int] = {}
        for result in report.cells:
            # By path: two models may have one key, and must not share a colour. Nor may one model on two servers, or
            # two sides of one.
            slots.setdefault(_identity(result), len(slots))
        bare = _bare_length(report)
        self.cells = tuple(CellView(r, slots[_identity(r)], float(r.cell.tier_tokens or bare)) for r in report.cells)
        self.models = tuple(
            ModelView(
                target=next(c.result.cell.target for c in self.cells if c.slot == slot),
                slot=slot,
                cells=tuple(c for c in self.cells if c.slot == slot),
            )
            for slot in slots.values()
        )

    @cached_property
    def tiers(self) -> tuple[int, ...]:
        return tuple(sorted({cell.result.cell.tier_tokens for cell in self.cells}))

    @cached_property
    def concurrencies(self) -> tuple[int, ...]:
        return tuple(sorted({cell.result.cell.concurrency for cell in self.cells}))

    @property
    def prompt(self) -> str:
        """The task every prompt ends with."""
        request = self.report.request
        return request.prompt if request.prompt is not None else TASKS[request.task]

    @property
    def measures_energy(self) -> bool:
        return any(cell.figure(ENERGY) is not None for cell in self.cells)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The figures to show: a column of energy that nothing measured would say only that nothing did."""
        seldom = (ENERGY, LESS_ROUND_TRIP)
        return tuple(m for m in METRICS if m not in seldom or any(cell.figure(m) is not None for cell in self.cells))

    @cached_property
    def cached(self) -> str:
        """What is known of prompt caches, the proof that prefill was measured and not skipped."""
        # Of the runs that count only: a warm-up is there to fill caches.
        counts = [request.cached_tokens for cell in self.cells for request in cell.requests]
        known = [count for count in counts if count is not None]
        if not known:
            return "the server does not say how many prompt tokens came from its cache"
        return f"{sum(known):,} cached prompt tokens in {len(known)} of {len(counts)} requests that say so"

    @cached_property
    def artefacts(self) -> tuple[Artefact, ...]:
        """The first whole answer of every model."""
        pages = self.report.request.task in _PAGE_TASKS
        found = [_artefact(model, pages=pages) for model in self.models]
        return tuple(artefact for artefact in found if artefact is not None)


def _identity(result: CellResult) -> tuple[str, str]:
    return result.cell.target.path, result.cell.target.name


def _bare_length(report: BenchReport) -> int:
    """Tokens in use where the bare prompt was measured, over all models alike."""
    used = [
        request.prompt_tokens + request.completion_tokens
        for result in report.cells
        if not result.cell.tier_tokens
        for run in result.runs
        for request in run.requests
        if request.prompt_tokens is not None and request.completion_tokens is not None
    ]
    # A chart over lengths is logarithmic, where the bare prompt's nominal zero has no place.
    return max(1, round(median(used))) if used else 1


def _artefact(model: ModelView, *, pages: bool) -> Artefact | None:
    answered = [request for cell in model.cells for request in cell.requests if request.answer.strip()]
    if not answered:
        return None
    # One that ended by itself shows what a model can do; one cut off by a limit shows the limit.
    chosen = next((request for request in answered if request.stop_reason == "eosFound"), answered[0])
    tokens = f"{chosen.completion_tokens:,} tokens" if chosen.completion_tokens is not None else ""
    seconds = duration(chosen.e2e_s) if chosen.e2e_s is not None else ""
    stop = "" if chosen.stop_reason in (None, "eosFound") else f"stopped: {chosen.stop_reason}"
    return Artefact(
        model_key=model.model_key,
        slot=model.slot,
        stem=model.stem,
        answer=chosen.answer,
        page=page_of(chosen.answer) if pages else None,
        cut=chosen.answer_cut,
        facts=", ".join(part for part in (tokens, seconds, stop) if part),
    )
