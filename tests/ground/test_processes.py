"""Starting and ending processes, and what Windows is asked for when one starts."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.processes import (
    Command,
    creation_flags,
    end_program,
    own_python,
    past_launcher,
    run_helper,
    run_on_terminal,
    spawn_daemon,
    spawn_helper,
)

if TYPE_CHECKING:
    from pathlib import Path

CREATE_NO_WINDOW, CREATE_NEW_PROCESS_GROUP, DETACHED_PROCESS = 0x08000000, 0x00000200, 0x00000008


def python(code: str) -> Command:
    return own_python("-I", "-c", code)


def test_on_windows_nothing_opens_a_window() -> None:
    assert creation_flags("helper", "win32") == CREATE_NO_WINDOW
    assert creation_flags("daemon", "win32") == CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP
    # An editor is on the terminal we are on.
    assert creation_flags("terminal", "win32") == 0
    for platform in ("linux", "darwin"):
        assert {creation_flags(kind, platform) for kind in ("helper", "daemon", "terminal")} == {0}


def test_the_interpreter_behind_a_launcher_runs_as_that_of_the_venv() -> None:
    environ = {"PATH": "x"}
    base, venv = "/python/python.exe", "/venv/python.exe"
    assert past_launcher(venv, base, environ) == (base, {"PATH": "x", "__PYVENV_LAUNCHER__": venv})
    assert past_launcher(base, base, environ) == (base, environ)
    assert environ == {"PATH": "x"}


@pytest.mark.skipif(sys.platform == "win32", reason="there it may be the base interpreter")
def test_our_own_interpreter() -> None:
    command = own_python("-I", "x.py", environ={"A": "b"})
    assert (command.words, command.environ) == ((sys.executable, "-I", "x.py"), {"A": "b"})
    assert own_python("-I").environ == os.environ


def test_a_helper_is_run_to_its_end() -> None:
    ended = run_helper(python("import sys; sys.stdout.buffer.write('é'.encode()); sys.exit('no')"))
    assert (ended.exit_code, ended.output, ended.errors.strip()) == (1, "é", "no")


def test_a_helper_has_no_input_and_no_more_time_than_it_is_given() -> None:
    assert "EOFError" in run_helper(python("input()")).errors
    with pytest.raises(TimeoutError, match=r"takes more than 0\.5 s"):
        run_helper(python("import time; time.sleep(60)"), timeout_s=0.5)
    with pytest.raises(FileNotFoundError):
        run_helper(Command(words=("no-such-program-anywhere",)))


def test_on_the_terminal_output_is_shown_or_captured(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_on_terminal(python("print(1)"), reads=False).output == ""
    assert capfd.readouterr().out.strip() == "1"
    ended = run_on_terminal(python("print(2); raise SystemExit(3)"), reads=False, captured=True)
    assert (ended.exit_code, ended.output.strip(), capfd.readouterr().out) == (3, "2", "")


def test_a_program_that_ignores_the_request_is_killed() -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('runs', flush=True); time.sleep(60)"
    )
    process = spawn_helper(python(deaf))
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"runs"
    end_program(process, 0.2)
    assert process.returncode not in (None, 0)
    process.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="sessions are POSIX")
def test_a_daemon_has_a_session_of_its_own(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as output:
        process = spawn_daemon(python("import os; print(os.getsid(0) == os.getpid())"), output)
    assert process.wait(30) == 0
    assert (tmp_path / "log").read_text() == "True\n"
