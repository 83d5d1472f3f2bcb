"""Which folders are used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import find_models_dir, resolve_paths

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def user_home(tmp_path: Path) -> Path:
    folder = tmp_path / "someone"
    folder.mkdir()
    return folder


def test_lmstrix_home_decides_alone(user_home: Path, tmp_path: Path) -> None:
    (user_home / ".lmstudio").mkdir()
    paths = resolve_paths({"LMSTRIX_HOME": str(tmp_path / "mine")}, user_home=user_home)
    assert paths.home == tmp_path / "mine"
    assert paths.models_dir == tmp_path / "mine" / "models"
    assert paths.lmstudio_home is None
    assert (paths.registry_file.name, paths.history_file.name) == ("lmstrix.json", "lmstrix.db")
    assert paths.own == tmp_path / "mine" / "lmstrix"
    assert not paths.home.exists()


def test_lmstudio_home_can_be_named_beside_lmstrix_home(user_home: Path, tmp_path: Path) -> None:
    paths = resolve_paths({"LMSTRIX_HOME": str(tmp_path / "mine")}, user_home=user_home, lmstudio_home=tmp_path / "lms")
    assert paths.home == tmp_path / "mine"
    assert paths.models_dir == tmp_path / "lms" / "models"


def test_the_environment_is_the_default(home: Path) -> None:
    assert resolve_paths().home == home


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_pointer_file_comes_first_and_links_are_resolved(user_home: Path, tmp_path: Path) -> None:
    real = tmp_path / "disk" / "lmstudio"
    real.mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    (user_home / ".lmstudio").mkdir()
    (user_home / ".lmstudio-home-pointer").write_text(f"{tmp_path / 'link'}\n", encoding="utf-8-sig")
    paths = resolve_paths({}, user_home=user_home)
    assert paths.home == paths.lmstudio_home == real.resolve()


def test_a_pointer_to_nothing_is_passed_over(user_home: Path, tmp_path: Path) -> None:
    (user_home / ".lmstudio-home-pointer").write_text(str(tmp_path / "gone"))
    (user_home / ".lmstudio").mkdir()
    assert resolve_paths({}, user_home=user_home).home == (user_home / ".lmstudio").resolve()


def test_the_old_default_comes_before_the_new(user_home: Path) -> None:
    (user_home / ".lmstudio").mkdir()
    (user_home / ".cache" / "lm-studio").mkdir(parents=True)
    assert resolve_paths({}, user_home=user_home).home == (user_home / ".cache" / "lm-studio").resolve()


def test_without_lm_studio_the_platforms_data_folder(
    user_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    paths = resolve_paths({}, user_home=user_home)
    assert paths.home.name == "lmstrix"
    assert paths.lmstudio_home is None
    assert paths.models_dir == paths.home / "models"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"downloadsFolder": 3}', '{"downloadsFolder": " "}', "[" * 100_000]
)
def test_unusable_settings_mean_the_default_models_folder(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.json").write_text(content)
    assert find_models_dir(tmp_path) == tmp_path / "models"


def test_lm_studios_downloads_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(
        json.dumps({"downloadsFolder": str(tmp_path / "big")}), encoding="utf-8-sig"
    )
    assert find_models_dir(tmp_path) == tmp_path / "big"
