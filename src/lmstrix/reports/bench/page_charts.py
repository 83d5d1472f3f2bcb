"""The charts of a page: which figures each one draws, with its words and the same figures as a table. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.units import format_bytes
from lmstrix.reports.bench import charts
from lmstrix.reports.bench.view import (
    DECODE,
    ENERGY,
    LOAD,
    OUTPUT,
    PREFILL,
    TTFT,
    BenchView,
    Figure,
    Metric,
    ModelView,
    duration,
    joules,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with the words around it and the same figures as a table. `legend`: the models that it does not name."""

    identifier: str
    title: str
    caption: str
    svg: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[tuple[str, str], ...] = ()


def charts_of(view: BenchView) -> list[Chart]:
    """Every chart that has something to show."""
    found = [
        _over_context(view, DECODE, "Decode speed", "tokens per second, more is better", charts.short_number),
        _over_context(view, PREFILL, "Prefill speed", "prompt tokens per second, more is better", charts.short_number),
        _over_context(view, TTFT, "Time to first token", "from sending, less is better", _short_duration),
    ]
    if len(view.concurrencies) > 1:
        found.append(_throughput(view))
    found += [_memory(view), _load(view), _energy(view)]
    # A chart without a single figure is left out; the table of results says what was not measured.
    return [chart for chart in found if chart.svg]


def pareto_of(view: BenchView) -> list[Chart]:
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
            # A logarithmic axis has no place for zero, and zero here means that nothing was seen.
            if speed is None or value is None or value <= 0:
                continue
            label = f"{speed.text} t/s, {write(value)}"
            dots.append(charts.Dot(name=model.model_key, slot=model.slot, x=speed.summary.median, y=value, label=label))
            rows.append((model.model_key, speed.text, write(value)))
        # One dot compares nothing.
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
            # Names that found no place in the chart are in a legend.
            complete = svg.count('<text class="name') == len(dots)
            legend = () if complete else _legend(view, {dot.name for dot in dots})
            found.append(Chart(f"pareto-{name}", title, caption, svg, head, tuple(rows), legend))
    return found


def _legend(view: BenchView, names: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Key and mark of each of these models; nothing to tell apart where there is only one."""
    shown = [model for model in view.models if model.model_key in names]
    return tuple((model.model_key, charts.swatch(model.slot)) for model in shown) if len(shown) > 1 else ()


def _spot(figure: Figure, x: float, label: str) -> charts.Spot:
    interval = figure.summary.interval
    return charts.Spot(
        x=x,
        median=figure.summary.median,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        values=figure.values,
        label=label,
    )


def _lines(view: BenchView, metric: Metric) -> list[charts.Line]:
    """One line per model, at the fewest requests at a time."""
    # Requests at the same time slow each other down: mixed into one line, they would hide the effect of length.
    lowest = view.concurrencies[0]
    lines = []
    for model in view.models:
        spots = tuple(
            _spot(figure, cell.length_tokens, f"{cell.tier}: {figure.text} ({figure.spread})")
            for cell in model.cells
            if cell.result.cell.concurrency == lowest and (figure := cell.figure(metric)) is not None
        )
        lines.append(charts.Line(name=model.model_key, slot=model.slot, spots=spots))
    return lines


def _over_context(view: BenchView, metric: Metric, title: str, caption: str, write: Callable[[float], str]) -> Chart:
    identifier = metric.name.split("_")[0]
    lines = _lines(view, metric)
    lengths = {spot.x for line in lines for spot in line.spots}
    described = f"{title}: median, 95 % interval and every run of {len(lines)} models"
    legend: tuple[tuple[str, str], ...] = ()
    # A line through one length would be a dot in an empty chart; a row per model shows more.
    if len(lengths) > 1:
        svg = charts.line_chart(lines, identifier=identifier, title=title, description=described, y_format=write)
        legend = _legend(view, {line.name for line in lines if line.spots})
    else:
        svg = charts.dot_chart(
            lines, identifier=identifier, title=title, description=described, x_format=write, write=metric.write
        )
    rows = [
        (cell.model_key, cell.tier, figure.text, figure.spread)
        for cell in view.cells
        if (figure := cell.figure(metric)) is not None
    ]
    return Chart(identifier, title, caption, svg, ("Model", "Context", metric.title, "Interval"), tuple(rows), legend)


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
                spots.append(_spot(figure, at_a_time, f"{at_a_time} at a time: {figure.text} t/s ({figure.spread})"))
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
    head = ("Model", "At a time", OUTPUT.title, "Interval")
    legend = _legend(view, {line.name for line in lines if line.spots})
    return Chart("throughput", title, caption, svg, head, tuple(rows), legend)


def _memory(view: BenchView) -> Chart:
    """Memory over the state before the load: after it, and at the most."""
    bars, rows = [], []
    seen = [(model, memory) for model in view.models if (memory := model.memory) is not None]
    for model, memory in seen:
        # Parts are stacked, so each is what it adds to the one before.
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
        # A cold load is what a user waits for after a restart; where none was seen the first is nearest to it.
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
        # A phase below idle power is noise around nothing, and no bar can be drawn to the left.
        parts = [
            (weight, summary.median, f"{joules(summary.median)} {phase}")
            for weight, summary, phase in ((0, prefill, "prefill"), (1, decode, "decode"))
            if summary is not None and summary.median > 0
        ]
        # Too slow a source cannot split a run at its first token; the sum is still worth a bar.
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
