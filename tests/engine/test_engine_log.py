"""The log of an engine that runs as a process: nothing written to it stops the engine, and it gives nothing away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import aiohttp
import httpx
import psutil
import pytest

from lmstrix.engine import EmbeddedEngine
from lmstrix.engine.__main__ import main
from lmstrix.engine.daemon import start_engine, stop_engine
from lmstrix.engine.log_reading import LogLine, engine_log_lines, parse_log_line
from lmstrix.engine.options import EngineOptions
from lmstrix.engine.rest import openai
from lmstrix.engine.state_file import engine_log_path, engine_status
from lmstrix.engine.token_source import TOKEN_VARIABLE, engine_token
from lmstrix.ground.errors import EngineError
from lmstrix.ground.log_target import MAX_FILE_BYTES
from lmstrix.ground.paths import engine_files
from tests.engine.conftest import SCRIPTED
from tests.engine.raw_client import connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.engine.records import LogEvent

pytestmark = [pytest.mark.slow, pytest.mark.needs_posix("signals and pipes are POSIX")]
TOKEN = "sk-lm-abcdEF12:abcdefghijKLMNOP1234"
PRIVATE = "my private prompt"
WAIT_S = 30.0


@contextmanager
def running(
    home: Path, models_dir: Path, *words: str, out: int | IO[bytes] = subprocess.DEVNULL, module: str = "lmstrix.engine"
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """`run` as a process, once it answers, and a client of it."""
    head = ["engine", "run"] if module == "lmstrix" else ["run"]
    command = [sys.executable, "-m", module, *head, "--models-dir", str(models_dir), *words]
    with subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            until = time.monotonic() + WAIT_S
            while engine_status(home).pid != process.pid:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            with httpx.Client(base_url=f"http://{engine_status(home).address}", timeout=60) as client:
                yield process, client
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(WAIT_S)


def completed(client: httpx.Client, **more: object) -> int:
    body = {"model": SCRIPTED, "prompt": "2+3=", "max_tokens": 2, **more}
    return client.post("/v1/completions", json=body).status_code


@pytest.mark.parametrize("module", ["lmstrix", "lmstrix.engine"])
def test_a_reader_who_goes_after_the_first_line_stops_nothing(home: Path, models_dir: Path, module: str) -> None:
    reading, writing = os.pipe()
    with (
        os.fdopen(reading, "rb") as head,
        os.fdopen(writing, "wb") as output,
        running(home, models_dir, out=output, module=module) as (process, client),
    ):
        output.close()
        assert b"listening on" in head.readline()
        head.close()
        assert completed(client) == 200
        process.terminate()
        assert process.wait(WAIT_S) == 0


@pytest.mark.parametrize("module", ["lmstrix", "lmstrix.engine"])
def test_a_full_disk_stops_nothing(home: Path, models_dir: Path, module: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs a disk that is always full")
    with running(home, models_dir, "--log-file", "/dev/full", module=module) as (process, client):
        assert completed(client) == 200
        process.terminate()
        assert process.wait(WAIT_S) == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_the_log_says_which_signal_stopped_the_engine(home: Path, models_dir: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "engine.log"
    with running(home, models_dir, "--log-file", str(file)) as (process, _):
        process.send_signal(signal.Signals[name])
        assert process.wait(WAIT_S) == 0
    assert file.read_text().splitlines()[-1].endswith(f"info  the engine stops: it got {name}")


def test_an_end_without_a_word_is_told_by_the_next_engine(home: Path, models_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    with running(home, models_dir) as (process, _):
        process.kill()
        process.wait(WAIT_S)
    assert engine_files(home)[0].exists()
    with running(home, models_dir, "--log-file", str(file)):
        pass
    assert f"(pid {process.pid}) ended without a word" in file.read_text()


def test_a_model_that_dies_is_told(home: Path, models_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    with running(home, models_dir, "--log-file", str(file)) as (process, client):
        assert completed(client) == 200
        (child,) = psutil.Process(process.pid).children()
        child.kill()
        until = time.monotonic() + WAIT_S
        while "exit code 137" not in file.read_text():
            assert time.monotonic() < until
            time.sleep(0.05)


async def test_no_client_forges_lines_or_gets_secrets_written(home: Path, models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    file = tmp_path / "engine.log"
    words = ("--log-file", str(file), "--debug", "--api-token-file", str(tmp_path / "token"))
    with running(home, models_dir, *words) as (_, client):
        address = client.base_url.netloc.decode()
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert completed(client, prompt=PRIVATE) == 200
        assert completed(client, prompt=PRIVATE, logit_bias=[PRIVATE]) < 600
        halves = {"authVersion": 1, "clientIdentifier": "abcdEF12", "clientPasskey": TOKEN.rpartition(":")[2]}
        forged = "x\n2026-01-01 00:00:00.000Z error forged\x1b[2J " + TOKEN + "y" * 100_000
        async with connected(address, "llm", halves) as socket:
            await socket.send({"type": "rpcCall", "callId": 0, "endpoint": forged})
            await socket.rpc("listLoaded")
        async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{address}/llm") as refused:
            await refused.send_json({"authVersion": 1, "clientIdentifier": "evil\n\x1b[31m", "clientPasskey": "z"})
            assert (await refused.receive_json())["success"] is False
    text = file.read_text()
    assert "forged" in text
    assert "evil" in text
    lines = [parse_log_line(line) for line in text.splitlines()]
    assert all(line.time is not None and line.text.isprintable() and len(line.text) < 3000 for line in lines)
    assert not any(line.text.startswith("forged") for line in lines)
    for secret in (TOKEN, TOKEN.rpartition(":")[2], PRIVATE):
        assert secret not in text


def test_a_fault_of_ours_is_told_without_what_it_was_asked(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise KeyError(PRIVATE)

    monkeypatch.setattr(openai, "read_body", broken)
    events: list[LogEvent] = []
    with EmbeddedEngine(models_dir, on_log=events.append) as engine:
        answer = httpx.post(f"http://{engine.address}/v1/completions", json={"model": SCRIPTED, "prompt": PRIVATE})
    assert answer.status_code == 500
    (told,) = [event for event in events if event.level == "error"]
    assert "endpoint /v1/completions failed: KeyError at test_engine_log.py:" in told.text
    assert PRIVATE not in told.text
    assert capfd.readouterr().err == ""


def test_a_listener_of_the_log_that_fails_fails_nobody(models_dir: Path) -> None:
    def broken(_: LogEvent) -> None:
        raise BrokenPipeError

    with (
        EmbeddedEngine(models_dir, on_log=broken) as engine,
        httpx.Client(base_url=f"http://{engine.address}", timeout=60) as client,
    ):
        assert completed(client) == 200


class Follower:
    """Follows the log in a thread."""

    def __init__(self, home: Path) -> None:
        self.lines: list[str] = []
        threading.Thread(target=self._follow, args=(home,), daemon=True).start()

    def _follow(self, home: Path) -> None:
        for line in engine_log_lines(home, follow=True):
            self.lines.append(line)

    def wait_for(self, text: str) -> None:
        """Until a line has this text."""
        until = time.monotonic() + WAIT_S
        while not any(text in line for line in list(self.lines)):
            assert time.monotonic() < until
            time.sleep(0.05)


def test_the_background_log_is_begun_anew_while_it_runs(home: Path, models_dir: Path) -> None:
    log_file = engine_log_path(home)
    status = start_engine(home, EngineOptions(models_dir=models_dir))
    try:
        follower = Follower(home)
        follower.wait_for("listening on")
        with log_file.open("ab") as full:
            full.write(b"x" * MAX_FILE_BYTES + b"\n")
        httpx.post(f"http://{status.address}/api/v1/models/load", json={"model": SCRIPTED}, timeout=60)
        (child,) = psutil.Process(status.pid).children()
        child.kill()
        follower.wait_for("exit code 137")
        assert log_file.stat().st_size < 10_000
        assert log_file.with_name("engine.log.1").stat().st_size > MAX_FILE_BYTES
    finally:
        stop_engine(home)
    assert "the engine stops: engine stop asked for it" in list(engine_log_lines(home))[-1]


def test_a_line_is_read_back_in_its_parts() -> None:
    assert parse_log_line("2026-01-02 03:04:05.678Z warn  a: b\n") == LogLine(
        time="2026-01-02T03:04:05.678Z", level="warn", text="a: b"
    )
    assert parse_log_line("Fatal Python error\n") == LogLine(time=None, level=None, text="Fatal Python error")


class TestTokens:
    @pytest.mark.parametrize("module", ["lmstrix", "lmstrix.engine"])
    @pytest.mark.parametrize("source", ["file", "environment"])
    def test_a_foreground_engine_asks_for_the_token_it_was_given(
        self,
        home: Path,
        models_dir: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        module: str,
        source: str,
    ) -> None:
        words = []
        if source == "file":
            (tmp_path / "token").write_text(TOKEN + "\n")
            words = ["--api-token-file", str(tmp_path / "token")]
        else:
            monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
        with running(home, models_dir, *words, module=module) as (process, client):
            assert client.get("/v1/models").status_code == 401
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            assert client.get("/v1/models").status_code == 200
            assert completed(client) == 200
            (child,) = psutil.Process(process.pid).children()
            for each in (psutil.Process(process.pid), child):
                assert TOKEN not in " ".join(each.cmdline())
            assert TOKEN_VARIABLE not in child.environ()

    def test_no_option_takes_a_token_itself(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["run", "--help"])
        shown = capsys.readouterr().out
        assert "--api-token-file" in shown
        assert "--api-token " not in shown
        assert TOKEN_VARIABLE in shown

    def test_a_file_without_a_token_is_said(self, tmp_path: Path) -> None:
        file = tmp_path / "token"
        for content in (None, b"", b"\n \n", b"\xff\xfe"):
            if content is not None:
                file.write_bytes(content)
            with pytest.raises(EngineError, match=str(file)):
                engine_token(file)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(EngineError, match="not a regular file"):
            engine_token(tmp_path / "pipe")
        file.write_text(TOKEN)
        assert engine_token(file, {TOKEN_VARIABLE: "other"}) == TOKEN
        assert engine_token(None, {TOKEN_VARIABLE: f" {TOKEN}\n"}) == TOKEN
        assert engine_token(None, {TOKEN_VARIABLE: ""}) is None


def test_json_is_told_by_the_command_line(home: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del models_dir
    path = engine_log_path(home)
    path.parent.mkdir(parents=True)
    path.write_text("2026-01-02 03:04:05.678Z info  one\n")
    from lmstrix.cli.app import run

    assert run(["engine", "logs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": "lmstrix.engine_logs/1",
        "lines": [{"time": "2026-01-02T03:04:05.678Z", "level": "info", "text": "one"}],
    }
