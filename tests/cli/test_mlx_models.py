"""MLX models of an LM Studio: what is saved for them, what it makes of that, and which settings it would ignore."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.core.registry.defaults import FOLDER
from tests.support.faulty_server import FaultyModel, FaultyServer, Instance, collapse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran

MODEL, GGUF = "qwen3.8-27b-mlx", "tiny"
PATH = "lmstudio-community/Qwen3.8-27B-MLX-4bit"
RUNTIME = {"name": "mlx-llm-mac-arm64-apple-metal-advsimd", "version": "1.11.0"}


@pytest.fixture
def lm_studio(faulty: FaultyServer) -> FaultyServer:
    """LM Studio with an MLX model and a GGUF one, both loading whatever is asked, and a context of 4,096 by default."""
    mlx = FaultyModel(key=MODEL, declared=4096, extra={"format": "safetensors", "path": PATH})
    gguf = FaultyModel(key=GGUF, declared=4096, extra={"path": "acme/tiny-GGUF/tiny-f16.gguf"})
    faulty.runtime = True
    faulty.models = {model.key: model for model in (mlx, gguf)}
    faulty.faults.answers["getEngineSelections"] = {"json": [["MLX", RUNTIME]], "meta": {"values": ["map"]}}
    return faulty


@pytest.fixture
def tested(cli: Callable[..., Ran], lm_studio: FaultyServer, home: Path) -> FaultyServer:
    (home / ".internal").mkdir(parents=True)
    cli("test", "--all", "--fast", "--quiet").ok()
    lm_studio.seen.clear()
    return lm_studio


def fields(home: Path, path: str) -> dict[str, Any]:
    load = json.loads((home / FOLDER / f"{path}.json").read_text())["load"]
    return {field["key"]: field["value"] for field in load["fields"]}


def loads(server: FaultyServer) -> list[dict[str, Any]]:
    """What the loads so far asked for."""
    return [
        frame["creationParameter"]
        for _, frame in server.seen
        if frame.get("type") == "channelCreate" and frame["endpoint"] == "loadModel"
    ]


def test_save_writes_mlx_keys_and_loads_once_as_the_app_does(
    cli: Callable[..., Ran], tested: FaultyServer, home: Path
) -> None:
    ran = cli("save").ok()
    assert fields(home, PATH) == {
        "llm.load.contextLength": 4096,
        "llm.load.numParallelSessions": 1,
        "llm.load.mlx.autoFit": False,
    }
    assert "llm.load.mlx.autoFit" not in fields(home, "acme/tiny-GGUF/tiny-f16.gguf")
    (load,) = loads(tested)  # the GGUF model is not loaded, and nothing is asked for: what is saved must count
    assert (load["modelKey"], collapse(load["loadConfigStack"])) == (MODEL, {})
    assert load["ttlMs"] == 600_000
    assert f"{MODEL}: loads 4,096 tokens, as saved" in ran.err
    assert tested.instances == {}
    tested.seen.clear()
    cli("save").ok()  # nothing was written, so nothing is to be checked
    assert loads(tested) == []


def test_save_tells_of_a_runtime_that_ignores_what_is_saved(
    cli: Callable[..., Ran], tested: FaultyServer, home: Path
) -> None:
    tested.models[MODEL].effective = lambda asked: 208_384
    ran = cli("save", MODEL, "--limit", "3000").ok()
    (line,) = [line for line in ran.lines if "saved 3,000" in line]
    assert line == (
        f"{MODEL}: saved 3,000, runs at 208,384: LM Studio ignores the saved context of this MLX model"
        f" (its runtime is {RUNTIME['name']} 1.11.0, reported to do so; 1.8.5 and 1.10.0 were reported to keep it);"
        " lms runtime ls shows the MLX runtimes installed, lms runtime select chooses another"
    )
    assert "unset -> 3000" in ran.out
    told = cli("save", MODEL, "--check", "--json")
    assert told.code == 1
    assert told.json["models"][0]["loaded"] == {
        "saved_context_length": 4096,
        "context_length": 208_384,
        "runtime": RUNTIME,
        "problem": None,
    }


def test_save_checks_what_it_is_told_to(cli: Callable[..., Ran], tested: FaultyServer) -> None:
    cli("save", "--no-check").ok()
    assert loads(tested) == []
    cli("save", "--check").ok()
    assert {load["modelKey"] for load in loads(tested)} == {MODEL, GGUF}
    tested.faults.load = "out of memory"
    ran = cli("save", GGUF, "--check")
    assert (ran.code, f"{GGUF}: does not load as saved" in ran.err) == (1, True)


def test_save_loads_nothing_beside_a_loaded_model(cli: Callable[..., Ran], tested: FaultyServer, home: Path) -> None:
    tested.instances["mine"] = Instance(tested.models[GGUF], "mine", "r", 4096, None, {})
    ran = cli("save", MODEL).ok()
    assert "saved, but LM Studio was not asked what it makes of it: mine is loaded" in ran.err
    assert fields(home, PATH)["llm.load.contextLength"] == 4096
    assert loads(tested) == []


def test_save_where_no_server_runs_says_that_nothing_was_checked(
    cli: Callable[..., Ran], tested: FaultyServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTRIX_SERVER", "127.0.0.1:9")
    ran = cli("save", MODEL).ok()
    assert "saved, but LM Studio was not asked what it makes of it" in ran.err
    assert fields(home, PATH)["llm.load.contextLength"] == 4096
    ran = cli("save", MODEL, "--check")
    assert (ran.code, "saved, but not checked" in ran.err) == (1, True)


def test_settings_of_llama_cpp_are_refused_for_mlx(cli: Callable[..., Ran], tested: FaultyServer, home: Path) -> None:
    cli("save", MODEL, "--flash").failed(2, "--flash", MODEL, "MLX has its own attention; leave it out")
    cli("test", MODEL, "--k-cache-type", "q8_0", "--v-cache-type", "q8_0").failed(2, "--k-cache-type", "leave them out")
    cli("load", MODEL, "--gpu", "0.5").failed(2, "--gpu", "all of a model on the GPU")
    cli("load", MODEL, "--threads", "2", "--mlock").failed(2, "--threads and --mlock", "llama.cpp alone")
    cli("infer", "hi", "-m", MODEL, "--batch-size", "64").failed(2, "--batch-size", "leave it out")
    cli("estimate", MODEL, "--batch-size", "64").failed(2, "--batch-size", "leave it out")
    cli("bench", MODEL, "--gpu", "0.5").failed(2, "--gpu", MODEL, "all of a model on the GPU")
    cli("bench", GGUF, "--against", MODEL, "--against-threads", "2").failed(2, "--threads", MODEL)
    assert not loads(tested)
    assert not (home / FOLDER).exists()
    ran = cli("save", "--flash").ok()
    assert f"no effect on {MODEL}, an MLX model" in ran.err
    assert fields(home, "acme/tiny-GGUF/tiny-f16.gguf")["llm.load.llama.flashAttention"] is True
    assert "llm.load.llama.flashAttention" not in fields(home, PATH)
    skipped = cli("test", "--all", "--fast", "--k-cache-type", "q8_0", "--json").ok().json["models"]
    assert {model["model_key"]: bool(model["skipped"]) for model in skipped} == {MODEL: True, GGUF: False}


def test_what_lm_studio_logs_of_a_load_is_in_the_history(
    cli: Callable[..., Ran], lm_studio: FaultyServer, home: Path
) -> None:
    """Its own figures of the fit, and the runtime that really loaded the model; no line of another load."""
    log = home / "server-logs" / "2026-10" / "2026-10-05.1.log"
    log.parent.mkdir(parents=True)
    log.write_text("Model context auto-fit: fitted=16,384 full_kv=1B/token\n")  # of an earlier load

    def load(_: int) -> int:
        with log.open("a") as file:
            file.write(
                "mlx-llm-mac-arm64-apple-metal-advsimd@1.10.1 (mlx-llm) [context_fit][INFO]: Model context auto-fit:"
                " max=262,144 fitted=16,384 working_set=51.84GiB baseline=14.95GiB full_kv=65536B/token\n"
                "Model context auto-fit: family=gemma4 max=262,144 fitted=99,328 full_kv=2B/token\n"
            )
        return 16_384

    lm_studio.models[MODEL].effective = load
    ran = cli("test", MODEL, "--fast", "--threshold", "2048").ok()
    assert "mlx-llm-mac-arm64-apple-metal-advsimd 1.10.1, reported to do so" in ran.err
    first = cli("history", MODEL, "--json").ok().json["events"][0]
    assert first["detail"] == (
        "effective context 16384; LM Studio's log: it fitted 16,384 of 262,144 tokens,"
        " 65,536 bytes of cache per token, 15.0 GiB before any, of 51.8 GiB"
    )


@pytest.mark.parametrize(
    ("version", "state", "told"),
    [
        ("1.11.0", "note", "one of those reported to ignore the context asked for or saved (1.9.1, 1.10.1 and 1.11.0)"),
        ("1.8.5", "ok", "reported to keep the context asked for"),
        ("1.99.0", "ok", "nothing is reported of how it keeps a context"),
    ],
)
def test_doctor_names_the_mlx_runtime(
    cli: Callable[..., Ran], lm_studio: FaultyServer, version: str, state: str, told: str
) -> None:
    lm_studio.faults.answers["getEngineSelections"] = [["MLX", {**RUNTIME, "version": version}]]
    (check,) = [check for check in cli("doctor", "--json").json["checks"] if check["name"] == "mlx runtime"]
    assert check["state"] == state
    assert check["found"].startswith(f"{RUNTIME['name']} {version}")
    assert told in check["found"]
    assert (check["remedy"] is not None) == (state == "note")


def test_doctor_says_nothing_of_mlx_where_nobody_names_it(cli: Callable[..., Ran], lm_studio: FaultyServer) -> None:
    lm_studio.faults.answers.clear()
    assert "mlx runtime" not in {check["name"] for check in cli("doctor", "--json").json["checks"]}


def test_a_test_names_the_runtime_that_ignores_the_context(cli: Callable[..., Ran], lm_studio: FaultyServer) -> None:
    lm_studio.models[MODEL].effective = lambda asked: 16_384
    ran = cli("test", MODEL, "--fast", "--threshold", "2048").ok()
    assert "runtime ignores the asked context: asked 2,048, runs at 16,384" in ran.err
    assert "mlx-llm-mac-arm64-apple-metal-advsimd 1.11.0, reported to do so" in ran.err
    (listed,) = [m for m in cli("list", "--json").ok().json["models"] if m["model_key"] == MODEL]
    assert (listed["tested_context_length"], listed["status"]) == (2048, "completed")
