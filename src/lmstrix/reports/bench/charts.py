"""Charts as SVG text: lines with intervals and every point, stacked bars, a Pareto scatter. Pure.

Colours are classes (`s0` … `s9`) that the page's style sheet fills for light and dark; shapes and dashes tell series
apart without colour. Every chart has a title and a description for readers who do not see it, and every mark a tooltip.
Text is drawn for a width of 460 units, so that it stays legible on a telephone; nothing is scaled or drawn by scripts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from lmstrix.reports.bench.labels import Box, place_labels
from lmstrix.reports.table import clean, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COLOURS = 10
_WIDTH, _HEIGHT = 460.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 448.0, 14.0, 258.0
_SHAPES = ("circle", "square", "diamond", "triangle")
_LOG_FROM = 40.0  # a range of more than this factor is drawn on a logarithmic axis
_NAME_WIDTH = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A median at `x`, its interval where there is one, and every value behind it."""

    x: float
    median: float
    low: float | None = None
    high: float | None = None
    values: tuple[float, ...] = ()
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series. `slot` chooses its colour and shape."""

    name: str
    slot: int
    spots: tuple[Spot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row of stacked parts: (weight class 0..2, value, label of the part)."""

    name: str
    slot: int
    parts: tuple[tuple[int, float, str], ...]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One place in a scatter."""

    name: str
    slot: int
    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """From value to place, with ticks."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where a value lies."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        # A single value has no range; it lies in the middle.
        ratio = (value - low) / (high - low) if high > low else 0.5
        return self.start + ratio * (self.end - self.start)


def make_axis(values: Sequence[float], start: float, end: float, *, logarithmic: bool | None = None) -> Axis:
    """An axis that holds the values: from zero, or logarithmic where they spread over more than a factor of 40."""
    usable = [value for value in values if math.isfinite(value)]
    # Zeros alone (no energy measured above idle) would leave an axis without length.
    top = max(usable, default=1.0) or 1.0
    positive = [value for value in usable if value > 0]
    least = min(positive, default=top)
    if logarithmic is None:
        logarithmic = bool(positive) and top / least > _LOG_FROM
    if logarithmic and positive:
        ticks = _log_ticks(least, top)
        return Axis(
            low=min(least, ticks[0]), high=max(top, ticks[-1]), start=start, end=end, logarithmic=True, ticks=ticks
        )
    ticks = _even_ticks(top)
    return Axis(low=0.0, high=ticks[-1], start=start, end=end, logarithmic=False, ticks=ticks)


def _even_ticks(top: float) -> tuple[float, ...]:
    """Four to six round steps from zero to at least `top`."""
    power = 10.0 ** math.floor(math.log10(top / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if top / (power * factor) <= 5)
    return tuple(step * index for index in range(math.ceil(top / step - 1e-9) + 1))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    """1, 2, 5 of each decade while they are few, else the decades; only some of them where there are very many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    step = 1 + (last - first) // 8
    all_ticks = [factor * 10.0**decade for decade in range(first, last + step, step) for factor in factors]
    # A little slack: 10**-2 computed is not 0.01 written, and a tick on the edge must not be lost for it.
    below = max((tick for tick in all_ticks if tick <= low * (1 + 1e-9)), default=all_ticks[0])
    above = min((tick for tick in all_ticks if tick >= high * (1 - 1e-9)), default=all_ticks[-1])
    return tuple(tick for tick in all_ticks if below <= tick <= above)


def short_number(value: float) -> str:
    """ "0.5", "12", "1.2k", "3M": a number for an axis."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def short_tokens(tokens: float) -> str:
    """ "512", "4k", "128k" in powers of two where they fit, else as any number."""
    if tokens >= 1024 and tokens % 1024 == 0:
        return f"{tokens / 1024:.0f}k"
    return f"{tokens:.0f}" if tokens < 10_000 else short_number(tokens)


def line_chart(
    lines: Sequence[Line],
    *,
    identifier: str,
    title: str,
    description: str,
    y_format: Callable[[float], str] = short_number,
    x_format: Callable[[float], str] = short_tokens,
    x_title: str = "context, tokens",
) -> str:
    """Values over context length: lines through the medians, bands of the intervals, and every single value."""
    spots = [spot for line in lines for spot in line.spots]
    if not spots:
        return ""
    xs = sorted({spot.x for spot in spots})
    x_axis = _context_axis(xs)
    every = [value for spot in spots for value in (spot.median, spot.low, spot.high, *spot.values) if value is not None]
    y_axis = make_axis(every, _BOTTOM, _TOP)
    body = [_grid(x_axis, y_axis, x_format, y_format), _axis_title(x_title)]
    body += [_line(line, x_axis, y_axis) for line in lines if line.spots]
    return _svg(identifier, title, description, _HEIGHT, body)


def _context_axis(xs: Sequence[float]) -> Axis:
    """A logarithmic axis whose ticks are the measured lengths, thinned where they would touch."""
    low, high = xs[0], xs[-1]
    if low == high:
        return Axis(low=low / 2, high=high * 2, start=_LEFT, end=_RIGHT, logarithmic=True, ticks=(low,))
    axis = Axis(low=low, high=high, start=_LEFT + 16, end=_RIGHT - 16, logarithmic=True, ticks=())
    ticks: list[float] = []
    for x in xs:
        if not ticks or axis.at(x) - axis.at(ticks[-1]) >= 32:
            ticks.append(x)
    return Axis(low=low, high=high, start=axis.start, end=axis.end, logarithmic=True, ticks=tuple(ticks))


def _line(line: Line, x_axis: Axis, y_axis: Axis) -> str:
    spots = sorted(line.spots, key=lambda spot: spot.x)
    places = [(x_axis.at(spot.x), y_axis.at(spot.median)) for spot in spots]
    parts = [f'<g class="series s{line.slot % COLOURS}" data-model="{_escaped(line.name)}">']
    banded = [
        (x_axis.at(s.x), y_axis.at(s.low), y_axis.at(s.high)) for s in spots if s.low is not None and s.high is not None
    ]
    # A band between two lengths says more than it knows, so each length also gets its own whisker.
    if len(banded) > 1:
        upper = [f"{x:.1f},{high:.1f}" for x, _, high in banded]
        lower = [f"{x:.1f},{low:.1f}" for x, low, _ in reversed(banded)]
        parts.append(f'<polygon class="band" points="{" ".join(upper + lower)}"/>')
    parts += [f'<path class="whisker" d="M{x:.1f} {low:.1f}V{high:.1f}"/>' for x, low, high in banded]
    dots: list[str] = []
    for spot, (x, _) in zip(spots, places, strict=True):
        # One path of strokes without length, drawn as round caps: a thousand circles would make the page slow.
        dots += [f"M{x:.1f} {y_axis.at(value):.1f}h0" for value in spot.values]
    parts.append(f'<path class="values" d="{"".join(dots)}"/>')
    if len(places) > 1:
        # From the eleventh model on colours repeat; the dash tells the second round from the first.
        dash = ' stroke-dasharray="5 3"' if line.slot >= COLOURS else ""
        parts.append(f'<path class="line"{dash} d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>')
    for spot, (x, y) in zip(spots, places, strict=True):
        parts.append(_mark(line.slot, x, y, f"{line.name}: {spot.label}"))
    return "".join([*parts, "</g>"])


def _mark(slot: int, x: float, y: float, label: str, size: float = 4.0) -> str:
    """A mark whose shape goes with its colour, and the wider place around it that shows the tooltip."""
    # A finger is wider than a mark of eight units.
    reach = f'<circle class="reach" cx="{x:.1f}" cy="{y:.1f}" r="11"/>'
    return f"<g>{_shape(slot, x, y, size)}{reach}<title>{_escaped(label)}</title></g>"


def _shape(slot: int, x: float, y: float, size: float) -> str:
    s = size * 1.15
    return {
        "circle": f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"/>',
        "square": _path(x - s * 0.85, y - s * 0.85, f"h{s * 1.7:.1f}v{s * 1.7:.1f}h{-s * 1.7:.1f}z"),
        "diamond": _path(x, y - s * 1.2, "l{0} {0}l-{0} {0}l-{0} -{0}z".format(f"{s * 1.2:.1f}")),
        "triangle": _path(x, y - s * 1.15, f"l{s * 1.1:.1f} {s * 2:.1f}h{-s * 2.2:.1f}z"),
    }[_SHAPES[slot % len(_SHAPES)]]


def _path(x: float, y: float, rest: str) -> str:
    return f'<path class="mark" d="M{x:.1f} {y:.1f}{rest}"/>'


def _box(kind: str, x: float, y: float, width: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.0f}" width="{max(width, 1.0):.1f}" height="12" rx="2"'


def swatch(slot: int) -> str:
    """The mark of a series, for a legend."""
    dash = ' stroke-dasharray="3 2"' if slot >= COLOURS else ""
    return (
        f'<svg class="swatch s{slot % COLOURS}" viewBox="0 0 16 12" width="16" height="12" aria-hidden="true">'
        f'<path class="line"{dash} d="M0 6H16"/>'
        f"{_shape(slot, 8.0, 6.0, 3.4)}</svg>"
    )


def bar_chart(bars: Sequence[Bar], *, identifier: str, title: str, description: str) -> str:
    """One row per model: its name over a bar of stacked parts."""
    if not bars:
        return ""
    row = 40.0
    axis = make_axis([sum(value for _, value, _ in bar.parts) for bar in bars], 0.0, _WIDTH - 128, logarithmic=False)
    body = []
    for index, bar in enumerate(bars):
        top = index * row + 4
        body.append(f'<g class="series s{bar.slot % COLOURS}" data-model="{_escaped(bar.name)}">')
        body.append(f'<text class="name" x="0" y="{top + 11:.0f}">{_escaped(shorten(clean(bar.name), 48))}</text>')
        place = 0.0
        for weight, value, label in bar.parts:
            # At least one unit, so that a small part can still be seen and pointed at.
            width = max(axis.at(value) - axis.at(0), 1.0)
            title_text = _escaped(f"{bar.name}: {label}")
            body.append(f"{_box(f'part p{weight}', place, top + 17, width)}><title>{title_text}</title></rect>")
            place += width
        body.append(f'<text class="amount" x="{place + 7:.1f}" y="{top + 27:.0f}">{_escaped(bar.label)}</text></g>')
    return _svg(identifier, title, description, len(bars) * row + 6, body)


def dot_chart(
    lines: Sequence[Line],
    *,
    identifier: str,
    title: str,
    description: str,
    x_format: Callable[[float], str] = short_number,
    write: Callable[[float], str] = short_number,
) -> str:
    """One row per model, where there is only one length: its name over its values, their interval and the median."""
    rows = [(line, line.spots[0]) for line in lines if line.spots]
    if not rows:
        return ""
    row, end = 40.0, _WIDTH - 84
    every = [v for _, s in rows for v in (s.median, s.low, s.high, *s.values) if v is not None]
    axis = make_axis(every, 6.0, end)
    bottom = len(rows) * row + 6
    body = ['<g class="grid" aria-hidden="true">']
    for tick in axis.ticks:
        x = axis.at(tick)
        body.append(f'<path d="M{x:.1f} 2V{bottom:.0f}"/>')
        body.append(f'<text x="{x:.1f}" y="{bottom + 15:.0f}" text-anchor="middle">{_escaped(x_format(tick))}</text>')
    body.append("</g>")
    for index, (line, spot) in enumerate(rows):
        top = index * row + 4
        y = top + 23
        body.append(f'<g class="series s{line.slot % COLOURS}" data-model="{_escaped(line.name)}">')
        body.append(
            f'<text class="name halo" x="0" y="{top + 11:.0f}">{_escaped(shorten(clean(line.name), 48))}</text>'
        )
        if spot.low is not None and spot.high is not None:
            low, high = axis.at(spot.low), axis.at(spot.high)
            body.append(_box("band", low, y - 6, high - low) + "/>")
        body.append(f'<path class="values" d="{"".join(f"M{axis.at(v):.1f} {y:.0f}h0" for v in spot.values)}"/>')
        body.append(_mark(line.slot, axis.at(spot.median), y, f"{line.name}: {spot.label}"))
        body.append(
            f'<text class="amount" x="{end + 12:.0f}" y="{y + 4:.0f}">{_escaped(write(spot.median))}</text></g>'
        )
    return _svg(identifier, title, description, bottom + 20, body)


def scatter_chart(
    dots: Sequence[Dot],
    *,
    identifier: str,
    title: str,
    description: str,
    x_title: str,
    x_format: Callable[[float], str] = short_number,
    y_format: Callable[[float], str] = short_number,
    more_x_is_better: bool = True,
    more_y_is_better: bool = False,
) -> str:
    """Two figures of every model against each other, with the line of those no other model beats in both."""
    if not dots:
        return ""
    x_axis = make_axis([dot.x for dot in dots], _LEFT, _RIGHT - 8)
    y_axis = make_axis([dot.y for dot in dots], _BOTTOM, _TOP + 6)
    # The front is found where more is better; a figure of which less is better is turned round for it.
    front = pareto_front(
        [(dot.x if more_x_is_better else -dot.x, dot.y if more_y_is_better else -dot.y) for dot in dots]
    )
    best = sorted((dots[index] for index in front), key=lambda dot: dot.x)
    body = [_grid(x_axis, y_axis, x_format, y_format, upright=True), _axis_title(x_title)]
    if len(best) > 1:
        steps = "L".join(f"{x_axis.at(dot.x):.1f} {y_axis.at(dot.y):.1f}" for dot in best)
        body.append(f'<path class="front" d="M{steps}"/>')
    for dot in dots:
        beaten = "" if dot in best else " beaten"
        mark = _mark(dot.slot, x_axis.at(dot.x), y_axis.at(dot.y), f"{dot.name}: {dot.label}", 5.5)
        body.append(f'<g class="series s{dot.slot % COLOURS}{beaten}" data-model="{_escaped(dot.name)}">{mark}</g>')
    # More names than that cover each other; those of the front are what the chart is read for.
    named = dots if len(dots) <= 8 else best
    names = [shorten(clean(dot.name), _NAME_WIDTH) for dot in named]
    marks = [(x_axis.at(dot.x), y_axis.at(dot.y), name) for dot, name in zip(named, names, strict=True)]
    labels = place_labels(
        marks,
        Box(_LEFT + 2, _TOP - 12, _WIDTH, _BOTTOM - 1),
        around=[(x_axis.at(dot.x), y_axis.at(dot.y)) for dot in dots if dot not in named],
        line=[(x_axis.at(dot.x), y_axis.at(dot.y)) for dot in best],
    )
    for dot, (x, y, name), label in zip(named, marks, labels, strict=True):
        if label is None:
            continue
        leader = ""
        if label.leader is not None:
            leader = f'<path class="leader" d="M{label.leader[0]:.1f} {label.leader[1]:.1f}L{x:.1f} {y:.1f}"/>'
        body.append(
            f'<g data-model="{_escaped(dot.name)}">{leader}<text class="name halo" x="{label.x:.1f}"'
            f' y="{label.baseline:.1f}" text-anchor="{label.anchor}">{_escaped(name)}</text></g>'
        )
    return _svg(identifier, title, description, _HEIGHT, body)


def pareto_front(places: Sequence[tuple[float, float]]) -> list[int]:
    """The places that no other beats by being at least as good in both figures and better in one; more is better."""
    return [
        index
        for index, (x, y) in enumerate(places)
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in places)
    ]


def _grid(
    x_axis: Axis,
    y_axis: Axis,
    x_format: Callable[[float], str],
    y_format: Callable[[float], str],
    *,
    upright: bool = False,
) -> str:
    parts = ['<g class="grid" aria-hidden="true">']
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        parts.append(f'<path d="M{_LEFT:.0f} {y:.1f}H{_RIGHT:.0f}"/>')
        parts.append(f'<text x="{_LEFT - 7:.0f}" y="{y + 4:.1f}" text-anchor="end">{_escaped(y_format(tick))}</text>')
    for tick in x_axis.ticks:
        x = x_axis.at(tick)
        if upright:
            parts.append(f'<path d="M{x:.1f} {_TOP:.0f}V{_BOTTOM:.0f}"/>')
        else:
            parts.append(f'<path class="tick" d="M{x:.1f} {_BOTTOM:.0f}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{_BOTTOM + 17:.0f}" text-anchor="middle">{_escaped(x_format(tick))}</text>')
    parts.append(f'<path class="base" d="M{_LEFT:.0f} {_BOTTOM:.0f}H{_RIGHT:.0f}"/></g>')
    return "".join(parts)


def _axis_title(title: str) -> str:
    return f'<text class="axis" x="{_RIGHT:.0f}" y="{_BOTTOM + 34:.0f}" text-anchor="end">{_escaped(title)}</text>'


def _svg(identifier: str, title: str, description: str, height: float, body: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img"'
        f' aria-labelledby="{identifier}-t {identifier}-d">'
        f'<title id="{identifier}-t">{_escaped(title)}</title><desc id="{identifier}-d">{_escaped(description)}</desc>'
        f"{''.join(body)}</svg>"
    )


def _escaped(text: str) -> str:
    return escape(clean(text))
