"""`lmstrix bench` end to end on the real engine, and everything that reads a report again."""

from __future__ import annotations

import json
import shutil
import signal
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.benchmark.events import BenchEvent
from lmstrix.core.benchmark.records import BenchReport, from_json
from lmstrix.core.benchmark.saved import BenchJournal
from lmstrix.core.history import History
from lmstrix.ground.paths import own_folder
from lmstrix.reports.bench.files import write_report
from lmstrix.reports.bench.terminal import BenchProgressLine
from lmstrix.reports.console import Console
from tests.cli.conftest import EMBEDDING, SCRIPTED, TINY, Ran, loaded_on
from tests.cli.processes import finish, start
from tests.reports.bench.bench_reports import cell, report, run, target

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine import EmbeddedEngine

    Cli = Callable[..., Ran]


def speeds(folder: Path, *, decode: float, runs: int = 8) -> str:
    """The folder of a report of one model at about this speed."""
    series = tuple(run(i, decode=decode * (1 + i / 1000), prefill=900 + i) for i in range(runs))
    write_report(report((cell(target("m"), runs=series),)), folder)
    return str(folder)


@pytest.mark.slow
def test_bench_measures_and_writes_a_report(cli: Cli, engine: EmbeddedEngine, home: Path) -> None:
    cli("scan").ok()
    words = ("bench", SCRIPTED, TINY, "--runs", "2", "--context-tiers", "0,512,64k", "--max-tokens", "16", "--no-power")
    done = cli(*words, "--json").ok()
    assert done.json["schema"] == "lmstrix.bench/1"
    outcomes = {(c["cell"]["target"]["model_key"], c["cell"]["tier_tokens"]): c["outcome"] for c in done.json["cells"]}
    assert outcomes[SCRIPTED, 512] == outcomes[TINY, 0] == "ok"
    assert outcomes[TINY, 65536] == "skipped"
    assert loaded_on(engine.address) == []

    index = Path(done.json["report"])
    assert index.parent.parent == own_folder(home) / "reports"
    names = {
        str(path.relative_to(index.parent)).partition("-")[0] for path in index.parent.rglob("*") if path.is_file()
    }
    assert names == {
        "index.html", "report.json", "report.md", "samples.csv", f"models/{SCRIPTED}", f"models/{TINY}",
        f"pages/{SCRIPTED}", f"pages/{TINY}",
    }  # fmt: skip
    page = index.read_text(encoding="utf-8")
    assert "beyond" in page
    assert "none: energy was not measured" in page
    target_json = done.json["cells"][0]["cell"]["target"]
    assert target_json["quantization"]
    assert target_json["size_bytes"]
    assert done.json["environment"]["machine"]["memory_bytes"]
    assert done.json["cells"][0]["prompt"]
    kept = from_json(BenchReport, json.loads((index.parent / "report.json").read_text(encoding="ascii")))
    assert [len(one.runs) for one in kept.cells] == [2, 2, 0, 2, 2, 0]

    listed = cli("bench", "history", "--json").ok().json["runs"]
    assert {one["session"] for one in listed} == {kept.session}
    assert cli("bench", "history", "--last", "3").ok().out.count(kept.session[:8]) == 3
    again = cli("bench", "report", kept.session[:10], "--format", "csv").ok()
    assert again.out.splitlines()[0].startswith("model_key,tier_tokens,")
    same = cli("bench", "compare", "last", str(index.parent), "--json", "--fail-on", "5%").ok()
    assert {one["verdict"] for one in same.json["comparisons"]} <= {"no difference", "too few runs"}


def test_bench_shows_a_table_and_tells_what_was_skipped(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan").ok()
    done = cli("bench", TINY, "--runs", "1", "--max-tokens", "8", "--out", str(tmp_path / "r"), "--no-power").ok()
    assert done.out.splitlines()[0].split()[:2] == ["MODEL", "CONTEXT"]
    assert TINY in done.out
    assert f"report: {tmp_path / 'r' / 'index.html'}" in done.err
    assert "energy was not measured" in done.err
    for fact in (
        "machine: ",
        "processor: ",
        "main memory: ",
        "load while measuring: engine ",
        "lmstrix: ",
        "llama.cpp ",
    ):
        assert fact in done.err
    assert "beside the server's own clock: " in done.err
    text = cli("bench", "report", str(tmp_path / "r"), "--format", "md").ok()
    assert "Beside the server's own clock:" in text.out
    skipped = cli("bench", TINY, "--runs", "1", "--context-tiers", "64k", "--out", str(tmp_path / "s")).ok()
    assert "skipped" in skipped.out
    assert not any((tmp_path / "s").glob("pages/*"))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "MODELS or --all"),
        ((TINY, "--all"), "MODELS or --all"),
        ((TINY, "--context-tiers", "4k,x"), "--context-tiers: 'x'"),
        ((TINY, "--context-tiers", "8"), "at least 128"),
        ((TINY, "--concurrency", "0"), "--concurrency"),
        ((TINY, "--runs", "0"), "--runs"),
        ((TINY, "--task", "poem"), "not one of"),
        ((TINY, "--prompt", "a", "--file-prompt", "b"), "not both"),
        ((EMBEDDING,), "embedding model"),
        ((TINY, "--fail-on", "5%"), "--against"),
        ((TINY, "--against-gpu", "0"), "--against"),
        ((TINY, SCRIPTED, "--against", TINY), "one model on each side"),
        ((TINY, "--against", EMBEDDING), "embedding model"),
        ((TINY, "--against", TINY, "--blocks", "0"), "--blocks"),
    ],
)
def test_bad_words_are_refused_before_anything_is_loaded(
    cli: Cli, engine: EmbeddedEngine, home: Path, words: tuple[str, ...], part: str
) -> None:
    cli("scan").ok()
    cli("bench", *words).failed(2, part)
    assert not (own_folder(home) / "reports").exists()


def test_an_unknown_model_is_named(cli: Cli, engine: EmbeddedEngine) -> None:
    cli("scan").ok()
    cli("bench", "no-such-model").failed(1, "no-such-model")


@pytest.mark.slow
def test_two_sides_of_one_model_are_measured_in_turns(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan").ok()
    folder = tmp_path / "r"
    words = ("--blocks", "7", "--max-tokens", "8", "--no-power", "--fail-on", "5%", "--out", str(folder))
    done = cli("bench", TINY, "--against", TINY, "--against-k-cache-type", "q8_0", "--json", *words)
    assert done.json["request"]["against_load"]["k_cache_type"] == "q8_0"
    assert [one["cell"]["target"]["side"] for one in done.json["cells"]] == ["A", "B"]
    assert [len(one["loads"]) for one in done.json["cells"]] == [7, 7]
    comparison = done.json["comparison"]
    assert comparison["method"] == "blocks"
    assert {one["cell"] for one in comparison["comparisons"]} == {TINY}
    assert loaded_on(engine.address) == []
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert f"{TINY} (A)" in page
    assert f"{TINY} (B)" in page
    again = cli("bench", "compare", str(folder), "--json").ok().json["comparisons"]
    assert again == comparison["comparisons"]
    told = cli("bench", "compare", str(folder), "--verbose").ok()
    assert "98% INTERVAL" in told.out.replace(" %", "%")
    assert "within a block" in told.err
    rows = (folder / "samples.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert {row.split(",")[3] for row in rows} == {"A", "B"}


def test_separate_sessions_tell_great_differences_only(cli: Cli, tmp_path: Path) -> None:
    fast, slow = speeds(tmp_path / "fast", decode=100), speeds(tmp_path / "slow", decode=80)
    shown = cli("bench", "compare", fast, slow, "--fail-on", "5%").ok()
    assert "-20.0%" in shown.out
    assert "cannot tell" in shown.out
    assert "--against" in shown.err
    cli("bench", "compare", fast).failed(2, "--against")


def test_compare_fails_on_a_regression(cli: Cli, home: Path, tmp_path: Path) -> None:
    fast, slow = speeds(tmp_path / "fast", decode=100), speeds(tmp_path / "slow", decode=20)
    with History(home / "lmstrix.db") as history:
        for number, decode in enumerate((97, 99, 100, 100, 101, 103)):
            kept = from_json(
                BenchReport, json.loads(Path(speeds(tmp_path / "x", decode=decode), "report.json").read_bytes())
            )
            journal = BenchJournal(history.benches, notify=pytest.fail)
            journal.begin(replace(kept, session=f"earlier {number}"), engine="embedded")
            journal.end(kept.cells[0])
    shown = cli("bench", "compare", fast, slow).ok()
    assert "-80.0%" in shown.out
    assert "worse" in shown.out
    failed = cli("bench", "compare", fast, slow, "--fail-on", "5%")
    assert failed.code == 1
    assert "worse by more than 5%" in failed.lines[-1]
    cli("bench", "compare", slow, fast, "--fail-on", "5%").ok()
    cli("bench", "compare", fast, slow, "--fail-on", "400%").ok()
    as_json = cli("bench", "compare", fast, slow, "--json", "--fail-on", "5")
    assert as_json.code == 1
    decode = next(one for one in as_json.json["comparisons"] if one["figure"] == "decode_tokens_per_second")
    assert decode["verdict"] == "worse"
    assert decode["interval_ratio"][0] < decode["change_ratio"] < decode["interval_ratio"][1] < 0


def test_a_report_prints_in_every_format(cli: Cli, tmp_path: Path) -> None:
    folder = speeds(tmp_path / "report", decode=100)
    assert cli("bench", "report", folder, "--format", "md").ok().out.startswith("# Benchmark")
    assert json.loads(cli("bench", "report", folder, "--format", "json").ok().out)["schema"] == "lmstrix.bench/1"
    suites = ET.fromstring(cli("bench", "report", f"{folder}/report.json", "--format", "junit").ok().out)
    assert suites.attrib["tests"] == "1"
    cli("bench", "report", folder, "--format", "csv", "--out", str(tmp_path / "x.csv")).ok()
    assert (tmp_path / "x.csv").read_text(encoding="utf-8").count("\n") == 9
    (tmp_path / "report" / "index.html").unlink()
    assert "report: " in cli("bench", "report", folder).ok().err
    assert (tmp_path / "report" / "index.html").is_file()


def test_what_is_no_report_is_said_in_one_line(cli: Cli, tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"cells": 1}', "[" * 100_000):
        (tmp_path / "report.json").write_text(text, encoding="utf-8")
        cli("bench", "report", str(tmp_path)).failed(1, "is no report")
    cli("bench", "report", "nothing-like-it").failed(2, "nothing-like-it")
    cli("bench", "compare", "last", "last").failed(2, "last")
    assert "no benchmark" in cli("bench", "history").ok().err


def test_failed_cells_fail_the_command_and_keep_the_report(
    cli: Cli, engine: EmbeddedEngine, models_dir: Path, tmp_path: Path
) -> None:
    cli("scan").ok()
    broken = models_dir / "acme" / "broken-GGUF" / "broken-f16.gguf"
    broken.parent.mkdir(parents=True)
    try:
        shutil.copy(next((models_dir / "acme" / "tiny-GGUF").iterdir()), broken)
        cli("scan").ok()
        size = broken.stat().st_size
        with broken.open("r+b") as file:
            file.truncate(size // 2)
        done = cli("bench", "broken", TINY, "--runs", "1", "--max-tokens", "8", "--out", str(tmp_path / "r"), "--json")
    finally:
        shutil.rmtree(broken.parent)
    assert done.code == 1
    outcomes = [one["outcome"] for one in done.json["cells"]]
    assert outcomes[1] == "ok"
    assert outcomes[0] not in ("ok", "skipped")
    assert "1 of 2 failed" in done.lines[-1]
    assert "failed" in (tmp_path / "r" / "index.html").read_text(encoding="utf-8")


def test_hostile_texts_reach_the_terminal_harmless(cli: Cli, tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07[bold]</script>\u202e"
    cells = (cell(target(evil), outcome="failed", reason=evil),)
    write_report(replace(report(cells), session=evil, host=evil, notes=(evil,)), tmp_path)
    for words in (("--format", "md"), ("--format", "junit")):
        shown = cli("bench", "report", str(tmp_path), *words).ok()
        assert "\x1b" not in shown.out
        assert "\x07" not in shown.out
    shown = cli("bench", "compare", str(tmp_path), str(tmp_path))
    assert "\x1b" not in shown.out + shown.err


@pytest.mark.slow
@pytest.mark.needs_posix("signals to a process")
def test_ctrl_c_keeps_what_was_measured(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan").ok()
    folder = tmp_path / "r"
    process = start("bench", TINY, "--runs", "9999", "--max-tokens", "8", "--verbose", "--out", str(folder))
    assert process.stderr is not None
    while b"run 3" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code == 130
    assert "interrupted" in out
    assert err.splitlines()[-1] == "lmstrix: interrupted"
    kept = from_json(BenchReport, json.loads((folder / "report.json").read_text(encoding="ascii")))
    assert kept.interrupted
    assert kept.cells[0].runs
    assert "interrupted, not complete" in (folder / "index.html").read_text(encoding="utf-8")
    assert loaded_on(engine.address) == []


def test_a_server_of_openais_interface_is_measured(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    words = ("--server", f"openai:http://{engine.address}/v1", "--runs", "1", "--max-tokens", "8")
    cli("bench", "no-such-model", *words).failed(1, "does not offer 'no-such-model'", TINY)
    done = cli("bench", TINY, *words, "--out", str(tmp_path), "--json").ok().json
    assert done["server"].startswith("openai at")
    (measured,) = done["cells"]
    assert measured["outcome"] == "ok"
    assert measured["loads"] == []


def test_a_terminal_shows_what_is_done_now(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = cell(target("\x1b[2Jevil [bold]"), runs=(run(1, decode=50, prefill=900),))
    with BenchProgressLine(Console(), live=True) as progress:
        for event in (
            BenchEvent(kind="load", cell=now.cell, cell_number=1, cells=2, ratio=0.5),
            BenchEvent(kind="answer", cell=now.cell, cell_number=1, cells=2, tokens=12, tokens_per_second=50.0),
            BenchEvent(kind="run", cell=now.cell, cell_number=1, cells=2, run=now.runs[0]),
            BenchEvent(kind="note", text="a remark"),
        ):
            progress.show(event)
    with BenchProgressLine(Console(), live=False) as progress:
        progress.show(BenchEvent(kind="cell", cell=now.cell, cell_number=1, cells=1, result=now))
    err = capsys.readouterr().err
    assert "a remark" in err
    assert "?[2Jevil [bold]: 50.0 t/s, 1 run" in err
    assert "\x1b[2J" not in err


def test_power_tells_sources_and_remedies(cli: Cli) -> None:
    told = cli("power", "--watch", "10ms", "--json").ok().json
    assert {source["name"] for source in told["sources"]}
    assert all(source["available"] or not source["measures"] for source in told["sources"])
    assert cli("power", "--watch", "10ms").ok().err or told["channels"]
