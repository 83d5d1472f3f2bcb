"""`lmstrix bench --rate` and `--sweep` end to end on the real engine, and everything that reads a report again."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder
from tests.cli.conftest import TINY, Ran, loaded_on
from tests.cli.processes import finish, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine

    Cli = Callable[..., Ran]

RATE = ("bench", TINY, "--rate", "4,8", "--span", "2", "--max-tokens", "4", "--goodput", "ttft=60s,itl=10s")


def test_rates_are_sent_and_reported(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan").ok()
    folder = tmp_path / "r"
    done = cli(*RATE, "--out", str(folder), "--json").ok()
    assert done.json["schema"] == "lmstrix.traffic/1"
    assert done.json["report"] == str(folder / "index.html")
    (result,) = done.json["results"]
    assert result["outcome"] == "ok"
    assert [stage["rate_per_s"] for stage in result["stages"]] == [None, 4.0, 8.0]
    for stage in result["stages"]:
        figures = stage["figures"]
        assert figures["sent"] == len(stage["requests"]) == figures["finished"]
        assert figures["goodput_ratio"] == 1.0
        assert {one["completion_tokens"] for one in stage["requests"]} <= {1, 2, 3, 4}
    assert loaded_on(engine.address) == []

    assert json.loads((folder / "report.json").read_text(encoding="ascii"))["session"] == done.json["session"]
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "requests per second" in page
    assert "<script" not in page
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "first token within 60.0 s, between tokens within 10.0 s" in text
    assert cli("bench", "report", str(folder), "--format", "md").ok().out == text
    (folder / "index.html").unlink()
    cli("bench", "report", str(folder)).ok()
    assert (folder / "index.html").read_text(encoding="utf-8") == page
    assert cli("bench", "report", str(folder), "--json").ok().json["session"] == done.json["session"]
    cli("bench", "report", str(folder), "--format", "csv").failed(2, "csv")
    cli("bench", "compare", str(folder), str(folder)).failed(1, "is no report")


def test_a_rate_shows_a_table_and_what_it_comes_to(cli: Cli, engine: EmbeddedEngine, home: Path) -> None:
    cli("scan").ok()
    done = cli("bench", TINY, "--rate", "5", "--span", "1s", "--max-tokens", "4").ok()
    assert done.out.split()[:3] == ["MODEL", "RATE", "SENT/S"]
    assert "one at a time" in done.out
    assert "answered 4 at a time" in done.err
    assert "finished" in done.err
    assert list((own_folder(home) / "reports").glob("*/index.html"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--rate", "1", "--sweep"), ["--rate", "--sweep"]),
        (("--rate", "0"), ["--rate", "more than 0"]),
        (("--rate", "1,x"), ["--rate", "'x'"]),
        (("--rate", "1", "--goodput", "ttft"), ["--goodput", "ttft=1s"]),
        (("--rate", "1", "--goodput", "ttft=1s,ttft=2s"), ["--goodput", "twice"]),
        (("--rate", "1", "--goodput", "itl=0"), ["--goodput: itl"]),
        (("--rate", "1", "--span", "0"), ["--span"]),
        (("--sweep", "--concurrency", "1,2"), ["--concurrency"]),
        (("--sweep", "--context-tiers", "0,512"), ["--context-tiers"]),
        (("--sweep", "--resume"), ["--resume"]),
        (("--span", "5"), ["--rate"]),
        (("--goodput", "ttft=1"), ["--rate"]),
    ],
)
def test_bad_words_are_refused_before_anything_is_loaded(
    cli: Cli, engine: EmbeddedEngine, home: Path, words: tuple[str, ...], parts: list[str]
) -> None:
    cli("bench", TINY, *words).failed(2, *parts)
    assert not (own_folder(home) / "reports").exists()


@pytest.mark.slow
@pytest.mark.needs_posix("signals to a process")
def test_ctrl_c_keeps_what_was_sent(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan").ok()
    folder = tmp_path / "r"
    process = start("bench", TINY, "--rate", "5", "--span", "1h", "--max-tokens", "4", "--out", str(folder))
    assert process.stderr is not None
    while b"one at a time" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code == 130
    assert "interrupted" in out
    assert err.splitlines()[-1] == "lmstrix: interrupted"
    kept = json.loads((folder / "report.json").read_text(encoding="ascii"))
    assert kept["interrupted"]
    assert [stage["interrupted"] for stage in kept["results"][0]["stages"]] == [False, True]
    assert loaded_on(engine.address) == []
