"""Reports as CSV, Markdown, JUnit and terminal tables: nothing lost, nothing that acts."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.reports.bench.csv import to_csv
from lmstrix.reports.bench.junit import to_junit
from lmstrix.reports.bench.markdown import escape, to_markdown
from lmstrix.reports.bench.view import duration, joules, three_figures
from tests.reports.bench.bench_reports import cell, fleet_report, report, run, target

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def test_csv_has_every_run_and_every_cell_without_one() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(fleet_report()))))
    assert len(rows) == 21 * 6 + 4
    assert {row["outcome"] for row in rows} == {"ok", "skipped", "engine died"}
    assert sum(bool(row["net_j"]) for row in rows) == 21 * 6
    assert next(row for row in rows if row["outcome"] == "engine died")["decode_tokens_per_second"] == ""


@given(TEXTS)
def test_csv_cells_are_no_formulas(text: str) -> None:
    cells = (cell(target(f"m{text}")), cell(target(text), outcome="failed", reason=text))
    rows = list(csv.reader(io.StringIO(to_csv(report(cells)), newline="")))
    assert len(rows) == 3
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row)


@given(TEXTS)
def test_markdown_cells_stay_text(text: str) -> None:
    line = escape(text)
    assert "\n" not in line
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>`\[\]*_#&]", line)
    assert "://" not in line


def test_markdown_is_one_table_with_intervals() -> None:
    text = to_markdown(fleet_report())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 25
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert "61.2 (59.3 to 63.0 (97%, 6 runs))" in text
    assert "beyond the tested limit" in text


def test_junit_counts_failures_and_skips() -> None:
    root = ET.fromstring(to_junit(fleet_report()))
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["skipped"]) == ("25", "1", "3")
    (failure,) = root.iter("failure")
    assert "ended during prefill" in failure.attrib["message"]
    medians = {one.attrib["name"]: float(one.attrib["value"]) for one in next(root.iter("properties"))}
    assert medians["decode_tokens_per_second"] == pytest.approx(61.2, abs=0.1)


@given(st.text(max_size=40))
def test_junit_is_xml_whatever_the_names(text: str) -> None:
    cells = (cell(target(text), runs=(run(0, decode=5, prefill=9),)), cell(target(f"{text}x"), skipped=text))
    assert ET.fromstring(to_junit(report(cells))).attrib["tests"] == "2"


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (56.78, "56.8"), (1.2, "1.20"), (0.0, "0"), (0.001234, "0.00123")]
)
def test_three_figures(value: float, text: str) -> None:
    assert three_figures(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0 s"), (0.0000565, "56.5 µs"), (0.12, "120 ms"), (75.04, "75.0 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0021, "2.10 mJ"), (12.34, "12.3 J"), (4321.0, "4.32 kJ"), (-0.5, "-500 mJ")]
)
def test_joules(value: float, text: str) -> None:
    assert joules(value) == text
