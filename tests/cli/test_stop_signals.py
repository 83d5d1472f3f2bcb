"""Signals where a terminal matters: one that is gone, one that must not be heard, a chat that Ctrl-C does not leave."""

from __future__ import annotations

import os
import signal
from enum import IntEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from lmstrix.cli import stop_signals
from lmstrix.ground.errors import Stopped
from tests.cli.processes import finish, start, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

pytestmark = [pytest.mark.slow, pytest.mark.needs_posix("POSIX signals and terminals")]
MODEL = "acme/tiny"


def on_terminal(*words: str) -> tuple[subprocess.Popen[bytes], int]:
    """`lmstrix` in a session of its own whose terminal is ours: closing the descriptor hangs up."""
    ours, theirs = os.openpty()
    process = start(*words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    return process, ours


def test_a_terminal_that_goes_leaves_nothing_loaded(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    faulty.faults.predict = "hang"
    process, terminal = on_terminal("test", MODEL, "--fast")
    wait_until(lambda: "predict" in faulty.endpoints())
    os.close(terminal)  # what is written from now on fails
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 128 + signal.SIGHUP
    assert faulty.instances == {}


def test_a_hang_up_is_not_heard_below_nohup(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    faulty.faults.predict = "hang"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a child inherits what is ignored
    try:
        process = start("test", MODEL, "--fast", "--quiet")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(lambda: "predict" in faulty.endpoints())
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM


def test_ctrl_break_ends_a_command_where_there_is_such_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Signals(IntEnum):
        """As Windows has them; another signal is sent in the place of the one it lacks here."""

        SIGINT = signal.SIGINT
        SIGTERM = signal.SIGTERM
        SIGBREAK = signal.SIGUSR2

    names = ("SIGINT", "SIG_IGN", "signal", "getsignal")
    theirs = SimpleNamespace(Signals=Signals, **{name: getattr(signal, name) for name in names})
    monkeypatch.setattr(stop_signals, "signal", theirs)
    stop = stop_signals.StopSignals()
    with pytest.raises(Stopped), stop.heard():
        signal.raise_signal(signal.SIGUSR2)
    assert (stop.word, stop.exit_code) == ("interrupted", 128 + signal.SIGUSR2)
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_a_chat_that_ctrl_c_does_not_leave_is_left_by_term(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    faulty.faults.predict = "hang after 2 words"
    process, terminal = on_terminal("chat", "-m", MODEL)
    os.write(terminal, b"hi\n")
    wait_until(lambda: "predict" in faulty.endpoints())
    process.send_signal(signal.SIGINT)
    wait_until(lambda: "predict" in faulty.cancelled)
    os.write(terminal, b"again\n")
    wait_until(lambda: faulty.endpoints().count("predict") > 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    os.close(terminal)
    assert faulty.cancelled.count("predict") == 2
