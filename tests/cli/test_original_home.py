"""A home that lmstrix 1.0.84 left: its results, its last model and its settings count, and nothing untrue is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import original_home

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ran


@pytest.fixture
def left(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home, with what the earlier LMStrix wrote."""
    monkeypatch.setenv("LMSTRIX_SERVER", "lmstudio")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    original_home.leave(tmp_path, home)
    return home


@pytest.fixture
def settings_counted(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its settings are read in the usual home alone; a named one has its own.
    monkeypatch.delenv("LMSTRIX_HOME")
    monkeypatch.setattr("lmstrix.ground.paths.find_lmstudio_home", lambda _: left)


def test_its_results_are_listed_and_a_missing_date_is_none(cli: Callable[..., Ran], left: Path) -> None:
    models = {model["model_key"]: model for model in json.loads(cli("list", "--json").ok().out)["models"]}
    assert models["demo-needle"]["tested_context_length"] == 1024
    table = cli("list").ok().out
    assert "2026-06-29" in table or "2026-06-28" in table  # it wrote local time
    assert "1970" not in table
    assert cli("list", "--filter", "date:<2000-01-01").ok().err == "none of 3 models matches\n"


def test_the_model_it_used_last_is_asked(cli: Callable[..., Ran], left: Path) -> None:
    assert "demo-needle" in cli("models", "default").ok().err


def test_its_settings_count_and_what_does_nothing_is_named_once_asked(
    cli: Callable[..., Ran], settings_counted: None
) -> None:
    (line,) = cli("list").ok().lines
    assert line.endswith("no effect here: 11 settings of the earlier LMStrix (lmstrix config validate names what)")
    told = cli("config", "validate").ok().err
    assert "no effect here: lmstudio.endpoints" in told
    assert "no effect here: paths.registry_file" in told
    assert len(cli("config", "validate", "--json").ok().json["without_effect"]) == 11


def test_an_alias_may_stand_before_words_of_the_earlier_lmstrix(
    cli: Callable[..., Ran], settings_counted: None
) -> None:
    ran = cli("q", "Hello", "no-such-model")
    assert "infer PROMPT MODEL is now infer PROMPT -m MODEL" in ran.err
    assert "No model 'no-such-model'" in ran.err


def test_before_a_server_is_in_use_the_list_says_whose_results_it_shows(
    cli: Callable[..., Ran], left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no server was in use yet" not in cli("list").ok().err
    monkeypatch.setenv("LMSTRIX_SERVER", "auto")
    assert "no server was in use yet: the results shown are of LM Studio, and count there alone" in cli("list").ok().err


def test_nothing_to_save_names_the_server_that_has_to_be_tested(cli: Callable[..., Ran], left: Path) -> None:
    cli("reset", "--all", "--yes").ok()
    assert "lmstrix test --all --server lmstudio" in cli("save").ok().err
