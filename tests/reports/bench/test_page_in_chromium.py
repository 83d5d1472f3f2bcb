"""The page in a real browser: it sorts, filters, prints, fits any width, and a hostile page gets nowhere."""

from __future__ import annotations

import asyncio
import base64
import random
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstrix.reports.bench import html
from lmstrix.reports.bench.charts import Dot, scatter_chart
from lmstrix.reports.bench.html import write_pages
from tests.reports.bench.bench_reports import cell, report, run, target

if TYPE_CHECKING:
    from tests.reports.bench.chromium import Browser, Tab

pytestmark = pytest.mark.asyncio(loop_scope="session")

MODELS = "[...document.querySelectorAll('#table tbody tr')].filter((r) => !r.hidden).map((r) => r.dataset.model)"
COLUMN = "(n) => [...document.querySelectorAll('#table tbody tr')].map((r) => r.cells[n].textContent)"

HOSTILE = """<!doctype html><html><head>
<link rel=preconnect href="http://127.0.0.1:PORT/"><LINK rel=dns-prefetch href="//127.0.0.1:PORT">
<link rel=prefetch href="http://127.0.0.1:PORT/prefetch"><link rel=stylesheet href="http://127.0.0.1:PORT/css">
<link rel=preload as=script href="http://127.0.0.1:PORT/preload"><link rel=icon href="http://127.0.0.1:PORT/icon">
<link/rel=preconnect href="http://127.0.0.1:PORT/"><link
rel=modulepreload href="http://127.0.0.1:PORT/module"><base href="http://127.0.0.1:PORT/base/" target=_top>
<meta http-equiv=refresh content="0;url=http://127.0.0.1:PORT/refresh">
<style>@import "http://127.0.0.1:PORT/import"; body{background:url(http://127.0.0.1:PORT/background);font-family:x}
@font-face{font-family:x;src:url(http://127.0.0.1:PORT/font)} h1{color:rgb(1,2,3)}</style></head>
<body onload="top.document.title='OWNED'"><h1>text</h1>
<img src="http://127.0.0.1:PORT/img" onerror="top.location='x:'">
<iframe src="http://127.0.0.1:PORT/frame"></iframe>
<iframe srcdoc="<script>parent.parent.document.title='OWNED'</script>">
</iframe><object data="http://127.0.0.1:PORT/object"></object><embed src="http://127.0.0.1:PORT/embed">
<video autoplay src="http://127.0.0.1:PORT/video" poster="http://127.0.0.1:PORT/poster"></video>
<svg><image href="http://127.0.0.1:PORT/svg"/><script>top.document.title="OWNED"</script></svg>
<form id=f action="http://127.0.0.1:PORT/form" target=_top><input autofocus onfocus="this.form.submit()"></form>
<script src="http://127.0.0.1:PORT/script"></script><script>
for (const act of [
  () => { top.document.title = "OWNED"; }, () => { parent.postMessage("owned", "*"); },
  () => { top.location = "http://127.0.0.1:PORT/top"; }, () => { open("http://127.0.0.1:PORT/open"); },
  () => { fetch("http://127.0.0.1:PORT/fetch"); }, () => { new WebSocket("ws://127.0.0.1:PORT/socket"); },
  () => { navigator.sendBeacon("http://127.0.0.1:PORT/beacon"); }, () => { document.getElementById("f").submit(); },
  () => { new Image().src = "http://127.0.0.1:PORT/image"; },
]) { try { act(); } catch (error) {} }
</script></body></html></iframe></script>"""


class Listener:
    """Hears whoever connects, and what they say: a connection made ahead says nothing."""

    def __init__(self) -> None:
        self.connections = 0
        self.heard: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.heard.append(await reader.read(100))
        writer.close()


async def open_page(tab: Tab, page: Path) -> None:
    await tab.open(page.as_uri())


async def test_sorting_by_mouse_and_keyboard(browser: Browser, fleet_page: Path) -> None:
    async with browser.tab() as tab:
        await open_page(tab, fleet_page)
        head = "document.querySelectorAll('#table thead th')[2]"
        await tab.run(f"{head}.querySelector('button').click()")
        assert await tab.run(f"{head}.getAttribute('aria-sort')") == "ascending"
        speeds = await tab.run(f"({COLUMN})(2)")
        numbers = [float(speed) for speed in speeds if speed != "-"]
        assert numbers == sorted(numbers)
        assert speeds[-4:] == ["-"] * 4, "what was not measured is last"
        await tab.run(f"{head}.querySelector('button').focus()")
        await tab.press("Enter", 13)
        assert await tab.run(f"{head}.getAttribute('aria-sort')") == "descending"
        speeds = await tab.run(f"({COLUMN})(2)")
        assert [float(speed) for speed in speeds if speed != "-"] == sorted(numbers, reverse=True)
        assert speeds[-4:] == ["-"] * 4
        assert tab.messages == []


async def test_filtering_reaches_rows_charts_and_answers(browser: Browser, fleet_page: Path) -> None:
    async with browser.tab() as tab:
        await open_page(tab, fleet_page)
        await tab.press("/")
        assert await tab.run("document.activeElement.id") == "filter"
        await tab.type("GEMMA")
        assert set(await tab.run(MODELS)) == {"gemma-3-12b-it-qat"}
        seen = (
            "[...document.querySelectorAll('{}')].filter((e) => e.getClientRects().length).map((e) => e.dataset.model)"
        )
        for part in (".series", ".gallery article", ".matrix tbody tr"):
            assert set(await tab.run(seen.replace("{}", part))) == {"gemma-3-12b-it-qat"}
        assert await tab.run("document.getElementById('count').textContent") == "5 of 25 rows"
        await tab.type(" skipped")
        assert await tab.run(MODELS) == ["gemma-3-12b-it-qat"]
        await tab.type(" nothing like it")
        assert await tab.run("document.getElementById('nothing').checkVisibility()") is True
        await tab.press("Escape", 27)
        assert len(await tab.run(MODELS)) == 25
        await tab.run("document.querySelector('[data-toggle=\"lfm2-2.6b\"]').click()")
        assert len(await tab.run(MODELS)) == 20
        assert await tab.run("document.querySelector('[data-toggle=\"lfm2-2.6b\"]').ariaPressed") == "false"


@pytest.mark.parametrize("width", [400, 900, 1600])
async def test_it_fits_and_reads_in_both_schemes(browser: Browser, fleet_page: Path, width: int) -> None:
    async with browser.tab() as tab:
        await tab.size(width)
        papers = []
        for scheme in ("light", "dark"):
            await tab.prefer(scheme)
            await open_page(tab, fleet_page)
            assert await tab.run("document.documentElement.scrollWidth") <= width
            heights = await tab.run(
                "[...document.querySelectorAll('#table tbody tr, .matrix tbody tr, .clocks tbody tr')]"
                ".map((row) => row.offsetHeight)"
            )
            assert max(heights) < 100, "names are not broken letter by letter"
            papers.append(await tab.run("getComputedStyle(document.body).backgroundColor"))
            contrast = await tab.run(
                "(() => { const light = (c) => { const v = c.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255)"
                ".map((x) => (x <= 0.04 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));"
                " return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };"
                " const paper = light(getComputedStyle(document.body).backgroundColor);"
                " return ['h1', '.about', '.environment dt', '.link', '.doubt'].map((s) => {"
                " const ink = light(getComputedStyle(document.querySelector(s)).color);"
                " return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); }); })()"
            )
            assert min(contrast) >= 4.5, contrast
        assert papers[0] != papers[1]
        await tab.run("document.getElementById('theme').click()")
        assert await tab.run("getComputedStyle(document.body).backgroundColor") == papers[0]


async def test_without_scripts_everything_is_there(browser: Browser, fleet_page: Path) -> None:
    async with browser.tab(scripts=False) as tab:
        await open_page(tab, fleet_page)
        await tab.call("Emulation.setScriptExecutionDisabled", value=False)
        assert len(await tab.run(MODELS)) == 25
        hidden = "[...document.querySelectorAll('.js')].filter((e) => e.getClientRects().length).length"
        assert await tab.run(hidden) == 0, "controls that would do nothing are not shown"
        assert await tab.run("document.querySelectorAll('svg.chart').length") == 9
        assert await tab.run("document.querySelector('.key-list').checkVisibility()") is True


async def test_a_legend_stands_at_every_chart_that_names_no_rows(browser: Browser, fleet_page: Path) -> None:
    async with browser.tab() as tab:
        await open_page(tab, fleet_page)
        legends = await tab.run(
            "[...document.querySelectorAll('.chart-card .key-list')].filter((l) => l.checkVisibility())"
            ".map((l) => [l.closest('figure').querySelector('strong').textContent, l.children.length])"
        )
        assert legends == [
            ["Decode speed", 5],
            ["Prefill speed", 5],
            ["Time to first token", 5],
        ]


COLLISIONS = """[...document.querySelectorAll('svg.chart')].flatMap((chart) => {
  const frame = chart.viewBox.baseVal, box = (e) => e.getBBox();
  const names = [...chart.querySelectorAll('text.name')].map((e) => [e.textContent, box(e)]);
  const marks = [...chart.querySelectorAll('.mark')].map((e) => ['mark', box(e)]);
  const meet = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
  const found = [];
  names.forEach(([name, a], i) => {
    [...names.slice(i + 1), ...marks].forEach(([other, b]) => { if (meet(a, b)) found.push([name, other]); });
    if (a.x < 0 || a.y < 0 || a.x + a.width > frame.width || a.y + a.height > frame.height) found.push([name, 'edge']);
  });
  return found;
})"""


async def test_names_in_a_scatter_cover_nothing(browser: Browser, tmp_path: Path) -> None:
    """However near to each other the models are: in a heap, in a row, at the edges, with long and wide names."""
    chance = random.Random(3)
    charts = []
    for number in range(60):
        spread = (0.01, 0.1, 1.0)[number % 3]
        at = (chance.uniform(0, 1), chance.uniform(0, 1))
        dots = [
            Dot(
                name=chance.choice(("m", "WWWMMM-24B", "模型-七十億-指令", "mistral-small-3.2-24b-instruct-2506"))
                + str(i),
                slot=i,
                x=20 + 100 * max(0.0, at[0] + spread * chance.uniform(-1, 1)),
                y=5 + 10 * max(0.0, at[1] + spread * chance.uniform(-1, 1)),
                label="",
            )
            for i in range(chance.randint(2, 8))
        ]
        charts.append(
            scatter_chart(dots, identifier=f"c{number}", title="A", description="B", x_title="C", more_y_is_better=True)
        )
    style = (Path(html.__file__).parent / "templates" / "bench.css").read_text(encoding="utf-8")
    page = tmp_path / "scatter.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><style>{style}</style>{''.join(charts)}", encoding="utf-8")
    async with browser.tab() as tab:
        await open_page(tab, page)
        assert await tab.run("document.querySelectorAll('text.name').length") > 200
        assert await tab.run(COLLISIONS) == []


async def test_it_prints_without_controls(browser: Browser, fleet_page: Path) -> None:
    async with browser.tab() as tab:
        await open_page(tab, fleet_page)
        printed = await tab.call("Page.printToPDF", printBackground=True)
        assert len(printed["data"]) > 10_000
        await tab.size(720)
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        await tab.call("Emulation.setEmulatedMedia", media="print", features=dark)
        assert await tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert await tab.run("document.documentElement.scrollWidth") <= 720, "tables are not cut off"
        shown = "['.top', '.controls', '#theme', '#table'].map((s) => document.querySelector(s).checkVisibility())"
        assert await tab.run(shown) == [False, False, False, True]


async def test_downloads_hold_every_run(browser: Browser, fleet_page: Path) -> None:
    async with browser.tab() as tab:
        await open_page(tab, fleet_page)
        await tab.run(
            "window.saved = null; HTMLAnchorElement.prototype.click = function () { window.saved = this; };"
            "document.getElementById('save-csv').click()"
        )
        assert await tab.run("window.saved.download") == "lmstrix-bench-20260517-140321.csv"
        data = await tab.run("JSON.parse(document.getElementById('data').textContent).rows.length")
        assert data == 21 * 6 + 4


async def test_a_hostile_page_reaches_neither_report_nor_network(browser: Browser, tmp_path: Path) -> None:
    listener = Listener()
    server = await asyncio.start_server(listener, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer = HOSTILE.replace("PORT", str(port))
    runs = (run(0, decode=50, prefill=900, answer=answer),)
    index = write_pages(report((cell(target("evil"), runs=runs),), task="html"), tmp_path)
    async with browser.tab() as tab:
        await tab.size(1200, 6000)  # so that the lazy frame is in view
        await tab.call(
            "Page.addScriptToEvaluateOnNewDocument", source="addEventListener('message', () => { window.told = 1 })"
        )
        await open_page(tab, index)
        await asyncio.sleep(1.0)
        assert await tab.run("document.title") == "Benchmark of evil · LMStrix"
        assert await tab.run("window.told") is None
        assert await tab.run("location.href") == index.as_uri()
        assert not [address for address in tab.requests if re.match("https?:|wss?:", address)]
        assert await tab.run("document.querySelector('iframe').contentDocument") is None
        targets = (await tab.call("Target.getTargets"))["targetInfos"]
        assert "about:srcdoc" in [one["url"] for one in targets if one["type"] == "iframe"], "the page was shown"
    server.close()
    await server.wait_closed()
    assert listener.connections == 0


async def test_the_viewer_runs_scripts_in_a_box(browser: Browser, tmp_path: Path) -> None:
    listener = Listener()
    server = await asyncio.start_server(listener, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer = HOSTILE.replace("PORT", str(port)).replace("top.location=", "x=").replace("top.location =", "x =")
    runs = (run(0, decode=50, prefill=900, answer=answer + "<script>document.title = 'RAN'</script>"),)
    write_pages(report((cell(target("evil"), runs=runs),), task="html"), tmp_path)
    viewer = next(tmp_path.rglob("*.view.html"))
    async with browser.tab() as tab:
        await open_page(tab, viewer)
        await asyncio.sleep(1.0)
        assert await tab.run("document.title") == "Page by evil · LMStrix"
        assert await tab.run("location.href") == viewer.as_uri()
        assert await tab.run("document.querySelector('iframe').contentDocument") is None
    server.close()
    await server.wait_closed()
    assert b"".join(listener.heard) == b""


async def test_the_viewer_stays_where_it_is(browser: Browser, tmp_path: Path) -> None:
    """A page that sends itself elsewhere is still shown, and nobody hears of it."""
    listener = Listener()
    server = await asyncio.start_server(listener, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer = (
        f"<html><head><META\nhttp-equiv='refresh' content='0;url=http://127.0.0.1:{port}/'>"
        "<meta/http-equiv=refresh content='0;url=data:text/html,gone'></head><body>here</body></html>"
    )
    write_pages(
        report((cell(target("evil"), runs=(run(0, decode=5, prefill=9, answer=answer),)),), task="html"), tmp_path
    )
    async with browser.tab() as tab:
        await open_page(tab, next(tmp_path.rglob("*.view.html")))
        await asyncio.sleep(1.0)
        targets = (await tab.call("Target.getTargets"))["targetInfos"]
        assert [one["url"] for one in targets if one["type"] == "iframe"] == ["about:srcdoc"]
        assert not [address for address in tab.requests if re.match("https?:|data:text", address)]
    server.close()
    await server.wait_closed()
    assert listener.connections == 0


@pytest.mark.parametrize("element", ["html", "body", "p"])
async def test_pages_of_models_are_printed_with_their_backgrounds(
    browser: Browser, tmp_path: Path, element: str
) -> None:
    """White words on a background that a printer leaves out would be nothing."""
    answer = f"<html><style>{element}{{background:#000cff;color:#fff}}</style><body><p>words</p></body></html>"
    index = write_pages(
        report((cell(target("m"), runs=(run(0, decode=5, prefill=9, answer=answer),)),), task="html"), tmp_path
    )
    async with browser.tab() as tab:
        await tab.size(1200, 6000)  # so that the lazy frame is in view
        await open_page(tab, index)
        await asyncio.sleep(0.5)
        printed = await tab.call("Page.printToPDF", printBackground=False)
    drawn = [zlib.decompressobj().decompress(part) for part in flate_streams(base64.b64decode(printed["data"]))]
    assert any(re.search(rb"\b0 \.047\d* 1 rg", part) for part in drawn), "blue is used to fill"


def flate_streams(pdf: bytes) -> list[bytes]:
    """The compressed drawings of a PDF."""
    return re.findall(rb"/Filter /FlateDecode[^>]*>> stream\r?\n(.*?)endstream", pdf, re.DOTALL)
