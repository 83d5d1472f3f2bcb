"""What went wrong once must not hide a model's limit: after each of six mishaps the next plain test finds the truth."""

from __future__ import annotations

import inspect
import json
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from lmstrix.engine.protocol.endpoints.models import LanguageModels
from tests.cli.conftest import TINY, FreeMemory, loaded_on
from tests.cli.processes import finish, start, wait_until
from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine import EmbeddedEngine
    from lmstrix.engine.instance import Instance
    from lmstrix.engine.pool import InstancePool
    from tests.cli.conftest import Ran

MODEL, TRUTH = "acme/tiny", 32768
TINY_TRUTH = 4096
MIB, GIB = 2**20, 2**30


@pytest.fixture
def server(faulty: FaultyServer) -> FaultyServer:
    """Its model holds all it declares, 32,768 tokens; its guardrail lets everything through."""
    memory = {"modelVramBytes": 0, "contextVramBytes": 0, "totalVramBytes": 0, "modelBytes": 0, "contextBytes": 0}
    estimate = {"memory": {"confidence": "high", "totalBytes": 0, **memory}, "passesGuardrails": True}
    faulty.faults.answers["estimateModelUsage"] = estimate
    return faulty


def model_of(ran: Ran) -> dict[str, Any]:
    """The one model of `test --json`."""
    (model,) = ran.json["models"]
    return dict(model)


def plain(cli: Callable[..., Ran], model: str = MODEL) -> dict[str, Any]:
    return model_of(cli("test", model, "--fast", "--json"))


def in_use(cli: Callable[..., Ran], model: str = MODEL) -> int | None:
    """What `list` says to use."""
    listed = cli("list", "--json").ok().json["models"]
    lengths: dict[str, int | None] = {one["model_key"]: one["tested_context_length"] for one in listed}
    return lengths[model]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["out of memory", "died"])
@pytest.mark.parametrize(
    ("short_bytes", "usual_bytes"),
    [(MIB, 64 * GIB), (64 * GIB, 64 * GIB), (None, None)],
    ids=["read", "blind", "unread"],
)
def test_a_passing_shortage(
    cli: Callable[..., Ran],
    server: FaultyServer,
    free_memory: FreeMemory,
    how: str,
    short_bytes: int | None,
    usual_bytes: int | None,
) -> None:
    model = server.models[MODEL]
    model.loadable, model.load_failure, free_memory.bytes = 9000, how, short_bytes
    found = plain(cli)
    assert found["failing_loads"] > 0
    assert (found["tested_context_length"] or 0) <= 9000
    model.loadable, free_memory.bytes = None, usual_bytes
    found = plain(cli)
    assert (found["tested_context_length"], found["capped_by"]) == (TRUTH, None)


@pytest.mark.slow
def test_a_passing_shortage_takes_nothing_back(
    cli: Callable[..., Ran], server: FaultyServer, free_memory: FreeMemory
) -> None:
    model = server.models[MODEL]
    free_memory.bytes = 64 * GIB
    assert plain(cli)["tested_context_length"] == TRUTH
    model.loadable, free_memory.bytes = 9000, MIB
    assert (plain(cli)["tested_context_length"] or 0) <= 9000
    assert in_use(cli) == TRUTH
    model.prefillable = 10
    assert plain(cli)["tested_context_length"] is None
    assert in_use(cli) == TRUTH


@pytest.mark.slow
def test_a_lasting_shortage_is_not_run_into_again(
    cli: Callable[..., Ran], server: FaultyServer, free_memory: FreeMemory
) -> None:
    server.models[MODEL].loadable, free_memory.bytes = 9000, MIB
    found, failed = plain(cli), []
    while found["failing_loads"]:  # each test stays below what failed in those before it
        failed.append(min(step["context_length"] for step in found["steps"] if step["outcome"] != "ok"))
        ran = cli("test", MODEL, "--fast", "--json")
        found = model_of(ran)
        assert f"acme/tiny failed at {failed[-1]:,} tokens on 20" in ran.err
        assert "with 1.00 MiB free: only shorter contexts are tried (--force tries all)" in ran.err
        assert all(step["context_length"] < failed[-1] for step in found["steps"])
    cap = found["capped_by"]
    assert (cap["context_length"], cap["free_bytes"], cap["took_machine_down"]) == (failed[-1], MIB, False)
    ran = cli("test", MODEL, "--fast").ok()
    assert f"acme/tiny: capped below {failed[-1]:,}, which failed on 20" in ran.err
    assert "with 1.00 MiB free; --force tries again" in ran.err
    server.models[MODEL].loadable = None
    assert model_of(cli("test", MODEL, "--fast", "--json", "--force").ok())["tested_context_length"] == TRUTH
    assert plain(cli)["capped_by"] is None  # it has held since


@pytest.mark.slow
@pytest.mark.needs_posix("signals to a process")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGHUP", "SIGTERM"])
@pytest.mark.parametrize("stage", ["load", "predict"])
def test_a_signal_to_the_tester(cli: Callable[..., Ran], server: FaultyServer, name: str, stage: str) -> None:
    endpoint = {"load": "loadModel", "predict": "predict"}[stage]
    setattr(server.faults, stage, "hang")
    process = start("test", MODEL, "--fast", "--quiet")
    wait_until(lambda: endpoint in server.endpoints())
    number = signal.Signals[name]
    process.send_signal(number)
    code, _, _ = finish(process)
    assert code == (-number if name == "SIGKILL" else 128 + number)
    setattr(server.faults, stage, "")
    assert plain(cli)["tested_context_length"] == TRUTH
    assert server.instances == {}


@pytest.mark.slow
@pytest.mark.needs_posix("signals to a process")
@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
def test_a_signal_among_all_models_shows_and_keeps_what_was_found(
    cli: Callable[..., Ran], server: FaultyServer, name: str
) -> None:
    def only_once(asked: int) -> int:
        server.faults.load = "hang"  # from the next load on
        return asked

    server.models = {"a": FaultyModel(key="a", declared=2048, effective=only_once), "b": FaultyModel(key="b")}
    cli("scan", "--quiet").ok()
    process = start("test", "--all", "--fast", "--json", "--sort", "id")
    wait_until(lambda: server.endpoints().count("loadModel") > 1)
    number = signal.Signals[name]
    process.send_signal(number)
    code, out, _ = finish(process)
    assert code == 128 + number
    assert [(m["model_key"], m["tested_context_length"]) for m in json.loads(out)["models"]] == [("a", 2048)]
    assert in_use(cli, "a") == 2048
    assert server.instances == {}


def test_somebody_elses_unload(cli: Callable[..., Ran], server: FaultyServer, free_memory: FreeMemory) -> None:
    free_memory.bytes = MIB
    server.faults.predict = "unloaded"
    found = plain(cli)
    assert (found["outcome"], found["last_known_bad"], found["failing_prefills"]) == ("unloaded meanwhile", None, 0)
    server.faults.predict = ""
    assert plain(cli)["tested_context_length"] == TRUTH


def before_the_first_prediction(
    monkeypatch: pytest.MonkeyPatch, mishap: Callable[[InstancePool, Instance], object]
) -> None:
    """Let this happen to the model that the engine, which runs in this process, is asked for the first time."""
    run, waiting = LanguageModels._run, [mishap]

    async def run_after_mishap(self: LanguageModels, channel: Any, instance: Instance, *rest: Any) -> None:
        while waiting:
            done = waiting.pop()(self._state.pool, instance)
            if inspect.isawaitable(done):
                await done
        await run(self, channel, instance, *rest)

    monkeypatch.setattr(LanguageModels, "_run", run_after_mishap)


@pytest.mark.slow
def test_somebody_elses_unload_from_an_engine(
    cli: Callable[..., Ran], engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_the_first_prediction(monkeypatch, lambda pool, instance: pool.unload(instance.identifier))
    ran = cli("test", TINY, "--json")
    assert (ran.code, model_of(ran)["outcome"]) == (1, "unloaded meanwhile")
    assert model_of(cli("test", TINY, "--json").ok())["tested_context_length"] == TINY_TRUTH
    assert loaded_on(engine.address) == []


@pytest.mark.slow
@pytest.mark.usefixtures("engine")
def test_a_stray_kill_of_the_engines_child(
    cli: Callable[..., Ran], free_memory: FreeMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_memory.bytes = 64 * GIB
    before_the_first_prediction(monkeypatch, lambda _, instance: psutil.Process(instance.process.pid).kill())
    ran = cli("test", TINY, "--json")
    found = model_of(ran)
    assert found["failing_prefills"] + found["failing_loads"] > 0
    assert "engine died" in ran.out
    assert model_of(cli("test", TINY, "--json").ok())["tested_context_length"] == TINY_TRUTH
    assert in_use(cli, TINY) == TINY_TRUTH


@pytest.mark.parametrize("words", [(), ("--ctx", "20000")], ids=["search", "one length"])
def test_a_guardrail_since_relaxed(
    cli: Callable[..., Ran], server: FaultyServer, free_memory: FreeMemory, words: tuple[str, ...]
) -> None:
    free_memory.bytes = MIB
    model = server.models[MODEL]
    model.loadable, model.load_failure = 9000, "refused"
    refused = model_of(cli("test", MODEL, "--fast", "--json", *words))
    assert refused["last_known_bad"] is None
    assert "refused by guardrail" in {step["outcome"] for step in refused["steps"]}
    model.loadable = None
    found = model_of(cli("test", MODEL, "--fast", "--json", *words).ok())
    assert found["tested_context_length"] == (20000 if words else TRUTH)


def test_a_template_that_fails_is_no_load_failure(
    cli: Callable[..., Ran], server: FaultyServer, free_memory: FreeMemory
) -> None:
    free_memory.bytes = MIB
    broken = {"title": "Error rendering prompt with jinja template: unknown filter"}
    server.faults.errors["applyPromptTemplate"] = broken
    for words in (("--fast",), ()):
        found = model_of(cli("test", MODEL, "--json", *words))
        assert (found["outcome"], found["loads"], found["failing_loads"]) == ("chat template failed", 1, 0)
        assert found["last_known_bad"] is None
    del server.faults.errors["applyPromptTemplate"]
    assert plain(cli)["tested_context_length"] == TRUTH
