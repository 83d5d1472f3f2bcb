"""The page as text: nothing a model says becomes markup, everything stays in bounds."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.reports.bench.html import render_page, write_pages
from lmstrix.reports.bench.sandbox import boxed, data_element, policy
from tests.reports.bench.bench_reports import cell, fleet_report, report, run, target

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></iframe></table><h1>owned</h1>",
    "\x1b[2J\x1b]0;owned\x07",
    "{{ 7 * 7 }}{% raw %}",
    "[bold red]markup[/] | `x` | =cmd()",
    "\u2028\u2029\u202e\ud800",
)


class Elements(HTMLParser):
    """The tags a page has, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of one kind."""
        return [attributes for name, attributes in self.tags if name == tag]


def elements(page: str) -> Elements:
    parser = Elements()
    parser.feed(page)
    return parser


def hostile_page(text: str) -> str:
    """A report in which every text is `text`."""
    runs = tuple(run(i, decode=50 + i, prefill=900 + i, answer=f"```html\n<html>{text}</html>\n```") for i in range(6))
    cells = (
        cell(target(text), runs=runs),
        cell(target(f"{text}2"), outcome="failed", reason=text),
        cell(target(f"{text}3"), 4096, skipped=text),
    )
    return render_page(report(cells, task="html", prompt=text))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element(text: str) -> None:
    harmless, hostile = elements(hostile_page("model")), elements(hostile_page(text))
    for tag in ("script", "style", "img", "iframe", "h1", "table", "title", "meta", "link", "a"):
        assert len(hostile.of(tag)) == len(harmless.of(tag)), tag
    assert not [name for _, attributes in hostile.tags for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_in_the_data(text: str) -> None:
    page = hostile_page(text)
    raw = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert raw is not None
    data = json.loads(raw[1])
    assert {row[0] for row in data["rows"]} == {text, f"{text}2", f"{text}3"}
    assert "\x1b" not in page


@given(st.text())
def test_data_is_json_without_markup(text: str) -> None:
    element = data_element({"text": text})
    assert json.loads(element) == {"text": text}
    assert not re.search("[<>&\u2028\u2029]", element)


@given(st.text(alphabet=st.sampled_from(list("<lLiInNkKfFrRaAmMeEtTbBsS/> \n\t\x00x")), max_size=60))
def test_no_element_that_connects_survives(text: str) -> None:
    page = boxed(
        f"<p>{text}</p><LINK><link/x><iFrame\n><frame><Meta\thttp-equiv=refresh><base href=x>", "default-src 'none'"
    )
    found = [tag for tag, _ in elements(page).tags if tag in ("link", "iframe", "frame", "meta", "base")]
    assert found == ["meta", "meta"], "the box's own, which are first"


def test_a_boxed_page_begins_with_its_policy_and_ends_somewhere() -> None:
    page = boxed("x" * 100_000_000, policy(script_src="'none'"))
    assert page.startswith('<meta http-equiv="Content-Security-Policy" content="default-src \'none\';')
    assert len(page) < 150_000


def test_only_our_script_may_run() -> None:
    page = render_page(fleet_report())
    policies = [one["content"] for one in elements(page).of("meta") if one.get("http-equiv")]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == len(policies) == 1
    assert f"script-src 'sha256-{digest}'" in str(policies[0])


def test_frames_are_sandboxed_without_any_permission() -> None:
    frames = elements(render_page(fleet_report())).of("iframe")
    assert len(frames) == 5
    for frame in frames:
        assert frame["sandbox"] == ""
        assert "src" not in frame
        assert str(frame["srcdoc"]).startswith("<meta http-equiv=")


def test_the_page_is_small_and_complete() -> None:
    page = render_page(fleet_report())
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert len(page) - len(data[1]) < 150_000
    assert not re.search(r'(src|href)="(https?:)?//', page)
    for words in (
        "Decode speed",
        "Prefill speed",
        "Time to first token",
        "Memory",
        "Energy of one answer",
        "Load time",
    ):
        assert words in page
    assert "beyond the tested limit" in page
    assert "engine died" in page
    assert "nonce" in page


def test_what_was_not_measured_is_not_drawn() -> None:
    page = render_page(fleet_report(task="story", energy=False, tiers=(0,)))
    assert "Energy of one answer" not in page
    assert "none: energy was not measured" in page
    assert "<iframe" not in page
    empty = render_page(report((cell(target("a"), skipped="no time"),)))
    assert "<figcaption>" not in empty
    assert "no time" in empty


def test_every_chart_has_words_and_a_table() -> None:
    page = render_page(fleet_report())
    charts = re.findall(r'<svg class="chart".*?</svg>', page, re.DOTALL)
    assert len(charts) == 9
    for chart in charts:
        labels = re.search(r'aria-labelledby="(\S+) (\S+)"', chart)
        assert labels is not None
        assert f'id="{labels[1]}"' in chart
        assert f'id="{labels[2]}"' in chart
    assert page.count('class="card chart-card"') == page.count("<summary>Figures</summary>") == 9


def test_files_have_harmless_names_and_pages_do_not_run_by_themselves(tmp_path: Path) -> None:
    evil = "../../etc/<x>\x00 passwd"
    runs = (run(0, decode=50, prefill=900, answer="<html><script>alert(1)</script></html>"),)
    write_pages(report((cell(target(evil), runs=runs),), task="html"), tmp_path / "report")
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert names[0] == "report/index.html"
    assert all(re.fullmatch(r"report/pages/[A-Za-z0-9._-]+\.(txt|view\.html)", name) for name in names[1:])
    viewer = elements(next((tmp_path / "report").rglob("*.view.html")).read_text(encoding="utf-8"))
    assert [frame["sandbox"] for frame in viewer.of("iframe")] == ["allow-scripts"]
    assert not viewer.of("script")
