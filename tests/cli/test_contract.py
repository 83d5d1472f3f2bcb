"""What scripts rely on: JSON with a schema name alone on stdout, exit codes, one clear line for a failure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.paths import own_folder
from tests.cli.conftest import EMBEDDING, SCRIPTED, TINY, loaded_on
from tests.support.faulty_server import FaultyModel, FaultyServer, closed_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran


@pytest.mark.slow
def test_every_command_speaks_json(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    for words, schema, key in [
        (["version"], "version", "version"),
        (["scan"], "scan", "added"),
        (["list"], "list", "models"),
        (["list", "--show", "json"], "list", "models"),
        (["test", TINY, "--dry-run"], "test-plan", "models"),
        (["history", TINY], "history", "events"),
        (["test", TINY, "--fast"], "test", "models"),
        (["history", TINY, "--all"], "history", "events"),
        (["estimate", TINY], "estimate", "total_bytes"),
        (["load", SCRIPTED], "load", "models"),
        (["ps"], "ps", "models"),
        (["monitor", "--once", "--interval", "300ms"], "monitor", "models"),
        (["infer", "2+3=", "-m", SCRIPTED], "infer", "text"),
        (["infer", "2+3=", "-m", SCRIPTED], "infer", "text"),
        (["logs"], "logs", "calls"),
        (["logs", "--stats"], "logs", "models"),
        (["unload", "--all"], "unload", "models"),
        (["save", "--dry-run"], "save", "models"),
        (["reset", TINY], "reset", "models"),
        (["registry", "tag", TINY, "work"], "registry-tags", "models"),
        (["registry", "untag", TINY], "registry-tags", "models"),
        (["registry", "note", TINY, "mine"], "registry-tags", "models"),
        (["registry", "tags"], "registry-tags", "models"),
        (["registry", "stats"], "registry-stats", "usage"),
        (["registry", "validate"], "registry-validate", "findings"),
        (["registry", "backup"], "registry-backup", "file"),
        (["registry", "restore"], "registry-backups", "backups"),
        (["registry", "restore", "backup-1", "--yes"], "registry-restore", "name"),
        (["registry", "prune"], "registry-prune", "models"),
        (["registry", "remove", TINY], "registry-remove", "models"),
        (["doctor"], "doctor", "checks"),
        (["engine", "status"], "engine", "running"),
    ]:
        ran = cli(*words, "--json").ok()
        assert ran.json["schema"] == f"lmstrix.{schema}/1", words
        assert ran.json[key] is not None, words


def test_json_of_an_answer_holds_it_exactly(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    answer = cli("infer", "think", "-m", SCRIPTED, "--json").ok().json
    assert answer["text"].strip() == "The answer: five."
    assert "Two plus three" in answer["reasoning"]
    assert answer["prompt_tokens"] + answer["completion_tokens"] == answer["total_tokens"] > 0
    assert answer["stop_reason"] == "eosFound"


def test_json_of_a_test_that_failed_is_still_json(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    faulty.faults.load = "refused"
    ran = cli("test", "acme/tiny", "--json", "--quiet")
    assert ran.code == 1
    (model,) = ran.json["models"]
    assert (model["outcome"], model["tested_context_length"]) == ("refused by guardrail", None)
    assert len(ran.lines) == 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["tset"], ["did you mean 'test'"]),
        (["test"], ["MODEL or --all"]),
        (["test", "tiny", "--all"], ["MODEL or --all"]),
        (["test", "tiny", "--thresold", "5"], ["did you mean '--threshold'"]),
        (["test", "tiny", "--threshold", "-5"], ["--threshold"]),
        (["test", "tiny", "--threshold", "1.5"], ["whole number"]),
        (["test", "tiny", "--threshold", "abc"], ["--threshold", "'abc'"]),
        (["test", "tiny", "--threshold", "0"], ["smallest"]),
        (["test", "tiny", "--precision", "wild"], ["safe, balanced"]),
        (["test", "tiny", "--file-prompt", "a", "--prompt", "b"], ["not both"]),
        (["history"], ["MODEL"]),
        (["infer"], ["PROMPT"]),
        (["infer", "hi", "there", "my", "model"], ["'there'"]),
        (["infer", "hi", "--out-ctx", "150%"], ["out of range", "at most 100%"]),
        (["infer", "hi", "--contxt", "8192"], ["unknown option --contxt"]),
        (["infer", "hi", "--temperature", "hot"], ["--temperature"]),
        (["infer", "hi", "-"], ["stdin is empty"]),
        (["list", "--show", "bogus"], ["table, id, path"]),
        (["list", "--sort", "5"], ["id, name"]),
        (["load"], ["MODEL"]),
        (["unload"], ["--all"]),
        (["reset", "--all"], ["--yes"]),
        (["save", "--limit", "-5"], ["--limit"]),
        (["engine", "strat"], ["did you mean 'start'"]),
        (["engine", "start", "--memory-limit", "much"], ["--memory-limit"]),
        (["logs", "--last", "0"], ["at least 1"]),
        (["ps", "--server", "ftp://x"], ["http"]),
        (["ps", "--timeout", "soon"], ["--timeout"]),
        (["ps", "--config", "/nowhere/at/all.toml"], ["/nowhere/at/all.toml"]),
        (["ps", "--profile", "night"], ["night"]),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(
    cli: Callable[..., Ran], faulty: FaultyServer, home: Path, words: list[str], parts: list[str]
) -> None:
    cli(*words).failed(2, *parts)
    assert not faulty.paths
    assert not home.exists()


def test_a_wrong_model_name(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    for words in (["infer", "hi", "-m"], ["test"], ["history"], ["load"], ["estimate"], ["reset"], ["save"]):
        cli(*words, "acme/tny").failed(1, "'acme/tny'", "acme/tiny")
    assert faulty.endpoints().count("loadModel") == 0


def test_a_model_that_cannot_answer(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    cli("infer", "hi", "-m", EMBEDDING).failed(2, EMBEDDING, "embedding model")
    cli("test", EMBEDDING).failed(2, EMBEDDING, "embedding model")


def test_no_server_is_exit_code_three(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    server = f"127.0.0.1:{closed_port()}"
    for words in (["ps"], ["unload", "--all"], ["load", "acme/tiny"], ["infer", "hi", "-m", "acme/tiny"], ["scan"]):
        cli(*words, "--server", server).failed(3, server, "refused", "lmstrix engine start")
    cli("test", "acme/tiny", "--server", server).failed(3, server)
    cli("ps", "--server", "embedded").failed(3, "no embedded engine is running")


@pytest.mark.parametrize(
    ("fault", "code", "part"),
    [
        ("crash after 3 words", 1, "ended while predicting"),
        ("drop after 3 words", 3, "connection"),
        ("garbage after 3 words", 3, ""),
        ("empty", 1, ""),
        ("in-band error", 1, "Sampler failed"),
        ("unloaded", 1, "unloaded"),
        ("failed", 1, ""),
    ],
)
def test_an_answer_that_breaks_off(
    cli: Callable[..., Ran], faulty: FaultyServer, fault: str, code: int, part: str
) -> None:
    cli("scan", "--quiet").ok()
    faulty.faults.predict = fault
    ran = cli("infer", "hi", "-m", "acme/tiny", "--stream", "--quiet")
    assert ran.code == code
    assert len(ran.lines) == 1
    assert ran.err.startswith("lmstrix: ")
    assert part in ran.err
    if fault.endswith("3 words"):
        assert ran.out == "The sum of \n"
    assert cli("logs", "--json").ok().json["calls"][0]["outcome"] != "ok"


HOSTILE = [
    "[/nope]",
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "\u202egnp.exe",
    "x" * 300,
    "漢字/模型",
    "a b",
    "$(touch pwned)",
]


@pytest.mark.slow
def test_names_that_mean_harm(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    models = [FaultyModel(key=key, extra={"path": f"p/{n}/m.gguf"}) for n, key in enumerate(HOSTILE)]
    with FaultyServer(*models) as server:
        monkeypatch.setenv("LMSTRIX_SERVER", server.address)
        cli("scan").ok()
        for words in (["list"], ["list", "--show", "id"], ["test", "--all", "--dry-run"], ["scan", "--verbose"]):
            ran = cli(*words).ok()
            assert not {"\x1b", "\u202e"} & set(ran.out + ran.err)
        assert len(cli("list", "--no-header").out.splitlines()) == len(HOSTILE)
        assert {model["model_key"] for model in cli("list", "--json").ok().json["models"]} == set(HOSTILE)
        for key in HOSTILE:
            cli("infer", "hi", "-m", key, "--in-ctx", "512").ok()
            assert server.parameters("loadModel")["modelKey"] == key
        assert not {"\x1b", "\u202e"} & set(cli("ps").ok().out)
        assert not {"\x1b", "\u202e"} & set(cli("unload", "--all").ok().err)
        server.faults.load = "out of memory"
        for key in HOSTILE:
            ran = cli("load", key, "--ctx", "512").failed(1, "ran out of memory")
            assert not {"\x1b", "\u202e"} & set(ran.err)


def test_quiet_says_only_results(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    for words in (
        ["scan"],
        ["test", "acme/tiny", "--fast"],
        ["load", "acme/tiny"],
        ["unload", "--all"],
        ["reset", "acme/tiny"],
    ):
        assert cli(*words, "--quiet").ok().err == ""
    assert cli("infer", "hi", "-m", "acme/tiny", "--quiet").ok() == (0, "The sum of two and three is five.\n", "")


def test_a_failure_in_our_own_code_is_one_line_too(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    home.mkdir()
    (home / "lmstrix.json").mkdir()
    cli("list").failed(1, "lmstrix.json")
    with pytest.raises((LMStrixError, OSError)):
        cli("list", "--debug")


def test_help_and_version_go_to_stdout(cli: Callable[..., Ran], home: Path) -> None:
    version = cli("--version").ok()
    assert version.out.startswith("lmstrix ")
    assert {cli("version").out, cli("-V").out} == {version.out}
    overview = cli("--help").ok()
    assert overview.err == ""
    assert {cli("help").out, cli("-h").out, cli().out} == {overview.out}
    listed = overview.out.partition("Begin:\n")[2].partition("Options of every command:")[0].splitlines()
    names = {line.split()[0] for line in listed if re.match(r"  \S", line)}
    for name in names:
        text = cli(name, "--help").ok()
        assert text.out.startswith(f"Usage: lmstrix {name} ")
        assert text.err == ""
    assert {"scan", "list", "test", "infer", "engine"} <= names
    assert all(len(line) <= 80 for line in listed)
    assert not home.exists()


def test_listing_shapes(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    assert cli("list").ok().err == "no models yet: lmstrix scan finds them; lmstrix demo needs none\n"
    cli("scan", "--quiet").ok()
    keys = [SCRIPTED, EMBEDDING, TINY]
    assert cli("list", "--show", "id").out.split() == keys
    assert cli("list", "--show", "id", "--reverse").out.split() == keys[::-1]
    assert cli("list", "--show", "id", "--sort", "size").out.split()[0] == TINY
    assert cli("list", "--show", "path").out.split()[0] == "acme/scripted-GGUF/scripted-f16.gguf"
    rows = cli("list", "--show", "csv").out.splitlines()
    assert rows[0].startswith("model_key,path,")
    assert len(rows) == 4
    assert cli("list", "TINY", "--show", "id").out.split() == [TINY]
    assert cli("list", "type:embedding", "--show", "id").out.split() == [EMBEDDING]
    assert cli("list", "--filter", "type:llm,size:>1GB").ok().err == "none of 3 models matches\n"
    cli("list", "stauts:tested").failed(2, "no field 'stauts': did you mean status?")
    yaml = cli("list", "--show", "yaml").out.splitlines()
    assert [line for line in yaml if line.startswith("- ")] == [f'- model_key: "{key}"' for key in keys]
    summary = dict(line.split(maxsplit=1) for line in cli("list", "--show", "summary").out.splitlines())
    assert (summary["models"], summary["types"], summary["status"]) == (
        "3",
        "2 llm, 1 embedding",
        "2 untested, 1 embedding",
    )
    named = cli("list", "--columns", "model,can,where").out.splitlines()
    assert named[0].split() == ["MODEL", "CAN", "WHERE"]
    assert cli("list", "nothing-like-it").ok().err == "none of 3 models matches\n"
    table = cli("list", "--max-width", "40").out.splitlines()
    assert all(len(line) <= 40 for line in table)
    assert table[0].split()[0] == "MODEL"


def test_loading_and_unloading(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    (loaded,) = cli("load", TINY, "--ctx", "512", "--identifier", "mine", "--json").ok().json["models"]
    assert (loaded["instance_id"], loaded["context_length"]) == ("mine", 512)
    cli("load", TINY, "--ctx", "5000").failed(2, "declares 4,096", "5,000")
    cli("load", TINY, "--quiet").ok()
    cli("load", TINY, "--quiet").ok()
    assert [model.instance_id for model in loaded_on(engine.address)] == ["mine", TINY, f"{TINY}:2"]
    cli("unload", TINY, "--quiet").ok()
    cli("unload", f"{TINY}:2", "--quiet").ok()
    cli("unload", "yours").failed(1, "'yours'", "mine")
    cli("unload", TINY).ok()
    assert loaded_on(engine.address) == []
    assert cli("ps").ok() == (0, "", "nothing is loaded\n")


def test_settings_come_from_files_and_profiles(cli: Callable[..., Ran], faulty: FaultyServer, home: Path) -> None:
    own_folder(home).mkdir(parents=True)
    (own_folder(home) / "config.toml").write_text('timeout_s = "soon"\n')
    cli("ps").failed(2, "config.toml", "timeout_s", "soon")
    (own_folder(home) / "config.toml").write_text(f'[profiles.away]\nserver = "127.0.0.1:{closed_port()}"\n')
    cli("ps").ok()
    assert json.loads(cli("ps", "--json").out)["models"] == []
