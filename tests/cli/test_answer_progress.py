"""What `infer` shows while it waits: one moving line on a terminal's stderr, nothing where stderr is no terminal."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.types import PromptProgress, TextDelta
from lmstrix.reports.answer_progress import AnswerProgressLine
from lmstrix.reports.console import Console
from tests.cli.conftest import SCRIPTED
from tests.cli.processes import finish, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix import EmbeddedEngine

pytestmark = pytest.mark.slow

GREETING = "Hello! I am a tiny model with few words."


def test_the_line_says_what_is_done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    shown = {}
    with AnswerProgressLine(Console(), live=True) as line:
        steps: list[tuple[str, Callable[[], None]]] = [
            ("loading the model", lambda: line.load(0.5)),
            ("reading the prompt", line.read),
            ("reading the prompt", lambda: line.show(PromptProgress(ratio=0.5))),
            ("thinking", lambda: line.show(TextDelta(text="hm", tokens=3, reasoning=True))),
            ("answering", lambda: line.show(TextDelta(text="so", tokens=2))),
        ]
        for words, step in steps:
            step()
            assert line._drawn is not None
            line._drawn[0].refresh()
            shown[words] = capsys.readouterr().err
        line.end()
        line.show(TextDelta(text="more"))
    assert all(words in text for words, text in shown.items())
    assert "5 tokens" in shown["answering"]


@pytest.mark.needs_posix("no pseudo-terminals")
@pytest.mark.parametrize("words", [(), ("--stream",)])
def test_a_terminal_sees_it_and_stdout_is_the_answer_alone(engine: EmbeddedEngine, words: tuple[str, ...]) -> None:
    import pty

    terminal, other_side = pty.openpty()
    told: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(terminal, 65536):
                told.append(data)
        except OSError:  # Linux says so when the other side has left
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    running = start("infer", "hello", "-m", SCRIPTED, *words, stderr=other_side, environment={"TERM": "xterm"})
    os.close(other_side)
    assert finish(running)[:2] == (0, GREETING + "\n")
    reader.join(30)
    os.close(terminal)
    text = b"".join(told).decode(errors="replace")
    assert "reading the prompt" in text
    assert "\x1b[?25h" in text  # the cursor is back


def test_over_a_pipe_nothing_moves(engine: EmbeddedEngine) -> None:
    code, out, err = finish(start("infer", "hello", "-m", SCRIPTED))
    assert (code, out) == (0, GREETING + "\n")
    assert "\x1b" not in err
    assert "reading" not in err
