"""After `scan --models-dir` a model's header is found again by the commands that predict with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.conftest import SCRIPTED, TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran


def test_estimate_reads_the_header_where_the_scan_found_it(
    cli: Callable[..., Ran], home: Path, models_dir: Path
) -> None:
    cli("scan", "--models-dir", str(models_dir), "--quiet").ok()
    ran = cli("estimate", TINY).ok()
    assert "guess" not in ran.out
    assert cli("estimate", TINY, "--json").ok().json["approximate"] is False
    assert cli("recommend", "--json").ok().json
    assert "guess" not in cli("test", TINY, "--dry-run").ok().out


def test_an_answer_is_given_by_an_engine_of_that_folder(cli: Callable[..., Ran], home: Path, models_dir: Path) -> None:
    cli("scan", "--models-dir", str(models_dir), "--quiet").ok()
    ran = cli("infer", "2+3=", "-m", SCRIPTED, "--in-ctx", "512").ok()
    assert f"serving {models_dir}" in " ".join(ran.err.split())


def test_current_is_the_model_that_is_loaded(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    cli("estimate", "current").failed(1, "has nothing loaded", "name the model")
    cli("load", TINY, "--ctx", "512").ok()
    assert cli("estimate", "current", "--json").ok().json["model_key"] == TINY
    cli("history", "current").failed(1, "no server is asked here")
