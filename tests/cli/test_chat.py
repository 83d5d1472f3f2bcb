"""`lmstrix chat`: over a pipe, and on a terminal with its interrupts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder
from tests.cli.conftest import SCRIPTED, TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran

GREETING = "Hello! I am a tiny model with few words."


def talk(cli: Callable[..., Ran], *lines: str, words: tuple[str, ...] = ("-m", SCRIPTED)) -> Ran:
    return cli("chat", *words, stdin="".join(f"{line}\n" for line in lines).encode())


def kept(home: Path, name: str) -> list[tuple[str, str]]:
    found = json.loads((own_folder(home) / "conversations" / f"{name}.json").read_text(encoding="utf-8"))
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
    own_folder(home).mkdir(parents=True, exist_ok=True)
    (own_folder(home) / "config.toml").write_text("log_texts = false\n", encoding="utf-8")
    talk(cli, "2+3=").ok()
    assert cli("infer", "2+3=", "-m", SCRIPTED).ok().out == "5\n"
    assert not (own_folder(home) / "conversations").exists()


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


def test_spaces_before_a_question_stay_and_before_a_command_do_not_matter(
    cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path
) -> None:
    talk(cli, "  indented 2+3=", "  //slash", "  /save spaces", "exit", "/save spaces").ok()
    questions = [text for role, text in kept(home, "spaces") if role == "user"]
    # On a pipe "exit" is a question like any other: a list of words must not end in the middle.
    assert questions == ["  indented 2+3=", "/slash", "exit"]


def test_bytes_that_are_no_utf8_are_one_clear_line(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    ran = cli("chat", "-m", SCRIPTED, "--quiet", stdin=b"\xef\xbb\xbf2+3=\ncaf\xe9\nhello\n")
    assert (ran.code, ran.out) == (2, "5\n")
    assert ran.lines == [
        "lmstrix: line 2 of stdin is not valid UTF-8 (byte 0xe9 at offset 3); nothing of it was sent; convert it first"
    ]


def test_the_context_is_right_after_a_trim(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    ran = talk(cli, "word " * 200, "2+3=", "/trim", "/context", "2+3=").ok()
    about, exact = re.findall(r"^context (?:about )?([\d,]+) of", ran.err, re.MULTILINE)[-2:]
    before = re.findall(r"^context ([\d,]+) of", ran.err, re.MULTILINE)[1]
    assert "context about" in ran.err
    assert int(before.replace(",", "")) > 500
    # One exchange was left when it was asked, two when the next was counted.
    assert 0 < int(about) < int(exact) < 200


def test_a_conversation_that_cannot_be_kept_does_not_end_the_chat(
    cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path
) -> None:
    own_folder(home).mkdir(parents=True, exist_ok=True)
    (own_folder(home) / "conversations").write_text("in the way", encoding="utf-8")
    ran = talk(cli, "2+3=", "hello").ok()
    assert ran.out == f"5\n{GREETING}\n"
    assert "the conversation was not kept" in ran.err
