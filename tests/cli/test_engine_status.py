"""What a running engine holds, and that a model it loads by itself comes at the context `lmstrix test` has proven."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import httpx
import pytest

from lmstrix.engine.access import new_token
from lmstrix.engine.daemon import start_engine, stop_engine
from lmstrix.engine.options import EngineOptions
from tests.cli.conftest import TINY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ran

pytestmark = pytest.mark.slow


@pytest.fixture
def stopping(home: Path) -> Iterator[Path]:
    """LMSTRIX_HOME; an engine started in it is stopped."""
    yield home
    stop_engine(home)


def test_a_tested_model_is_asked_for_over_rest(cli: Callable[..., Ran], stopping: Path, models_dir: Path) -> None:
    started = cli("engine", "start", "--models-dir", str(models_dir), "--memory-limit", "1GiB", "--json").ok().json
    assert cli("engine", "status").ok().out.count("\n") == 1
    cli("scan", "--quiet").ok()
    cli("test", TINY, "--fast", "--quiet").ok()
    (model,) = (each for each in cli("list", "--json").ok().json["models"] if each["model_key"] == TINY)
    tested = model["tested_context_length"]
    answer = httpx.post(
        f"http://{started['address']}/v1/completions",
        json={"model": TINY, "prompt": "Hi", "max_tokens": 1},
        timeout=30,
    )
    assert (answer.headers["X-LMStrix-Context-Length"], answer.headers["X-LMStrix-Context-Source"]) == (
        str(tested),
        "tested",
    )
    assert f"  {TINY}: context of {tested:,} tokens (tested)\n" in cli("engine", "status").ok().out
    told = cli("engine", "status", "--json").ok().json["models"]
    assert told == [{"instance_id": TINY, "context_length": tested, "context_source": "tested"}]
    assert "the length its test proved" in cli("engine", "logs").ok().out


def test_an_engine_that_asks_for_a_token(
    cli: Callable[..., Ran], stopping: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = new_token()
    start_engine(stopping, EngineOptions(models_dir=models_dir, api_token=token))
    ran = cli("engine", "status").ok()
    assert "the engine runs at" in ran.out
    assert "does not tell what it holds: set LMSTRIX_API_TOKEN" in ran.err
    assert cli("engine", "status", "--json").ok().json["models"] is None
    monkeypatch.setenv("LMSTRIX_API_TOKEN", token)
    assert cli("engine", "status", "--json").ok().json["models"] == []


@pytest.mark.needs_posix("stops a process by a signal")
def test_doctor_takes_an_engine_that_hangs_for_one_that_runs(
    cli: Callable[..., Ran], stopping: Path, models_dir: Path
) -> None:
    status = start_engine(stopping, EngineOptions(models_dir=models_dir))
    assert status.pid is not None
    os.kill(status.pid, signal.SIGSTOP)
    try:
        checks = {check["name"]: check for check in cli("doctor", "--json").json["checks"]}
    finally:
        os.kill(status.pid, signal.SIGCONT)
    hung = f"the engine at {status.address} (process {status.pid}) runs and does not answer"
    remedy = "lmstrix engine stop ends it, lmstrix engine start begins anew"
    budget = checks["budget, embedded engine"]
    assert (budget["state"], budget["found"]) == ("note", f"{hung}; {remedy}")
    assert (checks["server"]["found"], checks["server"]["remedy"]) == (hung, remedy)


@pytest.mark.needs_posix("stops a process by a signal")
def test_commands_beside_an_engine_that_hangs_say_how_to_end_it(
    cli: Callable[..., Ran], stopping: Path, models_dir: Path
) -> None:
    status = start_engine(stopping, EngineOptions(models_dir=models_dir))
    assert status.pid is not None
    cli("scan", "--quiet").ok()
    os.kill(status.pid, signal.SIGSTOP)
    hung = f"the engine at {status.address} (process {status.pid}) runs and does not answer"
    remedy = "lmstrix engine stop ends it, lmstrix engine start begins anew"
    try:
        cli("ps").failed(3, f"{hung}; {remedy}")
        assert f"{hung} ({remedy}); serving" in cli("embed", "hi").ok().err
        assert f"{hung}; reading the models directory alone" in cli("scan").err
        assert "does not answer" in cli("engine", "status").ok().err
    finally:
        os.kill(status.pid, signal.SIGCONT)
    assert "runs and does not answer" not in cli("ps").ok().err
