"""Conversations: listed, searched, shown, exported, deleted; those of LMStrix alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder
from tests.cli.conftest import SCRIPTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran

THEIRS = "not-ours"


@pytest.fixture
def folder(home: Path) -> Path:
    """Two conversations of ours, one damaged, and one that is somebody else's."""
    folder = own_folder(home) / "conversations"
    folder.mkdir(parents=True)

    def turn(role: str, text: str) -> dict[str, str]:
        return {"role": role, "text": text}

    sea = [turn("system", "Be short."), turn("user", "What is the SEA?"), turn("assistant", "Much water.\n")]
    city = [turn("user", "日本の首都は?"), turn("assistant", "東京"), turn("user", "thanks"), turn("assistant", "ok")]
    for name, messages in (("sea", sea), ("city", city)):
        value = {"schema": "lmstrix.conversation/1", "name": name, "model_key": SCRIPTED, "messages": messages}
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    (folder / "broken.json").write_text('{"schema": "lmstrix.conversation/1", "messages": [', encoding="utf-8")
    (folder / f"{THEIRS}.json").write_text('{"messages": [{"role": "user"}]}', encoding="utf-8")
    return folder


def names(ran: Ran) -> set[str]:
    return {each["name"] for each in ran.ok().json["conversations"]}


def test_they_are_listed_and_a_damaged_one_hides_no_other(cli: Callable[..., Ran], folder: Path) -> None:
    ran = cli("conversations", "list").ok()
    assert {line.split()[0] for line in ran.out.splitlines()[1:]} == {"sea", "city", "broken"}
    told = {each["name"]: each for each in cli("conversations", "list", "--json").ok().json["conversations"]}
    assert (told["city"]["exchanges"], told["city"]["first_question"]) == (2, "日本の首都は?")
    assert "damaged" in told["broken"]["problem"]
    assert len(names(cli("conversations", "list", "--last", "1", "--json"))) == 1


def test_any_part_of_a_word_finds_them(cli: Callable[..., Ran], folder: Path) -> None:
    (folder / "broken.json").unlink()
    assert names(cli("conversations", "search", "sea", "water", "--json")) == {"sea"}
    assert names(cli("conversations", "search", "首都", "--json")) == {"city"}
    assert names(cli("conversations", "search", "sea tokyo", "--json")) == set()
    assert "no conversation" in cli("conversations", "search", "nothing").ok().err
    cli("conversations", "search").failed(2, "WORDS")


def test_one_is_shown_with_its_turns(cli: Callable[..., Ran], folder: Path) -> None:
    out = cli("conversations", "show", "sea").ok().out
    assert out.index("Be short.") < out.index("What is the SEA?") < out.index("Much water.")
    assert cli("conversations", "show", "city", "--json").ok().json["messages"][0]["text"] == "日本の首都は?"
    cli("conversations", "show", "nosuch").failed(2, "nosuch", "sea")
    cli("conversations", "show", THEIRS).failed(1, "no conversation of LMStrix")


def test_one_is_exported_in_the_form_that_the_ending_says(
    cli: Callable[..., Ran], folder: Path, tmp_path: Path
) -> None:
    for ending, begins in ((".md", "# sea\n"), (".txt", "System:\n\nBe short."), (".json", '{"schema"')):
        target = tmp_path / f"out{ending}"
        cli("conversations", "export", "sea", str(target)).ok()
        text = target.read_text(encoding="utf-8")
        assert text.startswith(begins)
        assert "What is the SEA?" in text
    cli("conversations", "export", "sea", str(tmp_path / "out.pdf")).failed(2, ".md")
    cli("conversations", "export", "sea", str(tmp_path / "no" / "out.md")).failed(2, "no folder")


def test_only_ours_are_deleted_and_only_when_confirmed(cli: Callable[..., Ran], folder: Path) -> None:
    cli("conversations", "delete", "sea").failed(2, "--yes")
    assert (folder / "sea.json").exists()
    cli("conversations", "delete", "sea", "--yes").ok()
    assert cli("conversations", "delete", "broken", "--yes", "--json").ok().json["deleted"] == ["broken"]
    cli("conversations", "delete", THEIRS, "--yes").failed(1, "no conversation of LMStrix")
    cli("conversations", "delete", "../conversations/city", "--yes").failed(2, "no name")
    cli("conversations", "delete", "sea", "--yes").failed(2, "'sea'")
    assert sorted(file.name for file in folder.iterdir()) == ["city.json", f"{THEIRS}.json"]


def test_without_any_the_next_step_is_named(cli: Callable[..., Ran], home: Path) -> None:
    assert "lmstrix chat" in cli("conversations", "list").ok().err
