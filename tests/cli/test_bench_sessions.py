"""What a benchmark finds, leaves and writes on the real engine: room, strays, time limits, signals, folders."""

from __future__ import annotations

import csv
import json
import signal
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.answers.load_policy import BENCH_PREFIX, OWN_PREFIX, TESTED_PREFIX
from lmstrix.core.benchmark.energy import PowerChannel
from lmstrix.core.benchmark.power import PowerSource, ReplaySource
from lmstrix.core.benchmark.records import BenchReport, from_json
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.paths import own_folder
from tests.cli.conftest import SCRIPTED, TINY, Ran, client_of, loaded_on
from tests.cli.processes import finish, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.core.benchmark.energy import Part
    from lmstrix.engine import EmbeddedEngine

    Cli = Callable[..., Ran]

pytestmark = pytest.mark.slow

QUICK = ("--runs", "1", "--max-tokens", "8", "--no-power")


def load_as(address: str, instance_id: str) -> None:
    """What a killed process left: a loaded instance of this name."""
    with client_of(address) as client:
        client.portal.run(client.backend.load(TINY, LoadConfig(context_length=512), instance_id=instance_id))


def names_on(address: str) -> list[str]:
    return [model.instance_id for model in loaded_on(address)]


def test_an_answerer_that_is_idle_makes_room(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan").ok()
    cli("infer", "Hello", "-m", TINY, "--out-ctx", "4").ok()
    assert [name.startswith(OWN_PREFIX) for name in names_on(engine.address)] == [True]
    done = cli("bench", TINY, *QUICK, "--out", str(tmp_path)).ok()
    assert "measured beside" not in done.err
    assert names_on(engine.address) == []


@pytest.mark.parametrize("prefix", [BENCH_PREFIX, TESTED_PREFIX])
def test_what_a_killed_run_left_is_unloaded_by_the_next(
    cli: Cli, engine: EmbeddedEngine, tmp_path: Path, prefix: str
) -> None:
    cli("scan").ok()
    for words in (("bench", TINY, *QUICK, "--out", str(tmp_path)), ("test", TINY, "--ctx", "512", "--fast")):
        load_as(engine.address, f"{prefix}killed-1")
        done = cli(*words).ok()
        assert f"unloaded {prefix}killed-1, left over from an interrupted run" in done.err
        assert names_on(engine.address) == []


def test_what_others_have_loaded_stays_and_is_told(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan").ok()
    load_as(engine.address, "somebody-elses")
    done = cli("bench", TINY, *QUICK, "--out", str(tmp_path)).ok()
    assert "loaded too, and measured beside: somebody-elses" in done.err
    assert names_on(engine.address) == ["somebody-elses"]


def test_an_answer_has_the_time_of_the_common_timeout(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan").ok()
    done = cli("bench", TINY, *QUICK, "--timeout", "1ms", "--out", str(tmp_path), "--json")
    assert done.code == 1
    assert [one["outcome"] for one in done.json["cells"]] == ["timed out"]
    assert done.json["request"]["deadlines"]["total_s"] == 0.001


def test_a_budget_that_is_spent_leaves_a_report_and_nothing_loaded(
    cli: Cli, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    cli("scan").ok()
    words = ("--runs", "2000", "--max-tokens", "8", "--no-power", "--budget", "4s", "--out", str(tmp_path))
    done = cli("bench", TINY, SCRIPTED, *words, "--json").ok()
    assert len(done.json["cells"]) == 2
    assert all(one["reason"].endswith(" of 2000 runs: the time budget was spent") for one in done.json["cells"])
    assert (tmp_path / "index.html").is_file()
    assert names_on(engine.address) == []


def test_no_save_writes_nothing(cli: Cli, engine: EmbeddedEngine, home: Path) -> None:
    cli("scan").ok()
    done = cli("bench", TINY, *QUICK, "--no-save").ok()
    assert TINY in done.out
    assert "report:" not in done.err
    assert not (own_folder(home) / "reports").exists()
    assert cli("bench", "history", "--json").ok().json["runs"] == []
    assert cli("bench", TINY, *QUICK, "--no-save", "--json").ok().json["report"] is None


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--no-save", "--resume"), "--no-save"),
        (("--no-save", "--out", "x"), "--no-save"),
        (("--power-interval", "0.1ms"), "--power-interval"),
        (("--power-interval", "1m"), "--power-interval"),
    ],
)
def test_words_that_make_no_sense_together(cli: Cli, home: Path, words: tuple[str, ...], part: str) -> None:
    cli("bench", TINY, *words).failed(2, part)


def test_a_folder_that_cannot_be_is_refused_before_measuring(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan").ok()
    (tmp_path / "file").write_text("here", encoding="utf-8")
    for folder in (tmp_path / "file" / "report", tmp_path / "file"):
        cli("bench", TINY, *QUICK, "--out", str(folder)).failed(2, f"no report can be written to {folder}")
    assert cli("bench", "history", "--json").ok().json["runs"] == []


@pytest.mark.needs_posix("signals are of another kind there")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_to_end_writes_the_report(cli: Cli, engine: EmbeddedEngine, tmp_path: Path, name: str) -> None:
    cli("scan").ok()
    process = start(
        "bench", TINY, "--runs", "9999", "--max-tokens", "8", "--verbose", "--no-power", "--out", str(tmp_path)
    )
    assert process.stderr is not None
    while b"run 3" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.Signals[name])
    code, _, _ = finish(process)
    assert code == 128 + signal.Signals[name]
    kept = from_json(BenchReport, json.loads((tmp_path / "report.json").read_text(encoding="ascii")))
    assert kept.interrupted
    assert kept.cells[0].runs
    assert names_on(engine.address) == []


def test_readings_of_power_are_kept_beside_the_report(
    cli: Cli, engine: EmbeddedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def sources(period_s: float) -> list[PowerSource]:
        asked.append(period_s)
        parts: tuple[Part, ...] = ("cpu", "memory", "gpu", "accelerator")
        channels = [PowerChannel(name=part, part=part, unit="W") for part in parts]
        return [ReplaySource(channels, [(40.0, 3.0, 100.0, 1.0)])]

    monkeypatch.setattr("lmstrix.core.benchmark.runner.open_power_sources", sources)
    cli("scan").ok()
    words = ("--runs", "1", "--max-tokens", "400", "--power-interval", "1ms", "--out", str(tmp_path))
    done = cli("bench", TINY, *words, "--json").ok()
    assert asked == [0.001]
    with (tmp_path / "power.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["source"], row["part"], row["unit"]) for row in rows} == {
        ("replay", part, "W") for part in ("cpu", "memory", "gpu", "accelerator")
    }
    (cell,) = done.json["cells"]
    (run,) = cell["runs"]
    energy = run["energy"]
    assert energy["average_power_w"] == pytest.approx(144.0)
    assert energy["minimum_power_w"] == pytest.approx(144.0)
    assert energy["maximum_power_w"] == pytest.approx(144.0)
    assert dict(energy["parts_gross_j"])["memory"] == pytest.approx(3.0 * energy["span_s"])
    assert cell["summaries"]["gpu_gross_j"]["median"] == pytest.approx(100.0 * energy["span_s"])
    with (tmp_path / "samples.csv").open(encoding="utf-8", newline="") as file:
        measured = [row for row in csv.DictReader(file) if row["warmup"] == "0"]
    assert float(measured[0]["accelerator_gross_j"]) == pytest.approx(energy["span_s"])
