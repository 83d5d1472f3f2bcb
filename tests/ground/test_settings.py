"""Settings come from layers, the later one winning, and faults name where they stand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.errors import SettingsError
from lmstrix.ground.settings import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path


def load(home: Path, **changes: object) -> Settings:
    home.mkdir(exist_ok=True)
    given = {"environ": {}, "project_dir": home, **changes}
    return load_settings(home, **given)  # type: ignore[arg-type]


def test_without_any_layer_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()


def test_later_layers_win(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'server = "lmstudio"\ntimeout_s = 10\nlog_texts = false\n[profiles.fast]\ntimeout_s = 20\napi_token = "a"\n'
    )
    assert load(tmp_path).timeout_s == 10
    assert load(tmp_path, profile="fast").timeout_s == 20
    project = tmp_path / "project"
    project.mkdir()
    (project / ".lmstrix.toml").write_text("timeout_s = 30\n")
    assert load(tmp_path, profile="fast", project_dir=project).timeout_s == 30
    environ = {"LMSTRIX_TIMEOUT": "40", "LMSTUDIO_BASE_URL": "http://127.0.0.1:1", "LM_API_TOKEN": "b"}
    found = load(tmp_path, profile="fast", project_dir=project, environ=environ)
    assert (found.timeout_s, found.server, found.api_token, found.log_texts) == (40, "http://127.0.0.1:1", "b", False)
    flags = {"timeout_s": 50.0, "server": None}
    assert load(tmp_path, environ=environ, flags=flags).timeout_s == 50
    assert load(tmp_path, environ=environ, flags=flags).server == "http://127.0.0.1:1"


def test_our_own_variable_beats_that_of_lm_studio(tmp_path: Path) -> None:
    environ = {"LMSTUDIO_BASE_URL": "127.0.0.1:1", "LMSTRIX_SERVER": "127.0.0.1:2"}
    assert load(tmp_path, environ=environ).server == "127.0.0.1:2"


def test_a_json_file_serves_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"log_inference": False}))
    assert load(tmp_path).log_inference is False
    named = tmp_path / "other.toml"
    named.write_text("log_inference = true")
    assert load(tmp_path, config_file=named).log_inference is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server = [", ["config.toml", "not valid TOML"]),
        ('sever = "auto"', ["config.toml", "unknown setting 'sever'", "server"]),
        ('timeout_s = "soon"', ["config.toml", "timeout_s", "'soon'"]),
    ],
)
def test_a_fault_names_file_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_fault_of_the_environment_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\$LMSTRIX_TIMEOUT: timeout_s"):
        load(tmp_path, environ={"LMSTRIX_TIMEOUT": "soon"})


def test_an_unknown_profile_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[profiles.fast]\n")
    with pytest.raises(SettingsError, match="there are: fast"):
        load(tmp_path, profile="slow")
    with pytest.raises(SettingsError, match="cannot read"):
        load(tmp_path, config_file=tmp_path / "absent.toml")
