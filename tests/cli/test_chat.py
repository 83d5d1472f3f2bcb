"""`lmstrix chat`: over a pipe, and on a terminal with its interrupts."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import SCRIPTED, TINY
from tests.cli.processes import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran

TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
GREETING = "Hello! I am a tiny model with few words."


def talk(cli: Callable[..., Ran], *lines: str, words: tuple[str, ...] = ("-m", SCRIPTED)) -> Ran:
    return cli("chat", *words, stdin="".join(f"{line}\n" for line in lines).encode())


def kept(home: Path, name: str) -> list[tuple[str, str]]:
    found = json.loads((home / "conversations" / f"{name}.json").read_text(encoding="utf-8"))
    return [(message["role"], message["text"]) for message in found["messages"]]


def test_lines_are_answered_with_all_that_was_said(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    ran = talk(cli, "2+3=", "", "/save sums", "hello", "/context", "/stats", "/exit", "never sent").ok()
    assert ran.out == f"5\n{GREETING}\n"
    assert re.search(r"^context [\d,]+ of [\d,]+ tokens \(\d+%\)$", ran.err, re.MULTILINE)
    assert "tokens/s" in ran.err
    assert kept(home, "sums") == [("user", "2+3="), ("assistant", "5"), ("user", "hello"), ("assistant", GREETING)]


def test_several_lines_make_one_question(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    talk(cli, '"""', "one", "", '/two"""', "a\\", "b", "//slash", "/save lines").ok()
    questions = [text for role, text in kept(home, "lines") if role == "user"]
    assert questions == ["one\n\n/two", "a\nb", "/slash"]


def test_conversations_go_on(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    talk(cli, "/system Be brief.", "/save mine", "2+3=").ok()
    ran = talk(cli, "/load", "/load mine", "hello", words=()).ok()
    assert "mine: 1 exchange with scripted" in ran.err
    assert cli("chat", "--conversation", "mine", stdin=b"/trim\n/system\n/model tiny\n/model\n").ok().lines == [
        "forgot 1 of 2 exchanges",
        "system prompt: Be brief.",
        "the model is tiny",
        "the model is tiny",
    ]
    assert [role for role, _ in kept(home, "mine")] == ["system", "user", "assistant", "user", "assistant"]
    assert cli("infer", "2+3=", "--continue").ok().out == "5\n"
    assert len(kept(home, "mine")) == 7
    assert cli("chat", "--continue", "--json", stdin=b"2+3=\n/clear\n2+3=\n").ok().out.count('"lmstrix.chat/1"') == 2
    assert len(kept(home, "mine")) == 9


def test_nothing_is_kept_where_texts_are_not(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text("log_texts = false\n", encoding="utf-8")
    talk(cli, "2+3=").ok()
    assert cli("infer", "2+3=", "-m", SCRIPTED).ok().out == "5\n"
    assert not (home / "conversations").exists()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("/nosuch", "unknown command /nosuch"),
        ("/trim x", "give a number"),
        ("/stats", "nothing was answered yet"),
        ("/load nosuch", "there is no conversation 'nosuch'"),
        ("/save ../out", "is no name for a conversation"),
    ],
)
def test_a_wrong_line_over_a_pipe_ends_it(cli: Callable[..., Ran], home: Path, line: str, part: str) -> None:
    talk(cli, line, words=()).failed(2, part)


def test_what_no_longer_fits_fails_with_the_sizes(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    ran = talk(cli, "word " * 3000, words=("-m", TINY, "--in-ctx", "1024", "--quiet"))
    ran.failed(1, "the context holds 1,024")


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_on_a_terminal_an_interrupt_ends_the_answer_only(engine: EmbeddedEngine, home: Path) -> None:
    import pty

    terminal, other_side = pty.openpty()
    chat = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, "-m", "lmstrix", "chat", "-m", SCRIPTED],
        env=os.environ | {"LMSTRIX_SERVER": engine.address, "LMSTRIX_HOME": str(home), "TERM": "dumb"},
        stdin=other_side,
        stdout=other_side,
        stderr=other_side,
        start_new_session=True,
    )
    os.close(other_side)
    try:
        screen = Screen(terminal)
        screen.wait_for("> ")
        screen.type("a story\n")
        screen.wait_for("seven mills")
        screen.type("\x03")
        screen.wait_for("cancelled")
        screen.wait_for("> ")
        screen.type("/nosuch\n")
        screen.wait_for("unknown command /nosuch")
        screen.wait_for("> ")
        screen.type("2+3=\n")
        screen.wait_for("context ")
        screen.wait_for("> ")
        screen.type("\x04")
        screen.wait_for_end()
        assert chat.wait(PATIENCE_S) == 0
    finally:
        chat.kill()
        chat.wait()
    (name,) = [file.stem for file in (home / "conversations").glob("*.json")]
    assert kept(home, name) == [("user", "2+3="), ("assistant", "5")]


class Screen:
    """The other end of a pseudo-terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until `text` has been shown, and forget what came before."""
        while text not in self._seen:
            self._seen += self._read()
        self._seen = self._seen.partition(text)[2]

    def wait_for_end(self) -> None:
        try:
            while self._read():
                pass
        except OSError:  # Linux says so when the other side has left
            pass
        os.close(self._terminal)

    def _read(self) -> str:
        ready, _, _ = select.select([self._terminal], [], [], PATIENCE_S)
        assert ready, f"nothing more was shown after {self._seen[-200:]!r}"
        return os.read(self._terminal, 65536).decode(errors="replace")
