"""What a newcomer sees first: where there is nothing yet a command says what to do next; lines break between words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.cli.app import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(folder))
    return folder


def test_without_server_and_folder_a_scan_names_what_needs_neither(
    cli: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(tmp_path / "none"))
    ran = cli("scan")
    assert ran.code == 3
    assert "--models-dir; the command lmstrix demo needs neither" in ran.lines[-1]


def test_a_scan_that_finds_nothing_says_where_models_come_from(cli: Callable[..., Ran], empty_folder: Path) -> None:
    note = cli("scan").ok().lines[-1]
    assert note.startswith("no model yet: download one in LM Studio, or put a GGUF file into PUBLISHER/REPOSITORY")
    assert note.endswith("lmstrix demo brings one along")


@pytest.mark.parametrize("words", [("infer", "hello"), ("test", "--all"), ("recommend",)])
def test_a_command_that_scanned_in_vain_does_not_send_to_scan_alone(
    cli: Callable[..., Ran], empty_folder: Path, words: tuple[str, ...]
) -> None:
    ran = cli(*words)
    assert f"no model was found in {empty_folder}: download one in LM Studio" in ran.err
    assert "which model?" not in ran.err
    assert not ran.lines[-1].endswith("lmstrix scan finds them")


def test_doctor_breaks_its_lines_between_words(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli("doctor").out.splitlines()
    indent = " " * lines[0].index("Python")
    assert any(line.startswith(indent) for line in lines)
    assert [line for line in lines if len(line) > 80 and " " in line[len(indent) :].removeprefix("-> ")] == []


def test_the_overview_fits_a_narrow_terminal(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (60, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert [line for line in cli("--help").out.splitlines() if len(line) > columns] == []


def test_help_breaks_its_sentences_between_words(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for path in COMMANDS:
        text = cli(*path, "--help").out.partition("Examples:")[0]
        # A name or a choice of values is one word, and may be longer.
        assert [line for line in text.splitlines() if len(line) > 80 and " " in line.strip()] == [], path
    assert "eval" in cli("completion", "--help").out
