"""Commands that are given nothing to work on say so, and do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix import LMStrix
from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer


@pytest.mark.parametrize("stdin", [b"", b" \n\n"])
def test_no_text_to_embed(cli: Callable[..., Ran], faulty: FaultyServer, stdin: bytes) -> None:
    cli("embed", "--stdin", stdin=stdin).failed(2, "stdin is empty: there is no text to embed")
    assert faulty.seen == []


@pytest.mark.parametrize(
    ("name", "content"), [("rows.txt", "\n"), ("rows.jsonl", ""), ("rows.csv", "id,text\n"), ("rows.tsv", "id\ttext\n")]
)
def test_no_text_to_add(
    cli: Callable[..., Ran], faulty: FaultyServer, home: Path, tmp_path: Path, name: str, content: str
) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    cli("collections", "add", "notes", "--rows", str(file)).failed(2, f"{name} is empty: there is no text to add")
    cli("collections", "add", "notes", "--stdin").failed(2, "stdin is empty: there is no text to add")
    assert faulty.seen == []


def test_a_chat_of_nothing(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    assert cli("chat", "-m", "acme/tiny", stdin=b"\n").ok().lines[-1] == "stdin is empty: nothing was asked"
    assert "stdin is empty" not in cli("chat", "-m", "acme/tiny", stdin=b"hi\n").ok().err


@pytest.mark.parametrize(
    "words",
    [("infer", "hi"), ("chat",), ("embed", "a"), ("collections", "add", "c", "a"), ("collections", "search", "c")],
)
def test_the_name_of_no_model_is_not_the_default_one(
    cli: Callable[..., Ran], faulty: FaultyServer, words: tuple[str, ...]
) -> None:
    cli(*words, "-m", "").failed(2, "--model: the text is empty")


def test_nor_is_it_in_python(home: Path, faulty: FaultyServer) -> None:
    with LMStrix(server=faulty.address) as lms, pytest.raises(UsageError, match="`model`: the name is empty"):
        lms.infer("hi", model=" ")
