"""Charts hold every value, whatever it is, within their frame, and are well-formed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.reports.bench import charts

VALUES = st.floats(min_value=1e-6, max_value=1e12)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


def coordinates(svg: str) -> list[float]:
    """Everything that says where a mark lies."""
    return [float(number) for number in re.findall(r' c[xy]="([-\d.naife]+)"', svg)]


def inside(svg: str) -> None:
    """Assert that it is XML and that nothing lies outside."""
    root = ET.fromstring(svg)
    width, height = (float(number) for number in root.attrib["viewBox"].split()[2:])
    assert all(0 <= place <= max(width, height) for place in coordinates(svg))
    assert root.attrib["role"] == "img"


@given(st.lists(VALUES, min_size=1, max_size=12), st.booleans())
def test_an_axis_holds_its_values_between_its_ends(values: list[float], upright: bool) -> None:
    start, end = (258.0, 14.0) if upright else (46.0, 448.0)
    axis = charts.make_axis(values, start, end)
    low, high = sorted((start, end))
    assert all(low - 1e-6 <= axis.at(value) <= high + 1e-6 for value in (*values, *axis.ticks))
    assert 2 <= len(axis.ticks) <= 14
    ordered = sorted(values)
    places = [axis.at(value) for value in ordered]
    assert places == sorted(places, reverse=upright)


@pytest.mark.slow
@given(
    st.dictionaries(
        NAMES,
        st.lists(st.tuples(st.integers(1, 2**20), VALUES, VALUES, VALUES), min_size=1, max_size=6),
        min_size=1,
        max_size=13,
    )
)
def test_any_lines_are_drawn_within_the_frame(models: dict[str, list[tuple[int, float, float, float]]]) -> None:
    lines = [
        charts.Line(
            name=name,
            slot=slot,
            spots=tuple(
                charts.Spot(x=x, median=sorted(v)[1], low=min(v), high=max(v), values=tuple(v), label=name)
                for x, *v in spots
            ),
        )
        for slot, (name, spots) in enumerate(models.items())
    ]
    inside(charts.line_chart(lines, identifier="a", title="A", description="B"))
    inside(charts.dot_chart(lines, identifier="a", title="A", description="B"))


@pytest.mark.slow
@given(st.lists(st.tuples(NAMES, VALUES, VALUES), min_size=1, max_size=15))
def test_any_scatter_and_bars_are_drawn_within_the_frame(rows: list[tuple[str, float, float]]) -> None:
    dots = [charts.Dot(name=n, slot=i, x=x, y=y, label=n) for i, (n, x, y) in enumerate(rows)]
    bars = [charts.Bar(name=n, slot=i, parts=((0, x, n), (1, y, n)), label=n) for i, (n, x, y) in enumerate(rows)]
    inside(charts.scatter_chart(dots, identifier="a", title="A", description="B", x_title="C"))
    inside(charts.bar_chart(bars, identifier="a", title="A", description="B"))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(places: list[tuple[int, int]]) -> None:
    front = charts.pareto_front([(float(x), float(y)) for x, y in places])
    assert front
    for index, (x, y) in enumerate(places):
        beaten = any((a >= x and b > y) or (a > x and b >= y) for a, b in places)
        assert (index in front) != beaten


def test_nothing_to_show_draws_nothing() -> None:
    assert charts.line_chart([], identifier="a", title="A", description="B") == ""
    assert charts.bar_chart([], identifier="a", title="A", description="B") == ""


@pytest.mark.parametrize(
    ("tokens", "text"), [(512, "512"), (4096, "4k"), (131_072, "128k"), (352, "352"), (20_000, "20k")]
)
def test_token_ticks(tokens: int, text: str) -> None:
    assert charts.short_tokens(tokens) == text
