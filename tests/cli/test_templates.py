"""Stored templates: prompt files in LMStrix's own folder, used by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran


@pytest.fixture
def templates(home: Path) -> Path:
    """The folder, with three files."""
    folder = own_folder(home) / "prompts"
    folder.mkdir(parents=True)
    (folder / "summarize.toml").write_text(
        'prompt = "Sum this up: {{text}}"\ndescription = "Short."\nsystem_prompt = "Be brief."\n', encoding="utf-8"
    )
    (folder / "code.toml").write_text(
        '[review]\nprompt = "Review this {{language}}."\n[explain]\nprompt = "Explain: {{text}}"\n', encoding="utf-8"
    )
    (folder / "mine.toml").write_text('review = "My review."\nother = "Other."\n', encoding="utf-8")
    return folder


def sent(cli: Callable[..., Ran], *words: str, stdin: bytes = b"") -> str:
    prompt: str = (
        cli("infer", *words, "--dry-run", "--json", "--server", "127.0.0.1:9", stdin=stdin).ok().json["prompt"]
    )
    return prompt


@pytest.mark.parametrize("text", ["the sea", "a, b # c", "@x.toml:y", "{{text}}", "None", "漢字\n"])
def test_the_prompt_is_the_text_of_a_template_byte_for_byte(
    cli: Callable[..., Ran], templates: Path, text: str
) -> None:
    assert sent(cli, "-t", "summarize", text) == f"Sum this up: {text}"


def test_a_template_is_named_by_file_by_both_or_by_prompt(cli: Callable[..., Ran], templates: Path) -> None:
    assert sent(cli, "-t", "explain", "x") == "Explain: x"
    assert sent(cli, "-t", "code:explain", "x") == "Explain: x"
    assert sent(cli, "-t", "mine:review,other") == "My review.\n\nOther."
    cli("infer", "-t", "review", "x").failed(2, "code:review or mine:review")
    cli("infer", "-t", "code", "x").failed(1, "review")
    cli("infer", "-t", "nosuch", "x").failed(2, "'nosuch'", "summarize", str(templates))
    cli("infer", "-t", "../code", "x").failed(2, "no template")


def test_with_a_prompt_file_it_names_a_prompt_of_that_file(
    cli: Callable[..., Ran], templates: Path, tmp_path: Path
) -> None:
    file = tmp_path / "own.toml"
    file.write_text('explain = "Here: {{text}}"\nend = "The end."\n', encoding="utf-8")
    assert sent(cli, "--file-prompt", str(file), "-t", "explain", "x") == "Here: x"
    assert sent(cli, "--file-prompt", str(file), "-t", "explain,end", stdin=b"x") == "Here: x\n\nThe end."
    assert sent(cli, "--prompt-file", str(file), "--template", "explain", "--text", "x") == "Here: x"
    cli("infer", "--file-prompt", str(file), "-t", "review", "x").failed(1, "has no prompt 'review'")


def test_texts_reach_it_in_every_way(cli: Callable[..., Ran], templates: Path) -> None:
    assert sent(cli, "-t", "summarize", stdin=b"piped") == "Sum this up: piped"
    assert sent(cli, "-t", "summarize", "--text", "given") == "Sum this up: given"
    assert sent(cli, "-t", "code:review", "--var", "language=Python") == "Review this Python."
    cli("infer", "-t", "code:review", "x = 1", "--var", "language=Python").failed(1, "would be lost")
    cli("infer", "-t", "summarize").failed(1, "text")
    cli("infer", "a", "-t", "summarize", "--text", "b").failed(2, "--text")
    cli("infer", "a", "-t", "summarize", "--file-prompt", "b.toml").failed(1, "no file at b.toml")
    cli("infer", "a", "-t", "summarize", stdin=b"piped").failed(2, "not from two")


def test_its_system_prompt_goes_along(cli: Callable[..., Ran], templates: Path) -> None:
    told = cli("infer", "-t", "summarize", "x", "--dry-run", "--json", "--server", "127.0.0.1:9").ok().json
    assert told["system_prompt"] == "Be brief."


def test_they_are_listed_with_what_they_take(cli: Callable[..., Ran], templates: Path) -> None:
    (templates / "broken.toml").write_text("prompt = ", encoding="utf-8")
    ran = cli("prompts", "list").ok()
    names = [line.split()[0] for line in ran.out.splitlines()[1:]]
    assert names == ["code:review", "code:explain", "mine:review", "mine:other", "summarize"]
    assert "broken.toml" in ran.err
    told = cli("prompts", "list", "--json").ok().json
    assert told["templates"][-1] == {
        "name": "summarize",
        "prompt": "prompt",
        "file": str(templates / "summarize.toml"),
        "description": "Short.",
        "placeholders": ["text"],
        "defaults": [],
        "version": None,
        "tags": [],
    }
    assert len(told["problems"]) == 1
    for name in names:
        text = ("x",) if name in ("code:explain", "summarize") else ()
        assert sent(cli, "-t", name, *text, "--var", "language=C")  # each by the name it is listed under
    cli("infer", "-t", "broken", "x").failed(1, "broken.toml")


def test_without_any_the_list_says_where_they_go(cli: Callable[..., Ran], home: Path) -> None:
    assert str(own_folder(home) / "prompts") in cli("prompts", "list").ok().err
