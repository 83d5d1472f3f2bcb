"""Reports as CSV, Markdown, JUnit and terminal tables: nothing lost, nothing that acts."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.reports.bench.clocks import NO_CLOCK, clock_rows, clocks_in_short
from lmstrix.reports.bench.csv import to_csv
from lmstrix.reports.bench.files import write_report
from lmstrix.reports.bench.html import render_page
from lmstrix.reports.bench.junit import to_junit
from lmstrix.reports.bench.markdown import escape, to_markdown
from lmstrix.reports.bench.view import BenchView, duration, joules, three_figures
from tests.reports.bench.bench_reports import FAR_AWAY, cell, fleet_report, report, run, target

if TYPE_CHECKING:
    from pathlib import Path

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


def test_markdown_has_the_figures_with_intervals_and_both_clocks() -> None:
    text = to_markdown(fleet_report())
    figures, clocks = text.split("Beside the server's own clock:")
    for part, count in ((figures, 2 + 25), (clocks, 2 + 21)):
        rows = [line for line in part.splitlines() if line.startswith("|")]
        assert len(rows) == count
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


def test_every_format_says_where_it_was_measured() -> None:
    page, text = render_page(fleet_report()), to_markdown(fleet_report())
    for fact in (
        "AMD Ryzen 9 7950X",
        "16 physical, 32 logical, 8 usable",
        "64.0 GiB",
        "NVIDIA RTX 4090, 24.0 GiB, driver 550.54.14",
        "Linux 6.1.0",
        "load average 0.31 0.24 0.20",
        "engine 7.90 cores, other programs 0.04",
        "xllamacpp 2026.5.1",
        "2.1.0, Python 3.12.4",
        "Q4",
    ):
        assert fact in page
        assert fact in text


def test_of_a_remote_server_the_unknown_is_said() -> None:
    far = replace(report((cell(target("a"), runs=(run(0, decode=5, prefill=9),)),)), environment=FAR_AWAY)
    for shown in (render_page(far), to_markdown(far)):
        assert "its processor and load cannot be read from here" in shown
        assert "the server does not name it" in shown
        assert "Ryzen" not in shown


def test_a_report_without_an_environment_is_still_shown() -> None:
    old = replace(fleet_report(), environment=None)
    assert "workbench" in render_page(old)
    assert "workbench" in to_markdown(old)


def test_the_servers_clock_stands_beside_ours() -> None:
    runs = tuple(run(i, decode=135.0, prefill=900.0, server_ratio=1 / 2.7) for i in range(6))
    found = report((cell(target("a"), runs=runs),))
    assert "135 / 50.0 (+170.0%)" in to_markdown(found)
    assert "135 / 50.0 (+170.0%)" in unescape(render_page(found))
    (row,) = clock_rows(BenchView(found))
    assert [figure.apart for figure in row.figures] == ["", "", "6 of 6 apart"]
    assert "doubtful" in render_page(found)
    assert "1 of 3 figures are apart in some requests" in clocks_in_short(BenchView(found))
    assert "135 against 50.0" in clocks_in_short(BenchView(found))
    rows = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert {row["server_decode_tokens_per_second"] for row in rows} == {"50.0"}
    assert {row["engine_cpu_cores"] for row in rows} == {"7.9"}


def test_a_server_without_a_clock_is_said_to_have_none() -> None:
    found = report((cell(target("a"), skipped="no time"),))
    assert NO_CLOCK in render_page(found)
    assert NO_CLOCK in to_markdown(found)
    assert clocks_in_short(BenchView(found)) == NO_CLOCK


def test_a_busy_machine_is_doubtful() -> None:
    runs = tuple(run(i, decode=50.0, prefill=900.0, others_cores=0.8) for i in range(6))
    found = report((cell(target("a"), runs=runs),))
    assert "other programs kept 0.80 processor cores busy" in to_markdown(found)
    assert "other programs kept 0.80 processor cores busy" in render_page(found)


def test_the_prompt_is_in_every_models_json(tmp_path: Path) -> None:
    write_report(fleet_report(), tmp_path)
    linked = re.findall(r'href="(models/[^"]+\.json)"', (tmp_path / "index.html").read_text(encoding="utf-8"))
    assert len(set(linked)) == 5
    for place in linked:
        (first, *_) = json.loads((tmp_path / place).read_text(encoding="ascii"))["cells"]
        assert first["prompt"].endswith("A text, and a question about it.")
