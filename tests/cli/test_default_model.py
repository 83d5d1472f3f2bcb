"""The default model: chosen once, asked where none is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lmstrix.ground.paths import own_folder
from tests.cli.conftest import EMBEDDING, SCRIPTED, TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran


def test_it_is_asked_where_no_model_is_named(cli: Callable[..., Ran], engine: EmbeddedEngine, tmp_path: Path) -> None:
    cli("scan", "--quiet").ok()
    cli("infer", "2+3=").failed(2, "which model?")
    assert cli("models", "default", "acme/scripted").ok().out == f"{SCRIPTED}\n"
    assert cli("infer", "2+3=").ok().out == "5\n"
    assert cli("infer", "hi", "-m", TINY, "--max-tokens", "4", "--json").ok().json["model_key"] == TINY
    # A model that was named once does not take the default's place.
    assert cli("infer", "2+3=", "--json").ok().json["model_key"] == SCRIPTED
    assert cli("chat", "--json", stdin=b"2+3=\n").ok().json["model_key"] == SCRIPTED
    prompt = tmp_path / "sum.txt"
    prompt.write_text("2+3=", encoding="utf-8")
    (item,) = cli("batch", "--prompts", str(prompt), "--out", str(tmp_path / "out"), "--json").ok().json["items"]
    assert (item["model_key"], item["outcome"]) == (SCRIPTED, "ok")


def test_it_is_shown_and_taken_back(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    assert "no default model" in cli("models", "default").ok().err
    cli("models", "default", SCRIPTED).ok()  # an empty registry is filled first
    assert cli("models", "default").ok().out == f"{SCRIPTED}\n"
    assert cli("models", "default", "--json").ok().json == {
        "schema": "lmstrix.models-default/1",
        "model_key": SCRIPTED,
        "used_last": None,
    }
    assert "no default model" in cli("models", "default", "--unset").ok().err
    cli("infer", "2+3=").failed(2, "which model?")


def test_only_a_model_that_answers_is_taken(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    cli("models", "default", "nosuch").failed(1, "nosuch")
    cli("models", "default", EMBEDDING).failed(2, "embedding model")
    cli("models", "default", SCRIPTED, "--unset").failed(2, "not both")


def test_what_else_is_kept_stays(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    cli("infer", "2+3=", "-m", SCRIPTED).ok()
    cli("models", "default", TINY).ok()
    cli("models", "default", "--unset").ok()
    state = json.loads((own_folder(home) / "state.json").read_text(encoding="utf-8"))
    assert state["last_used_model"] == SCRIPTED
    assert "default_model" not in state
    assert state["servers"]


def test_it_is_chosen_where_users_of_other_tools_look_for_it(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    assert cli("config", "set", "model", SCRIPTED).ok().out == f"{SCRIPTED}\n"
    assert cli("models", "default").ok().out == f"{SCRIPTED}\n"
    cli("config", "set", "model", "no-such-model").failed(1, "no-such-model")
    assert "no default model" in cli("config", "unset", "model").ok().err
    assert "no default model" in cli("models", "default").ok().err
