"""`test` and what follows: configurations, ceilings, resets, kills, interrupts, two at once, save, estimate."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.core.history import History
from lmstrix.core.registry.defaults import BACKUP_SUFFIX, FOLDER
from lmstrix.engine import EmbeddedEngine
from lmstrix.ground.addresses import host_name
from tests.cli.conftest import SCRIPTED, TINY, FreeMemory, loaded_on
from tests.cli.processes import finish, start, wait_until
from tests.support.faulty_server import FaultyModel, FaultyServer, closed_port
from tests.support.tiny_gguf import tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


@pytest.mark.slow
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


def test_a_dry_run_loads_nothing_and_changes_no_result(
    cli: Callable[..., Ran], limited: FaultyServer, home: Path
) -> None:
    def kept() -> dict[Path, bytes]:
        # Which server answered is remembered by whatever asks one.
        return {file: file.read_bytes() for file in home.rglob("*") if file.is_file() and "state" not in file.name}

    cli("scan", "--quiet").ok()
    before = kept()
    assert "32,768" in cli("test", MODEL, "--dry-run").ok().out
    assert cli("test", "--all", "--dry-run", "--json").ok().json["models"][0]["model_key"] == MODEL
    assert kept() == before
    assert not {"loadModel", "unloadModel"} & set(limited.endpoints())


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


# --- what ended it ----------------------------------------------------------------------------------------------------


def test_a_threshold_is_no_limit(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    limited.models[MODEL].loadable = None
    ran = cli("test", MODEL, "--fast", "--threshold", "2048")
    assert f"{MODEL}: no more was tried (--threshold): the limit may be higher" in ran.ok().err
    assert "threshold" in ran.out
    model = listed(cli)
    assert (model["tested_context_length"], model["ended_by"]) == (2048, "threshold")
    ran = cli("infer", "hi", "-m", MODEL).ok()
    assert "2,048 tokens (tested so far; lmstrix test acme/tiny finds its limit)" in ran.err
    skipped = [
        m["skipped"] for m in cli("test", "--all", "--fast", "--threshold", "2048", "--json").ok().json["models"]
    ]
    assert skipped == ["tested already (--force tests again)"]
    found = outcome(cli("test", "--all", "--fast", "--json").ok())
    assert (found["tested_context_length"], found["ended_by"]) == (32768, "declared")
    assert outcome(cli("test", MODEL, "--fast", "--threshold", "2048", "--json").ok())["ended_by"] == "threshold"
    assert (listed(cli)["tested_context_length"], listed(cli)["ended_by"]) == (32768, "declared")


def test_a_prompt_longer_than_what_was_tried_gets_its_context(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    limited.models[MODEL].loadable = None
    cli("test", MODEL, "--fast", "--threshold", "2048", "--quiet").ok()
    assert cli("infer", "word " * 3000, "-m", MODEL, "--ttl", "0").ok().out
    cli("test", MODEL, "--fast", "--threshold", "2048", "--quiet").ok()


def test_a_guardrail_says_how_to_lift_it(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    ran = cli("test", MODEL, "--fast", "--json").ok()
    assert "the server's guardrail lets 8,960 tokens through" in ran.err
    assert "under Hardware, Model loading guardrails, or let the load itself decide with --ignore-guardrail" in ran.err
    found = outcome(ran)
    assert (found["tested_context_length"], found["ended_by"], found["guardrail_limit"]) == (8960, "guardrail", 8960)
    assert found["predicted_limit_without_guardrail"] > 8960
    assert "without it about" in ran.err
    loads = limited.endpoints().count("loadModel")
    assert outcome(cli("test", "--all", "--fast", "--json").ok())["skipped"] is not None
    assert limited.endpoints().count("loadModel") == loads  # the guardrail still stands at the same length
    limited.models[MODEL].loadable = None
    assert outcome(cli("test", "--all", "--fast", "--json").ok())["ended_by"] == "declared"


def test_a_guardrail_that_lets_nothing_through_is_told_without_a_load(
    cli: Callable[..., Ran], limited: FaultyServer
) -> None:
    cli("test", MODEL, "--ctx", "5000", "--fast", "--quiet").ok()
    limited.models[MODEL].loadable = 0
    loads = limited.endpoints().count("loadModel")
    ran = cli("test", MODEL, "--fast", "--quiet")
    assert (ran.code, len(ran.lines)) == (1, 1)
    assert f"{MODEL}: nothing was loaded: the server's guardrail lets no context at all through" in ran.err
    assert "guardrail" in ran.out
    assert limited.endpoints().count("loadModel") == loads
    assert listed(cli)["tested_context_length"] == 5000


def test_without_the_guardrail_the_loads_decide(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    limited.models[MODEL].load_failure = "refused"
    found = outcome(cli("test", MODEL, "--fast", "--ignore-guardrail", "--json", "--precision", "exhaustive").ok())
    assert "estimateModelUsage" not in limited.endpoints()
    assert found["ended_by"] == "guardrail"  # it refused the loads themselves
    assert found["tested_context_length"] == 8960
    assert {step["outcome"] for step in found["steps"] if step["context_length"] > 9000} == {"refused by guardrail"}


# --- kept apart -------------------------------------------------------------------------------------------------------


def test_a_list_shows_the_server_in_use_and_that_there_are_others(
    cli: Callable[..., Ran], engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("test", TINY, "--fast", "--quiet").ok()
    assert "others" not in cli("list").ok().err
    with FaultyServer(
        FaultyModel(key=TINY, declared=2048, extra={"path": "acme/tiny-GGUF/tiny-f16.gguf"})
    ) as lm_studio:
        monkeypatch.setenv("LMSTRIX_SERVER", lm_studio.address)
        cli("test", TINY, "--fast", "--threshold", "1024", "--quiet").ok()
        assert listed(cli, TINY)["tested_context_length"] == 1024
        shown = cli("list").ok()
        assert "those of LM Studio on this machine; 1 model has others" in shown.err
        cli("infer", "hi", "-m", TINY, "--quiet").ok()
        assert [each.context_length for each in lm_studio.instances.values()] == [1024]
    monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
    assert listed(cli, TINY)["tested_context_length"] == 4096
    assert "those of the embedded engine on this machine" in cli("list").ok().err
    model = listed(cli, TINY)
    assert [(each["engine"], each["ended_by"]) for each in model["results"]] == [
        ("embedded", "declared"),
        ("lmstudio", "threshold"),
    ]
    table = cli("list", TINY, "--verbose").ok().out
    assert f"embedded@{host_name()}" in table
    assert f"lmstudio@{host_name()}" in table


def test_only_the_columns_asked_for(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("test", TINY, "--fast", "--quiet").ok()
    rows = cli("list", TINY, "--columns", "ended-by,model").ok().out.splitlines()
    assert [row.split() for row in rows] == [["ENDED", "BY", "MODEL"], ["declared", TINY]]
    cli("list", "--columns", "model,age").failed(2, "--columns", "'age'", "ended-by")


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.needs_posix("signals to a process")
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


@pytest.mark.slow
@pytest.mark.needs_posix("signals to a process")
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


@pytest.fixture
def three_models(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A server with models a, b and c, which have been tested."""
    with FaultyServer(*(FaultyModel(key=key, declared=2048) for key in "abc")) as server:
        monkeypatch.setenv("LMSTRIX_SERVER", server.address)
        cli("test", "--all", "--fast", "--quiet").ok()
        yield server


def interrupt_all(server: FaultyServer, *words: str, done_with: str, with_signal: str = "SIGINT") -> None:
    """Test all models, and interrupt in the load after that of `done_with`."""

    def hang_from_now_on(asked: int) -> int:
        server.faults.load = "hang"
        return asked

    model, loads = server.models[done_with], server.endpoints().count("loadModel")
    model.effective = hang_from_now_on
    process = start("test", "--all", "--fast", "--sort", "id", "--quiet", *words)
    wait_until(lambda: server.endpoints().count("loadModel") == loads + 2)
    process.send_signal(signal.Signals[with_signal])
    finish(process)
    server.faults.load, model.effective = "", lambda asked: asked


def keys_tested(ran: Ran) -> list[str]:
    """The models that `test --json` tested."""
    return [model["model_key"] for model in ran.json["models"] if model["skipped"] is None]


@pytest.mark.slow
@pytest.mark.needs_posix("signals to a process")
@pytest.mark.parametrize("with_signal", ["SIGINT", "SIGKILL"], ids=["interrupted", "killed"])
def test_an_interrupted_test_of_all_models_can_be_continued(
    cli: Callable[..., Ran], three_models: FaultyServer, with_signal: str
) -> None:
    interrupt_all(three_models, "--force", done_with="a", with_signal=with_signal)
    interrupt_all(three_models, "--continue", done_with="b")
    cli("test", "a", "--fast", "--force", "--quiet").ok()  # a test of one model does not count as the interrupted one
    planned = cli("test", "--all", "--dry-run", "--continue", "--json").ok().json["models"]
    assert [model["model_key"] for model in planned] == ["c"]
    ran = cli("test", "--all", "--continue", "--fast", "--json").ok()
    assert "going on with an interrupted test of all models: 1 left" in ran.err
    assert keys_tested(ran) == ["c"]
    ran = cli("test", "--all", "--resume", "--fast", "--json").ok()
    assert "no test of all models was interrupted" in ran.err
    assert keys_tested(ran) == []


@pytest.mark.slow
@pytest.mark.needs_posix("signals to a process")
def test_what_was_tested_since_is_not_left_over(cli: Callable[..., Ran], three_models: FaultyServer) -> None:
    interrupt_all(three_models, "--force", done_with="a")
    cli("test", "b", "--fast", "--force", "--quiet").ok()
    assert keys_tested(cli("test", "--all", "--continue", "--fast", "--json").ok()) == ["c"]


def test_only_a_test_of_all_models_can_be_continued(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    cli("test", MODEL, "--continue").failed(2, "test --all --continue")


@pytest.mark.slow
def test_a_time_budget_ends_a_fill_that_takes_long(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "models/acme/slow-GGUF/slow-f16.gguf"
    file.parent.mkdir(parents=True)
    # Filling its context takes minutes.
    shutil.copy(tiny_model("llama", context_length=65536, n_layers=12, head_dim=64), file)
    with EmbeddedEngine(tmp_path / "models", memory_limit=2**31) as engine:
        monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
        cli("scan", "--quiet").ok()
        ran = cli("test", "slow", "--fast", "--quiet", "--budget", "4")
        assert (ran.code, ran.lines) == (
            1,
            ["lmstrix: slow: timed out: the time budget of 4 s for this model is spent"],
        )
        assert loaded_on(engine.address) == []
    assert cli("history", "slow", "--json").ok().json["events"][-1]["outcome"] == "interrupted"
    assert listed(cli, "slow")["status"] == "untested"


@pytest.mark.needs_posix("signals to a process")
def test_two_testers_at_once(cli: Callable[..., Ran], limited: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    limited.faults.load = "hang"
    first = start("test", MODEL, "--fast")
    wait_until(lambda: "loadModel" in limited.endpoints())
    cli("test", "--all").failed(1, f"lmstrix test of {MODEL}", str(first.pid))
    first.send_signal(signal.SIGINT)
    assert finish(first)[0] == 130


def test_the_history_of_a_model_tells_what_led_to_its_result(
    cli: Callable[..., Ran], limited: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("scan", "--quiet").ok()
    assert cli("history", MODEL).ok() == (0, "", f"no test of {MODEL} is on record: lmstrix test {MODEL} makes one\n")
    assert cli("test", MODEL, "--ctx", "20000", "--fast", "--quiet").code == 1
    cli("test", MODEL, "--ctx", "5000", "--fast", "--force").ok()
    monkeypatch.setenv("LMSTRIX_SERVER", f"127.0.0.1:{closed_port()}")  # no server is asked
    newest = cli("history", MODEL, "--json").ok().json["events"]
    assert [(event["kind"], event["outcome"]) for event in newest] == [
        ("load", "ok"),
        ("prefill", "ok"),
        ("probe", "ok"),
    ]
    monkeypatch.setenv("COLUMNS", "200")  # in a narrow one, columns go
    table = cli("history", MODEL, "--all").ok()
    # A long detail goes on below its row.
    rows = [line.split()[2:4] for line in table.out.splitlines()[1:] if not line.startswith(" ")]
    assert rows == [["load", "20,000"], ["load", "5,000"], ["fill", "5,000"], ["prompt", rows[-1][1]]]
    assert "out of memory at load" in table.out
    assert table.lines == [f"{MODEL}: 5,000 tokens to use (loads 5,000, recall not tested)"]
    assert "…" not in table.out
    monkeypatch.setenv("COLUMNS", "40")
    assert all(len(line) <= 40 for line in cli("history", MODEL).ok().out.splitlines())


# --- save, reset, estimate --------------------------------------------------------------------------------------------


@pytest.fixture
def lm_studio(faulty: FaultyServer) -> FaultyServer:
    """LM Studio, as a server may say it is, with the model `tiny` of 4,096 tokens."""
    faulty.models = {TINY: FaultyModel(key=TINY, declared=4096, extra={"path": "acme/tiny-GGUF/tiny-f16.gguf"})}
    return faulty


@pytest.fixture
def defaults(cli: Callable[..., Ran], lm_studio: FaultyServer, home: Path) -> Path:
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


def test_save_writes_the_slots_it_was_measured_with(
    cli: Callable[..., Ran], lm_studio: FaultyServer, defaults: Path
) -> None:
    cli("save").ok()
    assert fields(defaults)["llm.load.numParallelSessions"] == 1
    cli("save", TINY, "--parallel-slots", "4").failed(1, "4 slots", "lmstrix test tiny", "--parallel-slots 4")
    cli("test", TINY, "--fast", "--parallel-slots", "4", "--threshold", "2048", "--quiet").ok()
    shown = cli("save", TINY, "--parallel-slots", "4").ok().out
    assert "tested only up to 2,048 (threshold)" in shown
    saved = fields(defaults)
    assert (saved["llm.load.contextLength"], saved["llm.load.numParallelSessions"]) == (2048, 4)
    cli("save", TINY, "--parallel-slots", "0").failed(2, "--parallel-slots", "at least 1")


def test_save_writes_nothing_that_was_measured_elsewhere(
    cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path
) -> None:
    cli("test", TINY, "--fast", "--quiet").ok()
    (home / ".internal").mkdir()
    ran = cli("save").ok()
    assert "1 tested model left out: not measured on LM Studio on this machine" in ran.err
    cli("save", TINY).failed(1, "LM Studio on this machine", f"lmstrix test {TINY} with --server lmstudio")
    assert not (home / FOLDER).exists()


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
