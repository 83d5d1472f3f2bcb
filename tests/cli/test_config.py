"""What the environment and the files of settings do to command lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran


@pytest.fixture
def own(home: Path) -> Path:
    """LMStrix's own folder, where its settings lie."""
    folder = own_folder(home)
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("words", ["list", "bench history", "doctor", "trust --list", "logs"])
def test_every_command_tells_a_variable_it_does_not_know(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("LMSTRIX_SEVER", "127.0.0.1:1")
    assert "LMSTRIX_SEVER (did you mean LMSTRIX_SERVER?)" in cli(*words.split()).lines[0]


def test_the_environment_chooses_file_and_profile(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LMSTRIX_SERVER")
    named = tmp_path / "other.toml"
    named.write_text('[profiles.away]\nserver = "127.0.0.1:9"\n')
    monkeypatch.setenv("LMSTRIX_CONFIG_PATH", str(named))
    monkeypatch.setenv("LMSTRIX_PROFILE", "away")
    cli("ps").failed(3, "127.0.0.1:9")
    monkeypatch.setenv("LMSTRIX_PROFILE", "home")
    cli("ps").failed(2, "profile 'home' is not in", "there are: away")
