"""`lmstrix bench --targets`: several servers side by side, on the real engine, which speaks both interfaces."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.benchmark.records import BenchReport, from_json
from tests.cli.conftest import SCRIPTED, TINY, Ran, loaded_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine

    Cli = Callable[..., Ran]


@pytest.fixture
def targets(tmp_path: Path, engine: EmbeddedEngine) -> Path:
    """The same engine twice: as what it is, and as a server that loads its models by itself."""
    file = tmp_path / "targets.toml"
    file.write_text(
        f'[[target]]\nname = "ours"\naddress = "{engine.address}"\nmodels = ["{TINY}"]\n'
        f'[[target]]\nname = "theirs"\naddress = "openai:http://{engine.address}"\nkey_variable = "THEIR_KEY"\n'
        f'models = ["{TINY}", "{SCRIPTED}"]\nleave_out = ["seed", "return_progress"]\n',
        encoding="utf-8",
    )
    return file


@pytest.mark.slow
def test_servers_are_measured_into_one_report(
    cli: Cli, engine: EmbeddedEngine, targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_KEY", "a-secret-key")
    cli("scan").ok()
    folder = tmp_path / "r"
    words = ("bench", "--targets", str(targets), "--runs", "2", "--max-tokens", "8", "--out", str(folder))
    done = cli(*words).ok()
    assert "ours and theirs are on one machine" in done.err
    head, *lines = done.out.splitlines()
    assert head.split()[0] == "MODEL"
    assert any(line.startswith(f"{TINY} on ours") for line in lines)
    assert any(line.split()[:3] == ["SERVER", "ADDRESS", "ROUND"] for line in lines)

    report = from_json(BenchReport, json.loads((folder / "report.json").read_text(encoding="ascii")))
    assert [(one.name, one.engine, one.left_out) for one in report.servers] == [
        ("ours", "embedded", ()),
        ("theirs", "openai", ("seed", "return_progress")),
    ]
    cells = {cell.cell.name: cell for cell in report.cells}
    assert set(cells) == {f"{TINY} on ours", f"{TINY} on theirs", f"{SCRIPTED} on theirs"}
    for cell in cells.values():
        assert cell.outcome == "ok", cell.reason
        server = next(one for one in report.servers if one.name == cell.cell.target.server)
        assert server.round_trip_s is not None
        less, whole = cell.summaries["ttft_less_round_trip_s"], cell.summaries["ttft_s"]
        assert less.median == pytest.approx(whole.median - server.round_trip_s)
    for name in ("report.json", "report.md", "index.html"):
        assert "a-secret-key" not in (folder / name).read_text(encoding="utf-8")
    assert "Less round trip" in (folder / "report.md").read_text(encoding="utf-8")
    assert "Less round trip" in (folder / "index.html").read_text(encoding="utf-8")
    assert not [model for model in loaded_on(engine.address) if model.instance_id.startswith("lmstrix-bench-")]
    same = cli("bench", "compare", str(folder), str(folder), "--json").ok()
    assert f"{TINY} on theirs" in {one["cell"] for one in same.json["comparisons"]}


def test_a_missing_key_and_an_unknown_model_are_said_before_anything_is_loaded(
    cli: Cli, engine: EmbeddedEngine, targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("bench", "--targets", str(targets)).failed(2, "theirs", "THEIR_KEY")
    monkeypatch.setenv("THEIR_KEY", "x")
    cli("scan").ok()
    targets.write_text(targets.read_text(encoding="utf-8").replace(f'"{SCRIPTED}"', '"nobody"'), encoding="utf-8")
    assert cli("bench", "--targets", str(targets)).code == 1
    cli("bench", "--targets", str(tmp_path / "none.toml")).failed(1, "no file at")
    assert loaded_on(engine.address) == []


@pytest.mark.parametrize("words", [(TINY,), ("--all",), ("--server", "embedded"), ("--rate", "1"), ("--resume",)])
def test_targets_stand_alone(cli: Cli, targets: Path, words: tuple[str, ...]) -> None:
    cli("bench", "--targets", str(targets), *words).failed(2, "--targets")


def test_leave_out_is_for_servers_that_are_told_parameters(cli: Cli, engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan").ok()
    file = tmp_path / "targets.toml"
    for address, field, part in (
        (engine.address, "seed", "leave_out is for servers"),
        (f"openai:http://{engine.address}", "messages", "cannot be left out"),
    ):
        file.write_text(f'[[target]]\nname = "a"\naddress = "{address}"\nleave_out = ["{field}"]\n', encoding="utf-8")
        done = cli("bench", "--targets", str(file))
        assert done.code != 0
        assert part in done.lines[-1]
