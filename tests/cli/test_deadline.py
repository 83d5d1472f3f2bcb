"""`--timeout` against a server that hangs, drips or lies: the command ends, and says what took the time."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import SCRIPTED
from tests.cli.processes import finish, start, wait_until
from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran

MODEL, EMBEDDING = "acme/tiny", "acme/embed"
ASK = ("infer", "What is 2+3?", "-m", MODEL)


@pytest.fixture
def scanned(cli: Callable[..., Ran], faulty: FaultyServer) -> FaultyServer:
    faulty.models[EMBEDDING] = FaultyModel(key=EMBEDDING, kind="embedding")
    cli("scan", "--quiet").ok()
    return faulty


@pytest.mark.parametrize(
    ("words", "load", "muted", "step"),
    [
        (ASK, "hang", "", "loading acme/tiny"),
        (ASK, "drip", "", "loading acme/tiny"),
        (ASK, "deaf", "", "loading acme/tiny"),
        (ASK, "", "listLoaded", "asking what is loaded"),
        (ASK, "", "applyPromptTemplate", "counting the prompt"),
        (ASK, "", "countTokens", "counting the prompt"),
        ((*ASK, "--ttl", "0"), "", "countTokens", "counting the prompt"),
        ((*ASK, "--stream"), "hang", "", "loading acme/tiny"),
        (("load", MODEL), "hang", "", "loading acme/tiny"),
        (("embed", "a", "-m", EMBEDDING), "hang", "", "loading acme/embed"),
        (("embed", "a", "-m", EMBEDDING), "", "embedString", "embedding the texts"),
        (("ps",), "", "listLoaded", "asking what is loaded"),
        (("unload", "--all"), "", "listLoaded", "asking what is loaded"),
        (("scan",), "", "listDownloadedModels", "asking the server for its models"),
    ],
)
def test_the_limit_covers_every_step(
    cli: Callable[..., Ran], scanned: FaultyServer, words: tuple[str, ...], load: str, muted: str, step: str
) -> None:
    scanned.faults.load = load
    scanned.faults.mute.add(muted)
    cli(*words, "--timeout", "2", "--quiet").failed(1, "the time limit of 2 s passed", f"of {step}", "--timeout")


def test_the_limit_covers_the_unloading_after_a_failure(cli: Callable[..., Ran], scanned: FaultyServer) -> None:
    scanned.faults.predict = "hang after 2 words"
    scanned.faults.mute.add("unloadModel")
    cli(*ASK, "--timeout", "2", "--ttl", "0", "--quiet").failed(1, "acme/tiny was not done within 2 s")


def test_the_limit_covers_the_answer_and_what_came_before_it(cli: Callable[..., Ran], scanned: FaultyServer) -> None:
    scanned.faults.predict = "hang after 2 words"
    cli(*ASK, "--timeout", "2", "--quiet").failed(1, "acme/tiny was not done within 2 s")
    assert "predict" in scanned.cancelled


def test_the_limit_covers_a_turn_of_a_chat(cli: Callable[..., Ran], scanned: FaultyServer) -> None:
    scanned.faults.load = "hang"
    ran = cli("chat", "-m", MODEL, "--timeout", "2", stdin=b"hi\n")
    assert ran.code == 1
    assert "the time limit of 2 s passed" in ran.err


def test_the_limit_is_one_for_each_item_of_a_batch(
    cli: Callable[..., Ran], scanned: FaultyServer, tmp_path: Path
) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("hi", encoding="utf-8")
    scanned.faults.mute.add("countTokens")
    words = ("batch", "--prompts", str(prompt), "--models", MODEL, "--out", str(tmp_path / "out"), "--timeout", "2")
    ran = cli(*words, "--json")
    assert ran.code == 1
    assert "TimeLimitError" in ran.out
    assert scanned.instances == {}


def test_doctor_says_that_the_server_does_not_answer(cli: Callable[..., Ran], scanned: FaultyServer) -> None:
    scanned.faults.mute.add("listLoaded")
    ran = cli("doctor", "--timeout", "2")
    assert "the time limit of 2 s passed after" in ran.out


@pytest.mark.slow
@pytest.mark.needs_posix("POSIX signals")
@pytest.mark.parametrize("frame", ["null", ""])
def test_ctrl_c_ends_a_command_whatever_the_server_sends(scanned: FaultyServer, frame: str) -> None:
    if frame:
        scanned.faults.frames["countTokens"] = frame
        code, _, err = finish(start(*ASK, "--quiet"))
        assert code == 3, err  # the connection is as good as lost
        assert "was lost" in err
        return
    scanned.faults.load = "deaf"
    scanned.faults.mute.add("unloadModel")
    process = start(*ASK, "--quiet")
    wait_until(lambda: "loadModel" in scanned.endpoints())
    scanned.faults.mute.add("listLoaded")
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert (code, err) == (130, "lmstrix: interrupted\n")


@pytest.mark.slow
@pytest.mark.needs_posix("POSIX signals")
def test_a_stopped_child_of_an_engine_of_our_own_ends_with_the_limit(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    import psutil

    monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(models_dir))
    process = start("infer", "a story", "-m", SCRIPTED, "--timeout", "6")
    found: list[psutil.Process] = []

    def has_child() -> bool:
        found.extend(psutil.Process(process.pid).children(recursive=True))
        return bool(found) or process.poll() is not None

    wait_until(has_child)
    for child in found:
        child.send_signal(signal.SIGSTOP)
    code, _, err = finish(process)
    assert code == 1, err
    assert "limit of 6 s passed" in err or "was not done within 6 s" in err
    _, alive = psutil.wait_procs(found, timeout=10)
    assert not alive


@pytest.mark.slow
def test_three_cold_commands_load_once(cli: Callable[..., Ran], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer(load_delay_s=1.5) as server:
        monkeypatch.setenv("LMSTRIX_SERVER", server.address)
        cli("scan", "--quiet").ok()
        ran = [finish(process) for process in [start("infer", "hi", "-m", MODEL) for _ in range(3)]]
        assert [code for code, _, _ in ran] == [0, 0, 0], ran
        assert server.endpoints().count("loadModel") == 1
    # Who came while it was loading is told; a process that started late found it loaded.
    told = [err for _, _, err in ran if "waiting for another LMStrix that is loading acme/tiny" in err]
    assert len(told) <= 2
