"""`lmstrix models alias`: a name of the user's, wherever a model is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import lmstrix
from lmstrix.cli.app import COMMANDS
from lmstrix.cli.model_aliases import SUBCOMMANDS
from tests.cli.conftest import SCRIPTED, TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran


def test_it_stands_for_the_model_everywhere(cli: Callable[..., Ran], engine: EmbeddedEngine, tmp_path: Path) -> None:
    assert cli("models", "alias", "fast", "acme/scripted").ok().out == f"fast: {SCRIPTED}\n"
    assert cli("infer", "2+3=", "-m", "fast", "--json").ok().json["model_key"] == SCRIPTED
    assert cli("estimate", "fast", "--json").ok().json["model_key"] == SCRIPTED
    assert cli("list", "fast", "--show", "id").ok().out.split() == [SCRIPTED]
    assert cli("test", "fast", "--dry-run", "--json").ok().json["models"][0]["model_key"] == SCRIPTED
    assert cli("models", "default", "fast").ok().out == f"{SCRIPTED}\n"
    prompts = tmp_path / "p.toml"
    prompts.write_text('[sum]\nprompt = "2+3="\nmodel = "fast"\n', encoding="utf-8")
    out = cli("infer", "sum", "--file-prompt", str(prompts), "--json")
    assert out.ok().json["model_key"] == SCRIPTED
    assert "fast" in [line.split("\t")[0] for line in cli("__complete", "infer", "x", "-m", "").ok().out.splitlines()]


def test_python_knows_it(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    cli("models", "alias", "fast", SCRIPTED).ok()
    with lmstrix.LMStrix(home=home, server=engine.address) as lms:
        assert lms.infer("2+3=", model="fast").text == "5"


def test_they_are_listed_and_taken_away(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    assert "no model has an alias yet" in cli("models", "aliases").ok().err
    cli("models", "alias", "fast", SCRIPTED).ok()
    assert f"fast stood for {json.loads((home / 'lmstrix.json').read_text())['model_aliases']['fast']}" in (
        cli("models", "alias", "fast", TINY).ok().err
    )
    assert [each["model_key"] for each in cli("models", "aliases", "--json").ok().json["aliases"]] == [TINY]
    assert "fast" in cli("models", "aliases").ok().out
    assert cli("models", "unalias", "fast").ok().out == f"fast: {TINY} (taken away)\n"
    cli("models", "unalias", "fast").failed(2, "no model has the alias 'fast'; there is none")
    cli("infer", "hi", "-m", "fast").failed(1, "fast")


def test_names_that_mean_something_else(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    cli("models", "alias", "list", SCRIPTED).failed(2, "'list' is a command of lmstrix")
    cli("models", "alias", TINY, SCRIPTED).failed(2, f"'{TINY}' is the name of")
    cli("registry", "tag", TINY, "quick").ok()
    assert "quick is also a tag of 1 model" in cli("models", "alias", "quick", SCRIPTED).ok().err
    assert cli("list", "tag:quick", "--show", "id").ok().out.split() == [TINY]
    assert cli("estimate", "tag:quick", "--json").ok().json["model_key"] == TINY


@pytest.mark.parametrize("command", ["validate", "doctor"])
def test_one_that_leads_nowhere_is_told(cli: Callable[..., Ran], engine: EmbeddedEngine, command: str) -> None:
    cli("models", "alias", "fast", TINY).ok()
    cli("registry", "remove", TINY).ok()
    ran = cli("registry", "validate") if command == "validate" else cli("doctor")
    assert "lmstrix models unalias fast" in " ".join(ran.out.split())
    assert "not in the registry" in cli("models", "aliases").ok().out


def test_an_export_takes_the_aliases_of_its_models(
    cli: Callable[..., Ran], engine: EmbeddedEngine, tmp_path: Path
) -> None:
    cli("models", "alias", "fast", TINY).ok()
    cli("models", "alias", "sums", SCRIPTED).ok()
    file = tmp_path / "out.json"
    cli("registry", "export", str(file), "name:tiny").ok()
    assert list(json.loads(file.read_text())["model_aliases"]) == ["fast"]
    cli("models", "unalias", "fast").ok()
    assert cli("registry", "import", str(file), "--json").ok().json["aliases"] == ["fast"]
    assert [each["alias"] for each in cli("models", "aliases", "--json").ok().json["aliases"]] == ["fast", "sums"]


def test_commands_in_the_place_of_a_model_are_known() -> None:
    assert {path[1] for path in COMMANDS if len(path) == 2 and path[:1] in COMMANDS} == SUBCOMMANDS
