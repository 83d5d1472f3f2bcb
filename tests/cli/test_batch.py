"""`lmstrix batch`: files with safe names, going on, several at a time, failures that stop nothing."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix import EmbeddedEngine
from lmstrix.core.answers.batch import file_names
from tests.cli.conftest import EMBEDDING, SCRIPTED, TINY, loaded_on
from tests.cli.processes import finish, start, wait_until
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

PROMPTS = """
sum = "2+3={{text}}"
[a.hello]
system_prompt = "Be {{mood}}."
prompt = "hello {{text}}"
defaults = { mood = "kind" }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder commands run in: two prompts, three inputs, two of one name."""
    folder = tmp_path / "work"
    (folder / "notes").mkdir(parents=True)
    (folder / "prompts.toml").write_text(PROMPTS, encoding="utf-8")
    for name in ("notes/one.txt", "notes/two.md", "one.txt"):
        (folder / name).write_text(f"of {name}", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def answers(out: Path) -> dict[str, str]:
    return {file.relative_to(out).as_posix(): file.read_text(encoding="utf-8") for file in out.rglob("*.txt")}


def index(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "index.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_prompt_every_model_every_input(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    words = (
        "batch",
        "--prompts",
        "prompts.toml",
        "--models",
        f"{SCRIPTED},{TINY}",
        "--inputs",
        "notes",
        "--out",
        "out",
    )
    ran = cli(*words, "--out-ctx", "4", "--verbose").ok()
    assert "8 answered" in ran.out
    assert "8/8" in ran.err
    files = answers(here / "out")
    assert set(files) == {
        f"{model}/{prompt}__{name}.txt"
        for model in (SCRIPTED, TINY)
        for prompt in ("sum", "a.hello")
        for name in ("one", "two")
    }
    assert files[f"{SCRIPTED}/sum__one.txt"] == "5"
    lines = index(here / "out")
    assert {line["outcome"] for line in lines} == {"ok"}
    models = [line["model_key"] for line in lines]
    assert models in (4 * [SCRIPTED] + 4 * [TINY], 4 * [TINY] + 4 * [SCRIPTED])
    assert all(line["prompt_tokens"] > 0 and line["total_s"] > 0 for line in lines)
    assert loaded_on(engine.address) == []


def test_it_goes_on_where_it_was(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    words = (
        "batch",
        "--prompts",
        "prompts.toml:sum",
        "--models",
        SCRIPTED,
        "--out",
        "out",
        "--var",
        "text=!",
        "--json",
    )
    assert [item["outcome"] for item in cli(*words).ok().json["items"]] == ["ok"]
    (here / "out" / SCRIPTED / "sum.txt").write_text("mine", encoding="utf-8")
    again = cli(*words).ok()
    assert [item["outcome"] for item in again.json["items"]] == ["skipped"]
    assert "loading" not in again.err
    assert answers(here / "out") == {f"{SCRIPTED}/sum.txt": "mine"}
    assert [item["outcome"] for item in cli(*words, "--no-skip-existing").ok().json["items"]] == ["ok"]
    assert answers(here / "out") == {f"{SCRIPTED}/sum.txt": "5"}


def test_several_at_a_time(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    for number in range(12):
        (here / "notes" / f"n{number}.txt").write_text("=", encoding="utf-8")
    words = ("batch", "--prompts", "@prompts.toml:sum", "--models", SCRIPTED, "--inputs", "notes/n*.txt")
    report = cli(*words, "--out", "out", "--parallel", "4", "--in-ctx", "2048", "--json").ok().json
    assert report["schema"] == "lmstrix.batch/1"
    assert len(report["items"]) == 12
    assert set(answers(here / "out").values()) == {"5"}


def test_one_failure_stops_nothing(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    (here / "notes" / "huge.txt").write_text("word " * 5000, encoding="utf-8")
    words = ("batch", "--prompts", "prompts.toml:sum", "--models", SCRIPTED, "--inputs", "notes", "--out", "out")
    ran = cli(*words, "--in-ctx", "1024", "--quiet")
    assert ran.code == 1
    assert "2 answered, 1 failed" in ran.out
    assert "1 of 3 failed" in ran.lines[-1]
    assert "__huge.txt: the prompt has" in ran.lines[-1]
    assert set(answers(here / "out")) == {f"{SCRIPTED}/sum__one.txt", f"{SCRIPTED}/sum__two.txt"}
    assert sorted(line["outcome"] for line in index(here / "out")) == ["ContextOverflowError", "ok", "ok"]
    again = cli(*words, "--in-ctx", "1024", "--quiet", "--json")
    assert sorted(item["outcome"] for item in again.json["items"]) == ["ContextOverflowError", "skipped", "skipped"]


def test_a_model_that_does_not_load_fails_its_items(cli: Callable[..., Ran], faulty: FaultyServer, here: Path) -> None:
    faulty.faults.load = "out of memory"
    words = ("batch", "--prompts", "one.txt", "--models", "acme/tiny", "--inputs", "notes", "--out", "out")
    ran = cli(*words, "--quiet", "--json")
    assert ran.code == 1
    assert {item["outcome"] for item in ran.json["items"]} == {"OutOfMemoryError"}


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["--prompts", "prompts.toml", "--models", SCRIPTED], 2, "needs --out"),
        (["--prompts", "prompts.toml", "--models", SCRIPTED, "--out", "o"], 1, "needs text"),
        (["--prompts", "no.toml", "--models", SCRIPTED, "--out", "o"], 1, "no file at no.toml"),
        (["--prompts", "one.txt", "--models", "nosuch", "--out", "o"], 1, "nosuch"),
        (["--prompts", "one.txt", "--models", EMBEDDING, "--out", "o"], 2, "embedding model"),
        (["--prompts", "one.txt", "--models", ",", "--out", "o"], 2, "which models?"),
        (["--prompts", "one.txt", "--models", SCRIPTED, "--inputs", "*.pdf", "--out", "o"], 2, "no files in *.pdf"),
        (["--prompts", "one.txt", "--models", SCRIPTED, "--parallel", "0", "--out", "o"], 2, "at least 1"),
    ],
)
def test_wrong_words_are_told_before_anything_runs(
    cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path, words: list[str], code: int, part: str
) -> None:
    cli("scan", "--quiet")
    cli("batch", *words).failed(code, part)
    assert not (here / "o").exists()


def test_inputs_of_one_name_stay_apart(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    words = ("batch", "--prompts", "prompts.toml:sum", "--models", SCRIPTED, "--out", "out")
    cli(*words, "--inputs", "notes/one.txt", "--inputs", "one.txt").ok()
    assert len(answers(here / "out")) == 2


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=6))
def test_names_are_safe_and_different(names: list[str]) -> None:
    safe = file_names((name, name) for name in names)
    assert len({name.casefold() for name in safe}) == len(names)
    assert safe == file_names((name, name) for name in names)
    for name in safe:
        assert name not in ("", ".", "..")
        assert len(name) <= 100
        assert not set(name) & set('/\\:*?"<>|\0\n')


def test_an_interrupted_batch_goes_on(cli: Callable[..., Ran], here: Path) -> None:
    target = here / "models" / "acme" / "slow-GGUF" / "slow-f16.gguf"
    target.parent.mkdir(parents=True)
    shutil.copy(scripted_model(context_length=32768, n_layers=4, feed_forward=2048), target)
    (here / "ask.txt").write_text("hello", encoding="utf-8")
    (here / "tell.txt").write_text("a story", encoding="utf-8")
    with EmbeddedEngine(here / "models") as engine:
        asked = ("batch", "--prompts", "ask.txt", "--prompts", "tell.txt", "--models", "slow", "--out", "out")
        words = (*asked, "--server", engine.address)
        running = start(*words, "--in-ctx", "32768")
        wait_until(lambda: (here / "out" / "slow" / "ask.txt").exists() or running.poll() is not None)
        running.send_signal(signal.SIGINT)
        code, _, err = finish(running)
        assert (code, err.splitlines()[-1]) == (130, "lmstrix: interrupted")
        assert loaded_on(engine.address) == []
        assert set(answers(here / "out")) == {"slow/ask.txt"}
        outcomes = cli(*words, "--out-ctx", "5", "--json").ok().json["items"]
        assert [item["outcome"] for item in outcomes] == ["skipped", "ok"]
