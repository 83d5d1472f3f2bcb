"""Children start, fail, die and are killed; each end is told, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.client import LlamaClient, LlamaGoneError, LlamaRefusalError
from lmstrix.engine.llama.process import Launch, LlamaProcess, exit_code
from lmstrix.engine.llama.process_memory import GONE
from lmstrix.engine.records import LoadSettings
from tests.engine.children import own_children
from tests.engine.pools import noting
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lmstrix.engine.llama.process import OnLine

MIB = 2**20


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Short, as sockets are made in it: a Mac takes 104 bytes, of which pytest's own folder leaves too few."""
    with tempfile.TemporaryDirectory(prefix="llama", dir=None if sys.platform == "win32" else "/tmp") as name:
        yield Path(name)


def launch_of(model: Path, run_dir: Path, *, n_ctx: int = 512, budget_bytes: int | None = None) -> Launch:
    run_dir.mkdir(exist_ok=True)
    return Launch(
        model_file=str(model),
        mmproj_file=None,
        n_ctx=n_ctx,
        settings=LoadSettings(),
        embedding=False,
        threads=1,
        run_dir=run_dir,
        expected_bytes=100 * MIB,
        budget_bytes=budget_bytes,
    )


@contextlib.asynccontextmanager
async def running(launch: Launch) -> AsyncIterator[LlamaProcess]:
    process = await LlamaProcess.launch(launch, on_line=lambda *_: None)
    try:
        yield process
    finally:
        await process.stop()


async def failure(launch: Launch) -> EngineFault:
    with pytest.raises(EngineFault) as caught:
        async with running(launch):
            pass
    assert own_children() == []
    assert list(launch.run_dir.iterdir()) == []
    return caught.value


async def test_a_child_answers_and_is_gone_after_stop(tmp_path: Path) -> None:
    ratios: list[float] = []
    lines: list[tuple[str, str]] = []
    launch = launch_of(scripted_model(), tmp_path / "run", n_ctx=1000)
    process = await LlamaProcess.launch(launch, on_progress=noting(ratios), on_line=lambda *line: lines.append(line))
    assert (await process.client.get("/slots"))[0]["n_ctx"] == 1024
    assert ratios == sorted(ratios)
    assert ratios[-1] == 1.0
    assert any("KV buffer size" in text for _, text in lines)
    await process.stop()
    assert not psutil.pid_exists(process.pid)
    assert list(launch.run_dir.iterdir()) == []
    with pytest.raises(LlamaGoneError):
        await process.client.get("/slots")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "magic"), (b"<html>", "magic"), (None, "not within the file bounds")],
    ids=["empty", "not a model", "truncated"],
)
async def test_a_bad_file_fails_with_the_reason(tmp_path: Path, content: bytes | None, said: str) -> None:
    bad = tmp_path / "bad.gguf"
    whole = tiny_model().read_bytes()
    bad.write_bytes(whole[: len(whole) // 2] if content is None else content)
    fault = await failure(launch_of(bad, tmp_path / "run"))
    assert (fault.title, fault.kind) == ("Failed to load model", "load_failed")
    assert fault.cause is not None
    assert said in fault.cause


async def test_what_it_logs_of_its_buffers_is_known_once_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LlamaProcess._read_stderr

    async def read_late(self: LlamaProcess, on_line: OnLine) -> None:
        await asyncio.sleep(0.5)  # longer than the load takes: its report comes by another pipe
        await read(self, on_line)

    monkeypatch.setattr(LlamaProcess, "_read_stderr", read_late)
    async with running(launch_of(scripted_model(), tmp_path / "run")) as process:
        assert process.buffers.of_kind("KV") > 0


@pytest.mark.needs_linux("only Linux enforces the limit")
async def test_a_load_beyond_its_address_space_is_refused_not_killed(tmp_path: Path) -> None:
    model = tiny_model(context_length=4 * MIB)
    fault = await failure(launch_of(model, tmp_path / "run", n_ctx=4 * MIB, budget_bytes=100 * MIB))
    assert fault.title == "Failed to load model"
    assert fault.cause is not None
    assert "fail" in fault.cause


@pytest.mark.needs_posix("a job object limits it on Windows")
async def test_where_nothing_limits_its_memory_a_load_that_takes_too_much_is_ended(tmp_path: Path) -> None:
    model = scripted_model(context_length=4 * MIB)
    launch = launch_of(model, tmp_path / "run", n_ctx=4 * MIB, budget_bytes=64 * MIB)
    fault = await failure(replace(launch, guard="watched"))
    assert (fault.title, fault.kind) == ("Failed to load model", "load_failed")
    assert fault.cause is not None
    assert fault.cause.startswith("insufficient memory: it took ")


@pytest.mark.needs_posix("a job object limits it on Windows")
async def test_a_watched_model_that_grows_too_much_is_ended_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = 0
    monkeypatch.setattr("lmstrix.engine.memory_guard.process_memory", lambda _pid: replace(GONE, resident_bytes=held))
    launch = replace(launch_of(scripted_model(), tmp_path / "run", budget_bytes=100 * MIB), guard="watched")
    async with running(launch) as process:
        held = 2**40
        fault = await process.crash_fault()
    assert (fault.title, fault.kind) == ("The model was ended.", "crashed")
    assert fault.cause is not None
    assert fault.cause.startswith("insufficient memory: it took 1024 GiB of ")


async def test_an_abort_is_told_by_its_exit_code(tmp_path: Path) -> None:
    fault = await failure(launch_of(tiny_model(), tmp_path / "run", n_ctx=1))
    assert fault.title == "Error loading model."
    assert fault.cause == "(Exit code: 134). Unknown error. Try a different model and/or config."
    assert fault.error_data == {"exitCode": 134}


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("ModuleNotFoundError: No module named 'xllamacpp'", 'pip install "lmstrix[engine]"'),
        ("ImportError: libgomp.so.1: cannot open shared object file", "apt install libgomp1 (or dnf install libgomp)"),
        ("ImportError: DLL load failed while importing xllamacpp", "winget install Microsoft.VCRedist.2015+.x64"),
    ],
)
async def test_a_missing_runtime_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, remedy: str
) -> None:
    child = tmp_path / "child.py"
    child.write_text(f"import json; print(json.dumps({{'pid': 1}})); print(json.dumps({{'failed': {said!r}}}))")
    monkeypatch.setattr("lmstrix.engine.llama.starting.CHILD", child)
    fault = await failure(launch_of(scripted_model(), tmp_path / "run"))
    assert fault.title == "The llama.cpp runtime cannot be imported"
    assert (fault.cause, fault.suggestion) == (said, remedy)


async def test_a_cancelled_load_leaves_nothing(tmp_path: Path) -> None:
    launch = launch_of(scripted_model(), tmp_path / "run")
    load = asyncio.create_task(LlamaProcess.launch(launch, on_line=lambda *_: None))
    while not own_children():
        await asyncio.sleep(0.001)
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert own_children() == []
    assert list(launch.run_dir.iterdir()) == []


@pytest.mark.needs_posix("signals to a process")
async def test_a_killed_child_is_told_by_its_exit_code(tmp_path: Path) -> None:
    async with running(launch_of(scripted_model(), tmp_path / "run")) as process:
        os.kill(process.pid, signal.SIGKILL)
        fault = await process.crash_fault()
        assert fault.title == "The model has crashed without additional information. (Exit code: 137)"
        assert (fault.kind, fault.error_data) == ("crashed", {"exitCode": 137})
        with pytest.raises(LlamaGoneError):
            await process.client.get("/slots")


async def test_a_refusal_carries_what_llama_cpp_says(tmp_path: Path) -> None:
    async with running(launch_of(scripted_model(), tmp_path / "run", n_ctx=256)) as process:
        with pytest.raises(LlamaRefusalError) as caught:
            async with process.client.stream("/completion", {"prompt": "a b" * 300, "stream": True}) as batches:
                assert [batch async for batch in batches] == []
    assert (caught.value.code, caught.value.kind) == (400, "exceed_context_size_error")
    assert caught.value.body["n_ctx"] == 256


async def test_only_this_user_reaches_the_child(tmp_path: Path) -> None:
    async with running(launch_of(scripted_model(), tmp_path / "run")) as process:
        listening = [c for c in psutil.Process(process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert listening == []


async def test_over_tcp_a_child_asks_for_a_key(tmp_path: Path) -> None:
    async with running(replace(launch_of(scripted_model(), tmp_path / "run"), over_tcp=True)) as process:
        assert len((await process.client.post("/tokenize", {"content": "12"}))["tokens"]) == 2
        (listening,) = [c for c in psutil.Process(process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert listening.laddr.ip == "127.0.0.1"
        stranger = LlamaClient(f"http://127.0.0.1:{listening.laddr.port}")
        with pytest.raises(LlamaRefusalError, match="API Key"):
            await stranger.post("/tokenize", {"content": "12"})
        await stranger.close()


def test_a_killed_parent_takes_its_children_along(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from lmstrix.engine.llama.process import Launch, LlamaProcess
from lmstrix.engine.records import LoadSettings
async def main():
    launch = Launch(
        model_file={str(scripted_model())!r}, mmproj_file=None, n_ctx=512, settings=LoadSettings(), embedding=False,
        threads=1, run_dir=Path({str(tmp_path)!r}), expected_bytes=1,
    )
    process = await LlamaProcess.launch(launch, on_line=lambda *_: None)
    print(process.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(timeout=10)


LOCK_WEIGHTS = """
import asyncio, resource, sys
from pathlib import Path
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.process import Launch, LlamaProcess
from lmstrix.engine.records import LoadSettings
async def main():
    launch = Launch(
        model_file=sys.argv[1], mmproj_file=None, n_ctx=512, settings=LoadSettings(keep_in_memory=True),
        embedding=False, threads=1, run_dir=Path(sys.argv[2]), expected_bytes=1,
    )
    try:
        process = await LlamaProcess.launch(launch, on_line=lambda *_: None)
    except EngineFault as fault:
        print(fault)
        return
    (locked,) = [line.split()[1] for line in open(f"/proc/{process.pid}/status") if line.startswith("VmLck")]
    print(locked)
    await process.stop()
resource.setrlimit(resource.RLIMIT_MEMLOCK, (int(sys.argv[3]), int(sys.argv[3])))
asyncio.run(main())
"""


def without_the_right_to_lock_more() -> None:
    """For a child that is to be started: root has that right otherwise, whatever the limit says."""
    ctypes.CDLL(None).prctl(24, 14, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_IPC_LOCK


@pytest.mark.needs_linux("its /proc tells what is locked")
@pytest.mark.parametrize("limit_bytes", [8 * MIB, 65_536])
def test_weights_are_locked_in_memory_or_the_load_is_refused(tmp_path: Path, limit_bytes: int) -> None:
    model = scripted_model()
    done = subprocess.run(
        [sys.executable, "-c", LOCK_WEIGHTS, str(model), str(tmp_path), str(limit_bytes)],
        preexec_fn=without_the_right_to_lock_more,
        capture_output=True,
        text=True,
        check=True,
    )
    if limit_bytes > model.stat().st_size:
        assert int(done.stdout) * 1024 > model.stat().st_size / 2
    else:
        assert "cannot honour llm.load.llama.keepModelInMemory" in done.stdout
        assert "lock less than the weights" in done.stdout


HOLD_EVERYTHING = """
import ctypes, os
from lmstrix.engine.llama.child import start_watcher
start_watcher()
os.write(1, b"x")
ctypes.PyDLL(None).sleep(60)  # as a load does, it lets no other thread of Python run
"""


@pytest.mark.parametrize("first", ["parent", "model"])
@pytest.mark.needs_posix("a watcher is forked; a job object does it on Windows")
def test_a_watcher_ends_a_load_whose_parent_is_gone(first: str) -> None:
    words = [sys.executable, "-c", HOLD_EVERYTHING]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as model:
        assert model.stdin is not None
        assert model.stdout is not None
        assert model.stdout.read(1) == b"x"
        (watcher,) = psutil.Process(model.pid).children()
        if first == "model":
            model.kill()
            # Nobody else holds the model's output: its reader sees the end at once.
            assert model.stdout.read() == b""
            watcher.wait(timeout=10)
        model.stdin.close()
        assert model.wait(10) == -signal.SIGKILL
        watcher.wait(timeout=10)


def test_a_model_under_a_watcher_loads_and_ends(tmp_path: Path) -> None:
    async def load_and_stop() -> list[psutil.Process]:
        async with running(replace(launch_of(scripted_model(), tmp_path / "run"), watcher=True)) as process:
            watchers = psutil.Process(process.pid).children()
            assert (await process.client.get("/slots"))[0]["n_ctx"] == 512
        return watchers

    watchers = asyncio.run(load_and_stop())
    assert len(watchers) == 1
    assert psutil.wait_procs(watchers, timeout=10)[1] == []


def test_memory_comes_back_after_stop(tmp_path: Path) -> None:
    """What a load takes is in the child: this process does not grow with it."""

    async def load_and_stop() -> int:
        async with running(launch_of(scripted_model(), tmp_path / "run", n_ctx=32768)) as process:
            return int(psutil.Process(process.pid).memory_info().rss)

    before = psutil.Process().memory_info().rss
    child_bytes = asyncio.run(load_and_stop())
    assert psutil.Process().memory_info().rss - before < child_bytes / 2


@pytest.mark.parametrize(("return_code", "expected"), [(0, 0), (1, 1), (-9, 137), (-6, 134), (-7, 135)])
def test_exit_codes_are_those_of_a_shell(return_code: int, expected: int) -> None:
    assert exit_code(return_code) == expected
