"""The engine as a process: found again, refused twice, gone without a trace when stopped or killed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from lmstrix.engine import daemon, requirements
from lmstrix.engine.__main__ import main
from lmstrix.engine.access import new_token
from lmstrix.engine.daemon import start_engine, stop_engine
from lmstrix.engine.log_reading import engine_log_lines
from lmstrix.engine.options import EngineOptions
from lmstrix.engine.state_file import engine_log_path, engine_status
from lmstrix.engine.stopping import ask_to_stop
from lmstrix.ground.errors import EngineError
from lmstrix.ground.paths import engine_files, own_folder
from tests.engine.conftest import SCRIPTED

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


@pytest.fixture
def options(models_dir: Path) -> EngineOptions:
    return EngineOptions(models_dir=models_dir, memory_limit_bytes=2**30)


@pytest.fixture
def stopping(home: Path) -> Iterator[Path]:
    """LMSTRIX_HOME; an engine started in it is stopped."""
    yield home
    stop_engine(home)


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them ended, soon."""
    _, alive = psutil.wait_procs(processes, timeout=10)
    return not alive


def test_start_use_and_stop(stopping: Path, options: EngineOptions) -> None:
    status = start_engine(stopping, options)
    assert status.running
    assert engine_status(stopping) == status
    assert status.models_dir == options.models_dir
    state = json.loads(engine_files(stopping)[0].read_text())
    assert (state["host"], state["port"], state["pid"]) == ("127.0.0.1", status.port, status.pid)
    loaded = httpx.post(f"http://{status.address}/api/v1/models/load", json={"model": SCRIPTED}, timeout=30)
    assert loaded.status_code == 200
    with pytest.raises(EngineError, match=f"already at {status.address}"):
        start_engine(stopping, options)
    log = list(engine_log_lines(stopping))
    assert any("listening on" in line for line in log)
    processes = [psutil.Process(status.pid), *psutil.Process(status.pid).children(recursive=True)]
    assert len(processes) == 2
    stopped = stop_engine(stopping)
    assert not stopped.running
    assert gone(processes)
    assert not engine_files(stopping)[0].exists()
    assert not stop_engine(stopping).running


def test_an_engine_is_asked_to_stop_before_it_is_ended(
    stopping: Path, options: EngineOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folders = Path(tempfile.mkdtemp(prefix="rt", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run_folders))
    token = new_token()
    status = start_engine(stopping, dataclasses.replace(options, api_token=token))
    state_file = engine_files(stopping)[0]
    assert token not in state_file.read_text()
    assert len(list(run_folders.iterdir())) == 1
    # Only the key of this run ends it: neither nothing, nor the token.
    for key in ("", token):
        assert not ask_to_stop("127.0.0.1", status.port or 0, key)
    assert engine_status(stopping).running
    monkeypatch.setattr(daemon, "end_tree", lambda *_: pytest.fail("it was not asked"))
    stop_engine(stopping)
    assert not state_file.exists()
    assert list(run_folders.iterdir()) == []
    assert "the engine stops: engine stop asked for it" in list(engine_log_lines(stopping))[-1]
    run_folders.rmdir()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_an_engine_that_does_not_answer_is_ended_and_leaves_nothing(
    stopping: Path, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folders = Path(tempfile.mkdtemp(prefix="rt", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run_folders))
    monkeypatch.setattr(daemon, "_STOP_TIMEOUT_S", 1.0)
    status = start_engine(stopping, options)
    assert httpx.post(f"http://{status.address}/api/v1/models/load", json={"model": SCRIPTED}).status_code == 200
    processes = [psutil.Process(status.pid), *psutil.Process(status.pid).children(recursive=True)]
    processes[0].suspend()
    assert not stop_engine(stopping).running
    assert gone(processes)
    assert not (engine_files(stopping)[0]).exists()
    assert list(run_folders.iterdir()) == []
    run_folders.rmdir()


def test_an_engine_of_an_earlier_version_is_stopped_too(stopping: Path, options: EngineOptions) -> None:
    start_engine(stopping, options)
    file = engine_files(stopping)[0]
    state = json.loads(file.read_text())
    del state["run_key"]
    file.write_text(json.dumps(state))
    process = psutil.Process(state["pid"])
    stop_engine(stopping)
    assert gone([process])
    assert not file.exists()


def test_the_command_line(stopping: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*words: str) -> tuple[int, str, str]:
        code = main(words)
        return code, *capsys.readouterr()

    assert command("status") == (0, "no engine runs\n", "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, _, said = command("start", "--models-dir", str(models_dir), "--port", port)
    assert code == 1
    assert said.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in said
    code, shown, said = command("start", "--models-dir", str(models_dir), "--memory-limit", "1GiB")
    status = engine_status(stopping)
    assert (code, said) == (0, "")
    assert f"at {status.address} (pid {status.pid})" in shown
    assert command("logs", "--lines", "1")[1].count("\n") == 1
    assert command("stop") == (0, "no engine runs\n", "")
    assert command("start", "--memory-limit", "much")[0] == 2


def test_two_starts_at_once(stopping: Path, options: EngineOptions) -> None:
    outcomes: list[object] = []

    def start() -> None:
        try:
            outcomes.append(start_engine(stopping, options).port)
        except EngineError as exc:
            outcomes.append(exc)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ports = [outcome for outcome in outcomes if isinstance(outcome, int)]
    (failure,) = [outcome for outcome in outcomes if isinstance(outcome, EngineError)]
    assert ports == [engine_status(stopping).port]
    assert "another engine" in str(failure) or "already" in str(failure)


@pytest.mark.needs_posix("signals are POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_no_signal_leaves_anything_behind(stopping: Path, models_dir: Path, name: str) -> None:
    number = signal.Signals[name]
    words = [sys.executable, "-m", "lmstrix.engine", "run", "--models-dir", str(models_dir)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert "the engine runs at" in process.stdout.readline()
        status = engine_status(stopping)
        assert status.pid == process.pid
        assert httpx.post(f"http://{status.address}/api/v1/models/load", json={"model": SCRIPTED}).status_code == 200
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 1
        process.send_signal(number)
        expected = -number if name == "SIGKILL" else 0
        assert process.wait(20) == expected
    assert gone(children)
    assert not engine_status(stopping).running


def test_a_state_file_is_believed_only_with_the_right_process(home: Path, options: EngineOptions) -> None:
    own_folder(home).mkdir(parents=True)
    started = psutil.Process().create_time()
    state = {"host": "127.0.0.1", "port": 9, "pid": os.getpid(), "process_started": started, "models_dir": "/m"}
    file = engine_files(home)[0]
    file.write_text(json.dumps(state))
    assert engine_status(home).running  # ourselves, as far as the file can tell
    for lie in (
        {**state, "process_started": started - 100},  # our id belonged to another process once
        {**state, "pid": 2**22 + 1},
        {**state, "pid": "1"},
        {**state, "port": None},
        {},
    ):
        file.write_text(json.dumps(lie))
        assert not engine_status(home).running
    for text in ("", "{", "[]", "null"):
        file.write_text(text)
        assert not engine_status(home).running
        assert not stop_engine(home).running


def test_following_the_log(home: Path) -> None:
    with pytest.raises(EngineError, match="no log yet"):
        list(engine_log_lines(home))
    log_file = engine_log_path(home)
    lines = engine_log_lines(home, follow=True)
    timer = threading.Timer(0.2, lambda: log_file.write_text("one\ntwo\n"))
    timer.start()
    assert [next(lines), next(lines)] == ["one\n", "two\n"]
    timer.join()
    assert list(engine_log_lines(home, lines=1)) == ["two\n"]


class TestRequirements:
    def test_missing_packages_are_named_with_the_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        with pytest.raises(EngineError, match=r'aiohttp and xllamacpp: pip install "lmstrix\[engine\]"'):
            requirements.check_requirements()

    @pytest.mark.needs_linux("other wheels bring the library along")
    def test_the_openmp_library_of_the_system_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        requirements.check_requirements()
        monkeypatch.setattr(requirements, "_OPENMP", "libgomp-that-is-not-there.so.1")
        with pytest.raises(EngineError, match="apt install libgomp1"):
            requirements.check_requirements()
