"""`test` and what follows: configurations, ceilings, resets, kills, interrupts, two at once, save, estimate."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.core.history import History
from lmstrix.core.registry.defaults import BACKUP_SUFFIX, FOLDER
from tests.cli.conftest import SCRIPTED, TINY, FreeMemory, loaded_on
from tests.cli.processes import finish, start, wait_until
from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran

MODEL = "acme/tiny"


@pytest.fixture
def limited(faulty: FaultyServer) -> FaultyServer:
    """The server's model declares 32,768 tokens and loads up to 9,000."""
    faulty.models[MODEL].loadable = 9000
    return faulty


def outcome(ran: Ran) -> dict[str, Any]:
    """The one model of `test --json`."""
    (model,) = ran.json["models"]
    return dict(model)


def listed(cli: Callable[..., Ran], key: str = MODEL) -> dict[str, Any]:
    """The model as `list --json` has it."""
    (model,) = [model for model in cli("list", "--json").ok().json["models"] if model["model_key"] == key]
    return dict(model)


def stored(home: Path) -> list[dict[str, Any]]:
    """All results of all models in the registry file."""
    models = json.loads((home / "lmstrix.json").read_text())["models"]
    return [
        result for model in models.values() for result in model.get("context_tests", model.get("tests", {})).values()
    ]


# --- results ----------------------------------------------------------------------------------------------------------


def test_the_limit_is_found_kept_and_used(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    found = outcome(cli("test", MODEL, "--json").ok())
    assert 0.9 * 9000 <= found["tested_context_length"] <= 9000
    assert found["failing_loads"] <= 1
    assert limited.instances == {}
    assert listed(cli)["tested_context_length"] == found["tested_context_length"]
    cli("infer", "hi", "-m", MODEL).ok()
    (instance,) = limited.instances.values()
    assert instance.context_length == found["tested_context_length"]


def test_each_configuration_keeps_its_own_result(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    plain = outcome(cli("test", TINY, "--fast", "--json").ok())
    small = outcome(cli("test", TINY, "--fast", "--json", "--k-cache-type", "q8_0", "--ctx", "1024").ok())
    slots = outcome(cli("test", TINY, "--fast", "--json", "--parallel-slots", "2", "--ctx", "512").ok())
    assert [each["tested_context_length"] for each in (plain, small, slots)] == [4096, 1024, 512]
    assert len({each["configuration"] for each in (plain, small, slots)}) == 3
    assert listed(cli, TINY)["tested_context_length"] == 4096  # what a load without options may use
    assert len(stored(home)) == 3


def test_a_ceiling_is_never_passed(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    assert outcome(cli("test", MODEL, "--threshold", "4k", "--fast", "--json").ok())["tested_context_length"] == 4096
    lengths = [
        field["value"]
        for _, frame in limited.seen
        if frame.get("endpoint") == "loadModel"
        for layer in frame["creationParameter"]["loadConfigStack"]["layers"]
        for field in layer["config"]["fields"]
        if field["key"] == "llm.load.contextLength"
    ]
    assert lengths == [4096]
    assert outcome(cli("test", MODEL, "--threshold", "1M", "--fast", "--json").ok())["tested_context_length"] > 4096


def test_one_length_alone(cli: Callable[..., Ran], limited: FaultyServer, free_memory: FreeMemory) -> None:
    free_memory.bytes = 2**20
    assert outcome(cli("test", MODEL, "--ctx", "5000", "--fast", "--json").ok())["tested_context_length"] == 5000
    cli("test", MODEL, "--ctx", "40000").failed(2, "32,768", "40,000")
    assert cli("test", MODEL, "--ctx", "20000", "--fast", "--quiet").code == 1
    assert listed(cli)["tested_context_length"] == 5000  # what was proven stays proven
    cli("test", MODEL, "--ctx", "24k", "--fast").failed(2, "failed at 20,000", "with 1.00 MiB free", "--force")
    assert cli("test", MODEL, "--ctx", "24k", "--fast", "--force", "--quiet").code == 1


def test_a_reset_replaces_a_result_only_by_a_new_one(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    cli("test", MODEL, "--ctx", "5000", "--fast").ok()
    limited.faults.load = "hang"
    assert cli("test", MODEL, "--reset", "--fast", "--load-timeout", "100ms", "--quiet").code == 1
    assert listed(cli)["tested_context_length"] == 5000
    limited.faults.load = ""
    cli("test", MODEL, "--reset", "--fast", "--threshold", "2048").ok()
    assert listed(cli)["tested_context_length"] == 2048


def test_a_dry_run_touches_nothing(cli: Callable[..., Ran], limited: FaultyServer, home: Path) -> None:
    cli("scan", "--quiet").ok()
    before, seen = {file: file.read_bytes() for file in home.rglob("*") if file.is_file()}, len(limited.seen)
    assert "32,768" in cli("test", MODEL, "--dry-run").ok().out
    assert cli("test", "--all", "--dry-run", "--json").ok().json["models"][0]["model_key"] == MODEL
    assert {file: file.read_bytes() for file in home.rglob("*") if file.is_file()} == before
    assert len(limited.seen) == seen


def test_all_models_in_one_go(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    models = [
        FaultyModel(key="fits", declared=2048),
        FaultyModel(key="refused", declared=2048, loadable=0, load_failure="refused"),
        FaultyModel(key="vectors", kind="embedding"),
    ]
    with FaultyServer(*models) as server:
        monkeypatch.setenv("LMSTRIX_SERVER", server.address)
        cli("scan", "--quiet").ok()
        ran = cli("test", "--all", "--fast")
        assert ran.code == 1
        assert "fits" in ran.out
        assert "refused by guardrail" in ran.out
        assert ran.lines[-1] == "lmstrix: 1 of 3 models have no usable context"
        assert listed(cli, "fits")["status"] == "completed"
        assert listed(cli, "refused")["status"] == "failed"
        loads = server.endpoints().count("loadModel")
        ran = cli("test", "--all", "--fast", "--verbose", "--json")
        assert [m["skipped"] for m in ran.json["models"] if m["model_key"] == "fits"] == [
            "tested already (--force tests again)"
        ]
        assert server.endpoints().count("loadModel") - loads <= 1
        assert server.instances == {}


def test_all_models_of_an_empty_registry_are_looked_for_first(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    ran = cli("test", "--all", "--fast").ok()
    assert "scanning" in ran.err
    assert MODEL in ran.out


def test_a_threshold_that_leaves_nothing_to_test_is_refused(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    cli("test", MODEL, "--fast").ok()
    before = listed(cli, MODEL)
    loads = limited.endpoints().count("loadModel")
    ran = cli("test", MODEL, "--force", "--fast", "--threshold", "10")
    assert ran.code == 2
    assert ran.lines == ["lmstrix: --threshold 10 leaves no context to test; give 256 tokens or more"]
    assert listed(cli, MODEL) == before
    assert limited.endpoints().count("loadModel") == loads


def test_beside_a_model_of_the_user(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    cli("test", MODEL, "--ctx", "5000", "--fast").ok()
    cli("load", MODEL, "--ctx", "1024", "--identifier", "the-users").ok()
    ran = cli("test", MODEL, "--fast", "--threshold", "4k")
    assert "the-users is loaded too" in ran.ok().err
    limited.faults.load = "refused"
    assert cli("test", MODEL, "--fast", "--force", "--quiet").code == 1
    assert listed(cli)["tested_context_length"] == 5000  # its memory was taken: no evidence about the model
    assert set(limited.instances) == {"the-users"}
    limited.faults.load = ""
    cli("test", MODEL, "--fast", "--unload-others", "--threshold", "4k").ok()
    assert limited.instances == {}


def test_a_server_that_goes_away_says_nothing_about_the_model(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    cli("test", MODEL, "--ctx", "5000", "--fast").ok()
    for fault in ("drop", "close", "garbage"):
        limited.faults.load = fault
        cli("test", MODEL, "--force", "--fast", "--quiet")
        limited.faults.load = ""
        assert (listed(cli)["tested_context_length"], listed(cli)["status"]) == (5000, "completed")


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "endpoint"), [({"load": "hang"}, "loadModel"), ({"predict": "hang"}, "predict")], ids=["load", "prefill"]
)
def test_kill_9_and_again(cli: Callable[..., Ran], limited: FaultyServer, fault: dict[str, str], endpoint: str) -> None:
    for name, value in fault.items():
        setattr(limited.faults, name, value)
    process = start("test", MODEL, "--fast")
    wait_until(lambda: endpoint in limited.endpoints())
    process.kill()
    finish(process)
    for name in fault:
        setattr(limited.faults, name, "")
    ran = cli("test", MODEL, "--fast", "--json").ok()
    assert "a test was killed while it tried" in ran.err
    killed_at = int(ran.err.partition("it tried ")[2].split()[0].replace(",", ""))
    # Somebody killed it: that says nothing about the size, which holds.
    assert outcome(ran)["tested_context_length"] == killed_at
    assert limited.instances == {}
    assert listed(cli)["status"] == "completed"


def test_what_a_killed_test_leaves_loaded_goes_by_itself(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    limited.faults.predict = "hang"
    process = start("test", MODEL, "--fast")
    wait_until(lambda: "predict" in limited.endpoints())
    process.kill()
    finish(process)
    (instance,) = limited.instances.values()
    assert instance.ttl_ms == 12 * 3600 * 1000


@pytest.mark.parametrize(
    ("words", "fault", "endpoint"),
    [
        (["test", MODEL, "--fast"], {"load": "hang"}, "loadModel"),
        (["test", MODEL, "--fast"], {"predict": "hang"}, "predict"),
        (["load", MODEL, "--ctx", "512"], {"load": "hang"}, "loadModel"),
        (["infer", "hi", "-m", MODEL, "--ttl", "0"], {"load": "hang"}, "loadModel"),
        (["infer", "hi", "-m", MODEL, "--ttl", "0"], {"mute": {"applyPromptTemplate"}}, "applyPromptTemplate"),
        (["infer", "hi", "-m", MODEL, "--ttl", "0", "--stream"], {"predict": "hang after 2 words"}, "predict"),
    ],
    ids=["test load", "test prefill", "load", "infer load", "infer count", "infer answer"],
)
@pytest.mark.parametrize(
    ("sent", "word"), [("SIGINT", "interrupted"), ("SIGTERM", "terminated"), ("SIGHUP", "hung up")]
)
def test_a_signal_leaves_nothing_behind(
    cli: Callable[..., Ran],
    limited: FaultyServer,
    words: list[str],
    fault: dict[str, Any],
    endpoint: str,
    sent: str,
    word: str,
) -> None:
    cli("scan", "--quiet").ok()
    for name, value in fault.items():
        setattr(limited.faults, name, value)
    process = start(*words, "--quiet")
    wait_until(lambda: endpoint in limited.endpoints())
    process.send_signal(signal.Signals[sent])
    code, _, err = finish(process)
    assert (code, err) == (128 + signal.Signals[sent], f"lmstrix: {word}\n")
    assert endpoint in limited.cancelled or "mute" in fault
    assert limited.instances == {}
    assert listed(cli)["status"] == "untested"


def test_ctrl_c_among_all_models_shows_what_was_found(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    def only_once(asked: int) -> int:
        server.faults.load = "hang"  # from the next load on
        return asked

    models = [FaultyModel(key="a", declared=2048, effective=only_once), FaultyModel(key="b", declared=2048)]
    with FaultyServer(*models) as server:
        monkeypatch.setenv("LMSTRIX_SERVER", server.address)
        cli("scan", "--quiet").ok()
        process = start("test", "--all", "--fast", "--sort", "id", "--json")
        wait_until(lambda: server.endpoints().count("loadModel") > 1)
        process.send_signal(signal.SIGINT)
        code, out, err = finish(process)
        assert (code, err.splitlines()[-1]) == (130, "lmstrix: interrupted")
        assert [(m["model_key"], m["tested_context_length"]) for m in json.loads(out)["models"]] == [("a", 2048)]
        assert server.instances == {}


def test_two_testers_at_once(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    limited.faults.load = "hang"
    first = start("test", MODEL, "--fast")
    wait_until(lambda: "loadModel" in limited.endpoints())
    cli("test", "--all").failed(1, f"lmstrix test {MODEL}", str(first.pid))
    first.send_signal(signal.SIGINT)
    assert finish(first)[0] == 130


# --- save, reset, estimate --------------------------------------------------------------------------------------------


@pytest.fixture
def defaults(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> Path:
    """LM Studio's file of defaults for `tiny`, which has a tested context of 4,096, with a setting of the user's."""
    cli("test", TINY, "--fast", "--quiet").ok()
    file = home / FOLDER / "acme/tiny-GGUF/tiny-f16.gguf.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"preset": "mine", "load": {"fields": [{"key": "llm.load.seed", "value": 7}]}}')
    return file


def fields(file: Path) -> dict[str, Any]:
    return {field["key"]: field["value"] for field in json.loads(file.read_text())["load"]["fields"]}


def test_save_merges_and_restores(cli: Callable[..., Ran], defaults: Path) -> None:
    original = defaults.read_text()
    shown = cli("save", "--dry-run").ok()
    assert "unset -> 4096" in shown.out
    assert defaults.read_text() == original
    cli("save", "--limit", "75").failed(2, "75 tokens", "75%")
    assert defaults.read_text() == original
    cli("save", "--limit", "75%", "--flash").ok()
    saved = fields(defaults)
    assert (saved["llm.load.contextLength"], saved["llm.load.seed"]) == (3072, 7)
    assert saved["llm.load.llama.flashAttention"] is True
    assert json.loads(defaults.read_text())["preset"] == "mine"
    cli("save").ok()
    assert fields(defaults)["llm.load.contextLength"] == 4096
    assert "already so" in cli("save").ok().out
    cli("save", "--restore").ok()
    assert defaults.read_text() == original
    assert not list(defaults.parent.glob(f"*{BACKUP_SUFFIX}"))
    assert "nothing to put back" in cli("save", "--restore").ok().err


def test_save_leaves_what_it_cannot_understand(cli: Callable[..., Ran], defaults: Path) -> None:
    for broken in ("{", "[]", '{"load": {"fields": 5}}'):
        defaults.write_text(broken)
        cli("save", TINY).failed(1, defaults.name)
        assert defaults.read_text() == broken


def test_save_stays_in_its_folder(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    models = [FaultyModel(key=f"m{n}", declared=2048, extra={"path": path}) for n, path in enumerate(
        ["../../../escaped.gguf", "/tmp/escaped.gguf", "good/good/good.gguf"]
    )]  # fmt: skip
    with FaultyServer(*models) as server:
        monkeypatch.setenv("LMSTRIX_SERVER", server.address)
        cli("scan", "--quiet").ok()
        cli("test", "--all", "--fast", "--quiet")
        before = {file for file in home.parent.rglob("*") if file.is_file()}
        ran = cli("save", "--quiet")
        assert cli("save", "m0").code == 1
    new = {file for file in home.parent.rglob("*.json*") if file.is_file()} - before
    assert all(file.is_relative_to(home / FOLDER) for file in new)
    assert not os.path.exists("/tmp/escaped.gguf.json")  # noqa: PTH110 - as the path would be spelt
    assert ran.code == 1
    assert "no path below the models folder; its defaults are not written (and 1 more)" in ran.err
    assert home / FOLDER / "good/good/good.gguf.json" in new


def test_reset_forgets_what_was_measured(cli: Callable[..., Ran], limited: FaultyServer, home: Path) -> None:
    cli("test", MODEL, "--fast", "--quiet").ok()
    assert "forgot" in cli("reset", MODEL).ok().err
    model = listed(cli)
    assert (model["status"], model["tested_context_length"], model["max_context_length"]) == ("untested", None, 32768)
    with History(home / "lmstrix.db") as history:
        assert history.journal.unfinished() == []
    assert "no results" in cli("reset", MODEL).ok().err
    cli("test", MODEL, "--fast", "--quiet").ok()
    cli("reset", "--all", "--yes").ok()
    assert listed(cli)["status"] == "untested"


def test_estimate_is_arithmetic(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    short = cli("estimate", TINY, "--ctx", "1024", "--json").ok().json
    long = cli("estimate", TINY, "--json").ok().json
    half = cli("estimate", TINY, "--json", "--k-cache-type", "q8_0", "--v-cache-type", "q8_0").ok().json
    assert (short["context_length"], long["context_length"]) == (1024, 4096)
    assert long["kv_cache_bytes"] == 4 * short["kv_cache_bytes"]
    assert half["kv_cache_bytes"] < long["kv_cache_bytes"]
    assert long["fits"]
    assert long["predicted_limit"] == 4096
    assert long["server_total_bytes"] == pytest.approx(long["total_bytes"], rel=0.01)
    assert not long["approximate"]
    assert "longest that fits" in cli("estimate", TINY).ok().out
    cli("estimate", TINY, "--ctx", "5000").failed(2, "4,096")
    assert loaded_on(engine.address) == []
    assert cli("estimate", SCRIPTED, "--server", "127.0.0.1:9").ok().out
