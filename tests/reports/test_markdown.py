"""Markdown that comes in pieces is shown a whole block at a time."""

from __future__ import annotations

import pytest

from lmstrix.reports.console import Console
from lmstrix.reports.markdown import MarkdownText, split_at_last_block


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("a paragraph\n\nof wo", ""),
        ("a paragraph\n\nof words\n", "a paragraph\n\n"),
        ("one\n\ntwo\n\nthree\n", "one\n\ntwo\n\n"),
        ("- item\n\n- item\n\n  more\n", ""),
        ("- item\n\nafter\n", "- item\n\n"),
        ("```\na\n\nb\n\nc\n", ""),
        ("````\n```\n\nb\n```\n\nc\n", ""),
        ("```\na\n```\n\nafter\n", "```\na\n```\n\n"),
    ],
)
def test_a_block_is_whole_when_the_next_has_begun(text: str, whole: str) -> None:
    assert split_at_last_block(text) == (whole, text.removeprefix(whole))


def test_all_of_it_is_shown_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = MarkdownText(Console(color=False))
    answer = "# Title\n\nSome **bold** words, [a link](https://x.example).\n\n1. one\n2. two\n\n\x1b[2Jend"
    shown = ""
    for piece in answer:
        text.write(piece)
        shown += capsys.readouterr().out
        assert "**" not in shown
    text.end()
    shown += capsys.readouterr().out
    for part in ("Title", "bold", "https://x.example", "1 one", "2 two", "end"):
        assert shown.count(part) == 1, part
    assert "\x1b[2J" not in shown
