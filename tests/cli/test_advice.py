"""`embed`, `recommend` and `prompts`, on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmstrix.engine import EmbeddedEngine
from tests.cli.conftest import EMBEDDING, SCRIPTED, TINY, loaded_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran

PROMPTS = """
sum = "2+3="
broken = "{{sum}} {% if %}"
[greet]
description = "Says hello."
system_prompt = "Be {{mood}}."
prompt = "Hello {{name}}"
defaults = { mood = "kind" }
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "prompts.toml"
    path.write_text(PROMPTS, encoding="utf-8")
    return str(path)


# Vectors


def test_texts_become_vectors(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    told = cli("embed", "a", "b b", "--json", "--ttl", "0").ok().json
    assert told["schema"] == "lmstrix.embed/1"
    assert told["model_key"] == EMBEDDING
    assert [len(vector) for vector in told["embeddings"]] == [told["dimensions"]] * 2
    assert loaded_on(engine.address) == []
    piped = cli("embed", "--stdin", "-m", EMBEDDING, stdin=b"a\n\nb b\n").ok()
    vectors = [json.loads(line) for line in piped.out.splitlines()]
    assert [pytest.approx(vector) for vector in told["embeddings"]] == vectors
    (loaded,) = loaded_on(engine.address)
    cli("embed", "c").ok()
    assert [model.instance_id for model in loaded_on(engine.address)] == [loaded.instance_id]


def test_what_cannot_be_embedded(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    cli("embed").failed(2, "needs TEXTS")
    cli("embed", "").failed(2, "text 1 is empty")
    cli("embed", "a", "-m", SCRIPTED).failed(2, "makes no embeddings")


# Recommendations


def test_models_are_ranked(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    told = cli("recommend", "--json").ok().json
    assert told["schema"] == "lmstrix.recommend/1"
    assert {model["model_key"] for model in told["models"]} == {SCRIPTED, TINY}
    assert not any(model["speed_measured"] for model in told["models"])
    cli("infer", "2+3=", "-m", SCRIPTED, "--quiet").ok()
    cli("infer", "hello", "-m", SCRIPTED, "--quiet").ok()
    measured = {m["model_key"]: m["speed_measured"] for m in cli("recommend", "--json").ok().json["models"]}
    assert measured == {SCRIPTED: True, TINY: False}
    table = cli("recommend", "--top", "1", "--verbose").ok()
    assert len(table.out.splitlines()) == 2
    assert f"{EMBEDDING} makes embeddings only" in table.lines
    assert EMBEDDING in cli("recommend", "--task", "embedding").ok().out


def test_the_memory_is_that_of_the_engine_in_use(
    cli: Callable[..., Ran], models_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 70 * 2**20  # the models take 39 and 60 MiB
    with EmbeddedEngine(models_dir, memory_limit=limit) as engine:
        address = engine.address
        monkeypatch.setenv("LMSTRIX_SERVER", address)
        monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(models_dir))
        cli("scan", "--quiet").ok()
        told = cli("recommend", "--json").ok().json
        assert told["budget_bytes"] == limit
        whose = f"the embedded engine at {address}: told by the engine: its own limit"
        assert told["budget_source"] == whose
        assert f"reckoned with 70.0 MiB ({whose})" in cli("recommend").ok().lines
        # What is loaded leaves no room for another, and serves as it is.
        cli("load", TINY, "--ctx", "4096").ok()
        (left,) = cli("recommend", "--json").ok().json["models"]
        assert (left["model_key"], "loaded now" in left["reasons"]) == (TINY, True)
        monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", "90%")
        cli("unload", "--all").ok()
        cli("recommend").failed(1, "more than the 7.00 MiB that are there")
    told = cli("recommend", "--json").ok().json
    assert (told["budget_bytes"], len(told["models"])) == (None, 2)
    assert told["budget_source"] == f"no server answers at {address}, so memory is not known"


def test_nothing_serves(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    cli("recommend", "--max-memory", "1KiB").failed(1, "no model serves", "more than 1.00 KiB")
    assert cli("recommend", "--task", "vision", "--json").code == 1


# Prompt files


def test_prompts_of_a_file(cli: Callable[..., Ran], file: str) -> None:
    shown = cli("prompts", "list", file).ok().out
    assert "greet" in shown
    assert "name" in shown
    told = cli("prompts", "list", file, "--json").ok().json
    assert [prompt["name"] for prompt in told["prompts"]] == ["sum", "broken", "greet"]
    assert told["prompts"][2]["defaults"] == ["mood"]


def test_a_prompt_is_filled(cli: Callable[..., Ran], file: str) -> None:
    ran = cli("prompts", "render", file, "greet,sum", "--var", "name=Ada", "--dict", "x=1").ok()
    assert ran.out == "Hello Ada\n\n2+3="
    assert ran.lines == ["system prompt: Be kind.", "x is given, but the prompt does not ask for it"]
    told = cli("prompts", "render", file, "greet", "--var", "name=Ada", "--json").ok().json
    assert (told["prompt"], told["system_prompt"], told["used"]) == ("Hello Ada", "Be kind.", ["name"])
    cli("prompts", "render", file, "greet").failed(1, "needs name")


def test_lint_finds_what_is_wrong(cli: Callable[..., Ran], file: str, tmp_path: Path) -> None:
    ran = cli("prompts", "lint", file)
    assert ran.code == 1
    assert any(line.startswith("error   broken:") for line in ran.out.splitlines())
    assert "1 error" in ran.lines[-1]
    assert cli("prompts", "lint", file, "--json").code == 1
    fine = tmp_path / "fine.toml"
    fine.write_text('a = "b"\n', encoding="utf-8")
    assert cli("prompts", "lint", str(fine)).ok().lines == ["nothing to remark"]
    cli("prompts", "lint", str(tmp_path / "no.toml")).failed(1, "no file at")
