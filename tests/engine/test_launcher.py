"""An engine and its models where a launcher stands before the interpreter, as `python.exe` does in a Windows venv."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from lmstrix.engine.daemon import start_engine, stop_engine
from lmstrix.engine.llama.process import LlamaProcess
from lmstrix.engine.options import EngineOptions
from lmstrix.engine.state_file import engine_log_path, engine_status
from lmstrix.ground.paths import engine_files
from lmstrix.ground.processes import end_tree, own_python
from tests.engine.conftest import SCRIPTED
from tests.engine.llama.test_process import launch_of
from tests.support.launchers import make_launcher
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs_posix("the stand-in is a script with an interpreter line")
WAIT_S = 30.0


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What this process, an engine it starts and their models take for their interpreter."""
    path = make_launcher(tmp_path / "venv")
    monkeypatch.setattr(sys, "executable", str(path))
    return path


@pytest.fixture
def stopping(home: Path) -> Iterator[Path]:
    yield home
    stop_engine(home)


def is_launcher(process: psutil.Process, launcher: Path) -> bool:
    """Whether it is the stand-in, not the interpreter that it started."""
    return process.cmdline()[1] == "-IS" and str(launcher) in process.cmdline()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def load(address: str | None) -> None:
    answer = httpx.post(f"http://{address}/api/v1/models/load", json={"model": SCRIPTED}, timeout=WAIT_S)
    assert answer.status_code == 200, answer.text


def test_start_status_load_and_stop(launcher: Path, stopping: Path, models_dir: Path) -> None:
    status = start_engine(stopping, EngineOptions(models_dir=models_dir, memory_limit_bytes=2**30))
    assert engine_status(stopping) == status
    assert status.pid is not None
    engine = psutil.Process(status.pid)
    assert not is_launcher(engine, launcher)
    before = engine.parent()
    assert before is not None
    assert is_launcher(before, launcher)
    load(status.address)
    tree = [before, engine, *engine.children(recursive=True)]
    assert [is_launcher(process, launcher) for process in tree] == [True, False, True, False]
    assert not stop_engine(stopping).running
    assert psutil.wait_procs(tree, WAIT_S)[1] == []
    assert not (engine_files(stopping)[0]).exists()


def test_a_model_that_crashes_is_told_and_its_launcher_gone(launcher: Path, stopping: Path, models_dir: Path) -> None:
    status = start_engine(stopping, EngineOptions(models_dir=models_dir))
    load(status.address)
    children = psutil.Process(status.pid).children(recursive=True)
    (model,) = [child for child in children if not is_launcher(child, launcher)]
    model.kill()
    wait_until(lambda: "exit code 137" in engine_log_path(stopping).read_text())
    assert psutil.wait_procs(children, WAIT_S)[1] == []
    load(status.address)


def test_an_engine_that_is_killed_takes_its_models_along(launcher: Path, stopping: Path, models_dir: Path) -> None:
    status = start_engine(stopping, EngineOptions(models_dir=models_dir))
    load(status.address)
    engine = psutil.Process(status.pid)
    children = engine.children(recursive=True)
    assert len(children) == 2
    engine.kill()
    assert psutil.wait_procs([engine, *children], WAIT_S)[1] == []
    assert not engine_status(stopping).running


async def test_a_load_is_watched_at_the_process_that_loads(launcher: Path, tmp_path: Path) -> None:
    launch = launch_of(scripted_model(), tmp_path / "run", n_ctx=65536)
    process = await LlamaProcess.launch(launch, on_line=lambda *_: None)
    try:
        model = psutil.Process(process.pid)
        assert not is_launcher(model, launcher)
        assert process.memory_when_loaded.resident_bytes > 30 * 2**20  # the launcher takes 10 MiB
    finally:
        await process.stop()
    assert psutil.wait_procs([model], WAIT_S)[1] == []


async def test_a_launcher_that_is_killed_leaves_no_model(launcher: Path, tmp_path: Path) -> None:
    process = await LlamaProcess.launch(launch_of(scripted_model(), tmp_path / "run"), on_line=lambda *_: None)
    try:
        model = psutil.Process(process.pid)
        before = model.parent()
        assert before is not None
        assert is_launcher(before, launcher)
        before.kill()
        assert (await process.crash_fault()).kind == "crashed"
        assert psutil.wait_procs([model], WAIT_S)[1] == []
    finally:
        await process.stop()


def test_what_a_launcher_started_ends_with_it(launcher: Path) -> None:
    words = own_python("-I", "-c", "import time; print('runs', flush=True); time.sleep(60)").words
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        (interpreter,) = psutil.Process(process.pid).children()
        # Stopped, it does not hear that it shall end.
        os.kill(interpreter.pid, signal.SIGSTOP)
        end_tree(process.pid, 0.5)
        assert psutil.wait_procs([interpreter], WAIT_S)[1] == []
