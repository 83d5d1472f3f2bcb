"""`monitor`: one look, looks through a pipe, and a screen that is drawn anew and leaves the terminal as it was."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import SCRIPTED, loaded_on
from tests.cli.processes import COMMAND, PATIENCE_S, start
from tests.cli.terminals import TAKE_TERMINAL, Screen
from tests.support.faulty_server import closed_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

SOON = ("--interval", "300ms")
BEGIN, END = "\x1b[?1049h", "\x1b[?1049l"


def test_one_look(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    empty = cli("monitor", "--once", *SOON).ok()
    assert "no models loaded" in empty.out
    assert loaded_on(engine.address) == []
    cli("load", SCRIPTED).ok()
    told = cli("monitor", "--once", *SOON).ok().out
    assert "1 model loaded" in told
    assert "0 prompt, 0 decode" in told
    assert "\x1b" not in told
    ran = cli("monitor", "--once", "--json", *SOON).ok()
    assert ran.json["schema"] == "lmstrix.monitor/1"
    assert ran.out.count("\n") == 1
    (model,) = ran.json["models"]
    assert (model["instance_id"], model["status"], model["decode_tokens_per_second"]) == (SCRIPTED, "idle", 0.0)
    assert ran.json["machine"]["engine_bytes"] > model["memory"]["resident_bytes"]
    assert len(loaded_on(engine.address)) == 1


def test_what_lm_studio_does_not_tell(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("load", "acme/tiny").ok()
    told = cli("monitor", "--once", *SOON).ok().out
    assert "not told by LM Studio: tokens per second" in told
    (model,) = cli("monitor", "--once", "--json", *SOON).ok().json["models"]
    assert (model["decode_tokens_per_second"], model["requests"], model["memory"]) == (None, None, None)


def test_without_a_server(cli: Callable[..., Ran]) -> None:
    cli("monitor", "--server", f"127.0.0.1:{closed_port()}").failed(3)


def test_an_interval_that_is_too_short(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("monitor", "--interval", "10ms").failed(2, "--interval", "0.2")


@pytest.mark.slow
@pytest.mark.needs_posix("sends SIGINT to one process")
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_through_a_pipe_look_after_look_is_plain(engine: EmbeddedEngine, words: tuple[str, ...]) -> None:
    process = start("monitor", *SOON, *words, environment={"LMSTRIX_SERVER": engine.address})
    assert process.stdout is not None
    lines: list[str] = []
    looks = 0
    while looks < 3:
        lines.append(process.stdout.readline().decode())
        assert lines[-1], "it ended"
        looks += "schema" in lines[-1] if words else "models loaded" in lines[-1]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (130, b"lmstrix: interrupted\n")
    assert "\x1b" not in "".join(lines)
    if words:
        assert all(json.loads(line)["schema"] == "lmstrix.monitor/1" for line in lines)


@contextmanager
def monitored(address: str, *words: str, columns: int = 80) -> Iterator[tuple[subprocess.Popen[bytes], Screen, int]]:
    """`lmstrix monitor` on a terminal; the block must make it end."""
    import fcntl
    import pty
    import termios

    terminal, other_side = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = os.environ | {"LMSTRIX_SERVER": address, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *COMMAND[1:], "monitor", *SOON, *words],
        env=environment,
        stdin=other_side,
        stdout=other_side,
        stderr=other_side,
        start_new_session=True,
    )
    modes = termios.tcgetattr(other_side)
    screen = Screen(terminal)
    try:
        yield process, screen, terminal
        process.wait(PATIENCE_S)
        assert termios.tcgetattr(other_side) == modes  # keys are shown again
    finally:
        process.kill()
        process.wait()
        os.close(other_side)
        screen.wait_for_end()


@pytest.mark.needs_posix("no pseudo-terminals")
class TestOnATerminal:
    def test_it_is_drawn_anew_until_q(self, engine: EmbeddedEngine) -> None:
        with monitored(engine.address) as (process, screen, _):
            screen.wait_for(BEGIN)
            screen.wait_for("no models loaded")
            screen.wait_for("no models loaded")
            screen.type("q")
            screen.wait_for(END)
            assert process.wait(PATIENCE_S) == 0

    def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(self, engine: EmbeddedEngine) -> None:
        import termios

        with monitored(engine.address) as (process, screen, terminal):
            screen.wait_for("no models loaded")
            own_modes = termios.tcgetattr(terminal)
            screen.type("\x1a")
            screen.wait_for(END)
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            # A shell takes its own modes back now; those of the screen are set again by whoever goes on.
            assert termios.tcgetattr(terminal) != own_modes
            process.send_signal(signal.SIGCONT)
            screen.wait_for(BEGIN)
            screen.wait_for("no models loaded")
            assert termios.tcgetattr(terminal) == own_modes
            screen.type("q")
            screen.wait_for(END)
            assert process.wait(PATIENCE_S) == 0

    def test_ctrl_c_ends_it_as_any_command(self, engine: EmbeddedEngine) -> None:
        with monitored(engine.address) as (process, screen, _):
            screen.wait_for("no models loaded")
            screen.type("\x03")
            screen.wait_for(END)
            screen.wait_for("lmstrix: interrupted")
            assert process.wait(PATIENCE_S) == 130

    def test_hung_up_it_gives_a_living_terminal_back(self, engine: EmbeddedEngine) -> None:
        with monitored(engine.address) as (process, screen, _):
            screen.wait_for("no models loaded")
            process.send_signal(signal.SIGHUP)
            screen.wait_for(END)
            assert process.wait(PATIENCE_S) == 128 + signal.SIGHUP

    def test_it_ends_with_its_terminal(self, engine: EmbeddedEngine) -> None:
        import pty

        terminal, other_side = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *COMMAND[1:], "monitor", *SOON],
            env=os.environ | {"LMSTRIX_SERVER": engine.address, "TERM": "xterm-256color"},
            stdin=other_side,
            stdout=other_side,
            stderr=other_side,
            start_new_session=True,
        )
        os.close(other_side)
        try:
            while b"no models loaded" not in os.read(terminal, 65536):
                pass
            os.close(terminal)
            assert process.wait(PATIENCE_S) == 128 + signal.SIGHUP
        finally:
            process.kill()
            process.wait()

    def test_another_size_is_drawn_at_once_and_without_colours(self, engine: EmbeddedEngine) -> None:
        import fcntl
        import termios

        with monitored(engine.address, "--no-color", columns=40) as (process, screen, terminal):
            screen.wait_for(BEGIN)
            narrow = screen.wait_for("q ends")
            assert "no models loaded; queue: 0 waiting" in narrow
            assert "\x1b[3" not in narrow  # no colour
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 24, 0, 0))
            screen.wait_for("more lines")
            screen.type("q")
            assert process.wait(PATIENCE_S) == 0
