"""`lmstrix chat` on a terminal: what is typed, pasted and edited, what is shown, and what is kept for the next chat."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmstrix import EmbeddedEngine
from lmstrix.core.answers import question_history
from lmstrix.core.answers.question_history import QuestionHistory
from lmstrix.ground.paths import own_folder
from tests.cli.conftest import SCRIPTED
from tests.cli.terminals import Screen, chat_on_terminal, on_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran

pytestmark = [pytest.mark.slow, pytest.mark.needs_posix("no pseudo-terminals")]

PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"
UP = "\x1b[A"
ASK = ("-m", SCRIPTED)


def questions(home: Path) -> list[str]:
    """What the only conversation was asked."""
    (file,) = (own_folder(home) / "conversations").glob("chat-*.json")
    messages = json.loads(file.read_text(encoding="utf-8"))["messages"]
    return [message["text"] for message in messages if message["role"] == "user"]


def leave(screen: Screen) -> None:
    screen.wait_for("> ")
    screen.type("\x04")


def test_an_interrupt_ends_the_answer_only(engine: EmbeddedEngine, home: Path) -> None:
    with chat_on_terminal(engine.address, home, *ASK) as screen:
        screen.wait_for("> ")
        screen.type("a story\n")
        screen.wait_for("seven mills")
        screen.type("\x03")
        screen.wait_for("\ncancelled")
        screen.wait_for("> ")
        screen.type("/nosuch\n")
        screen.wait_for("unknown command /nosuch")
        screen.wait_for("> ")
        screen.type("2+3=\n")
        screen.wait_for("context ")
        leave(screen)
    assert questions(home) == ["2+3="]


def test_a_bracketed_paste_is_one_question(engine: EmbeddedEngine, home: Path) -> None:
    pasted = '/usr/bin\n"""\n  indented \\\n\n2+3='
    with chat_on_terminal(engine.address, home, *ASK, TERM="xterm") as screen:
        screen.wait_for("> ")
        screen.type(f"{PASTE_BEGINS}{pasted}\n{PASTE_ENDS}")
        screen.wait_for("2+3=")
        screen.type("\r")
        screen.wait_for("context ")
        leave(screen)
    assert questions(home) == [pasted]


def test_lines_that_come_at_once_are_one_question(engine: EmbeddedEngine, home: Path) -> None:
    with chat_on_terminal(engine.address, home, *ASK) as screen:
        screen.wait_for("> ")
        screen.type("one\n  two\n2+3=\n")
        screen.wait_for("context ")
        leave(screen)
    assert questions(home) == ["one\n  two\n2+3="]


def test_texts_of_several_lines_are_written_and_edited(engine: EmbeddedEngine, home: Path, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "/edited\\n2+3=\\n" > "$2"\n', encoding="utf-8")
    editor.chmod(0o755)
    with chat_on_terminal(engine.address, home, *ASK, EDITOR=f"'{editor}' -x") as screen:
        for line in ("/multi", "one", "/context", "2+3="):
            screen.wait_for(". " if line != "/multi" else "> ")
            screen.type(f"{line}\n")
        screen.wait_for(". ")
        screen.type("/end\n")
        screen.wait_for("context ")
        screen.wait_for("> ")
        screen.type("/edit\n")
        screen.wait_for("context ")
        leave(screen)
    assert questions(home) == ["one\n/context\n2+3=", "/edited\n2+3="]


def test_an_editor_that_fails_sends_nothing(engine: EmbeddedEngine, home: Path) -> None:
    with chat_on_terminal(engine.address, home, *ASK, EDITOR="no-such-editor") as screen:
        screen.wait_for("> ")
        screen.type("/edit\n")
        screen.wait_for("the editor no-such-editor cannot be used")
        screen.wait_for("> ")
        screen.type(" exit \n")
    assert not (own_folder(home) / "conversations").exists()


def test_a_chat_begins_with_who_answers_and_where_it_stands(
    cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path
) -> None:
    with chat_on_terminal(engine.address, home) as screen:
        assert "no model yet; /model NAME chooses one" in screen.wait_for("/help shows the commands")
        leave(screen)
    assert cli("chat", "-m", SCRIPTED, stdin=b"2+3=\n").ok().out == "5\n"
    with chat_on_terminal(engine.address, home, "--continue", "--in-ctx", "1024") as screen:
        shown = screen.wait_for("/help shows the commands").splitlines()
        assert shown[0] == "scripted, a context of at least 1,024 tokens (asked)"
        assert shown[1].endswith(": 1 exchange so far; the last:")
        assert shown[2:4] == ["> 2+3=", "  5"]
        screen.wait_for("> ")
        screen.type("quit\n")


def test_a_chat_without_any_model_does_not_begin(home: Path, tmp_path: Path) -> None:
    models = tmp_path / "none"
    models.mkdir()
    with (
        EmbeddedEngine(models) as empty,
        on_terminal(empty.address, home, "chat", exit_code=1, LMSTRIX_MODELS_DIR=str(models)) as screen,
    ):
        assert "> " not in screen.wait_for("lmstrix: there is no model to ask yet")


def test_questions_are_found_again_in_the_next_chat(engine: EmbeddedEngine, home: Path) -> None:
    with chat_on_terminal(engine.address, home, *ASK, TERM="xterm") as screen:
        screen.wait_for("> ")
        screen.type("2+3=\r")
        screen.wait_for("context ")
        leave(screen)
    assert (own_folder(home) / "questions.jsonl").stat().st_mode & 0o777 == 0o600
    with chat_on_terminal(engine.address, home, *ASK, TERM="xterm") as screen:
        screen.wait_for("> ")
        screen.type(UP)
        screen.wait_for("2+3=")
        screen.type("\r")
        screen.wait_for("context ")
        leave(screen)
    assert QuestionHistory(own_folder(home) / "questions.jsonl").read() == ["2+3=", "2+3="]


def test_no_questions_are_kept_where_texts_are_not(engine: EmbeddedEngine, home: Path) -> None:
    own_folder(home).mkdir(parents=True, exist_ok=True)
    (own_folder(home) / "config.toml").write_text("log_texts = false\n", encoding="utf-8")
    with chat_on_terminal(engine.address, home, *ASK) as screen:
        screen.wait_for("> ")
        screen.type("2+3=\n")
        screen.wait_for("context ")
        leave(screen)
    assert not (own_folder(home) / "questions.jsonl").exists()


def test_the_history_is_bounded_and_outlives_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question_history, "KEPT", 3)
    history = QuestionHistory(tmp_path / "questions.jsonl")
    for number in range(7):
        history.add(f"question\u2028{number}")
    history.add("x" * question_history.LONGEST_BYTES)
    assert history.read() == [f"question\u2028{number}" for number in (4, 5, 6)]
    assert len(history.file.read_bytes().splitlines()) == 3
    with history.file.open("ab") as file:
        file.write(b'"hal')
    assert history.read() == [f"question\u2028{number}" for number in (5, 6)]
