"""A folder that anybody may have made sets nothing that could do harm, until its user has looked at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.errors import SettingsError
from lmstrix.ground.setting_keys import KEYS
from lmstrix.ground.settings import Settings, load_settings, needs_trust, project_settings
from lmstrix.ground.settings_file import GivenSetting
from lmstrix.ground.trust import TrustedFolders

if TYPE_CHECKING:
    from pathlib import Path

HARMFUL = {
    "server": '"http://far.example"',
    "api_token": '"sk-lm-theirs"',
    "models_dir": '"models"',
    "log_inference": "true",
    "log_texts": "true",
    "log_keep_days": "0.001",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def write(project: Path, text: str) -> None:
    (project / ".lmstrix.toml").write_text(text)


def trust(home: Path, project: Path) -> None:
    TrustedFolders(home).add(project, project_settings(project)[0])


def load(home: Path, project: Path, said: list[str] | None = None) -> Settings:
    return load_settings(home, environ={}, project_dir=project, notify=None if said is None else said.append).settings


@pytest.mark.parametrize("key", HARMFUL)
def test_what_could_do_harm_counts_only_where_the_folder_is_trusted(home: Path, project: Path, key: str) -> None:
    write(project, f"{key} = {HARMFUL[key]}\ntimeout_s = 5\n")
    said: list[str] = []
    assert load(home, project, said) == Settings(timeout_s=5)
    (line,) = said
    assert f"{project}/.lmstrix.toml: {key} left out" in line
    assert f"lmstrix trust {project}" in line
    trust(home, project)
    said.clear()
    assert getattr(load(home, project, said), key) != getattr(Settings(), key) or key.startswith("log_")
    assert said == []


def test_what_is_harmless_counts_anywhere(home: Path, project: Path) -> None:
    write(project, "timeout_s = 5\nlog_inference = false\nlog_texts = false\n")
    said: list[str] = []
    assert load(home, project, said) == Settings(timeout_s=5, log_inference=False, log_texts=False)
    assert said == []
    assert not home.exists()


def test_every_setting_is_judged() -> None:
    given = [GivenSetting(setting=key, name=key.key, value=True, origin="") for key in KEYS]
    judged = {each.setting.field for each in given}
    assert judged == set(Settings.__slots__)
    harmless = {"timeout_s", "connect_timeout_s", "retries", "threshold", "color", "verbose", "debug", "log_level"}
    assert {each.setting.field for each in needs_trust(given)} == judged - harmless


def test_a_file_that_changes_is_trusted_no_longer(home: Path, project: Path) -> None:
    write(project, 'server = "127.0.0.1:1"\n')
    trust(home, project)
    write(project, 'server = "127.0.0.1:2"\n')
    assert load(home, project).server == "auto"
    assert [(f.folder, f.is_current) for f in TrustedFolders(home).folders()] == [(project, False)]
    write(project, 'server = "127.0.0.1:1"\n')
    assert load(home, project).server == "127.0.0.1:1"


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_trust_is_for_the_real_folder(home: Path, project: Path, tmp_path: Path) -> None:
    write(project, 'server = "127.0.0.1:1"\n')
    link = tmp_path / "link"
    link.symlink_to(project)
    trust(home, link)
    assert load(home, project).server == "127.0.0.1:1"
    other = tmp_path / "other"
    other.mkdir()
    write(other, 'server = "127.0.0.1:1"\n')
    link.unlink()
    link.symlink_to(other)
    assert load(home, link).server == "auto"


def test_trust_can_be_taken_back(home: Path, project: Path) -> None:
    write(project, 'server = "127.0.0.1:1"\n')
    assert TrustedFolders(home).remove(project) is False
    trust(home, project)
    assert TrustedFolders(home).remove(project) is True
    assert load(home, project).server == "auto"


@pytest.mark.parametrize("content", ["", "[]", '{"folders": []}', "[" * 100_000])
def test_a_damaged_list_is_one_line_and_trusts_nobody(home: Path, project: Path, content: str) -> None:
    write(project, 'server = "127.0.0.1:1"\n')
    trust(home, project)
    (home / "trusted_folders.json").write_text(content)
    with pytest.raises(SettingsError, match=r"trusted_folders\.json cannot be read"):
        load(home, project)


def test_the_list_is_private(home: Path, project: Path) -> None:
    write(project, 'server = "127.0.0.1:1"\n')
    trust(home, project)
    assert (home / "trusted_folders.json").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_folder_without_settings_cannot_be_trusted(project: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no \.lmstrix\.toml"):
        project_settings(project)
