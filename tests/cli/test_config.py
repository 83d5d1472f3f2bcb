"""What the environment and the files of settings do to command lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder
from tests.cli.conftest import SCRIPTED, TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
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


def write(own: Path, text: str) -> None:
    (own / "config.toml").write_text(text)


def test_a_name_of_the_users_stands_for_words(cli: Callable[..., Ran], own: Path) -> None:
    write(own, '[aliases]\nh = "bench history --last 3"\nj = "--json logs"\nodd = "list \'"\n')
    assert cli("h", "--json").ok().json["schema"] == "lmstrix.bench-history/1"
    assert cli("j").ok().json["schema"] == "lmstrix.logs/1"
    cli("odd").failed(2, "aliases.odd", "are no words")
    cli("hh").failed(2, "unknown command 'hh'")


def test_options_have_the_defaults_of_the_settings(cli: Callable[..., Ran], own: Path) -> None:
    write(own, "[defaults.list]\nshow = 'json'\n[defaults.logs]\njson = true\n")
    assert cli("list").ok().json["schema"] == "lmstrix.list/1"
    assert cli("list", "--show", "id").ok().out == ""
    assert cli("logs").ok().json["schema"] == "lmstrix.logs/1"
    assert not cli("logs", "--no-json").ok().out.startswith("{")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[defaults.lsit]\nshow = 'id'", "defaults: there is no command 'lsit'; did you mean 'list'?"),
        ("[defaults.list]\nshwo = 'id'", "defaults.list: list has no option 'shwo'; did you mean 'show'?"),
        ("[defaults.list]\nshow = 'no'", "defaults.list.show: --show: 'no' is not one of table"),
        ("[defaults.list]\nreverse = 1", "defaults.list.reverse: expected true or false, received 1"),
    ],
)
def test_a_default_that_no_command_has_is_told(cli: Callable[..., Ran], own: Path, text: str, told: str) -> None:
    write(own, text)
    cli("list").failed(2, told)
    cli("version").ok()


def test_output_and_log_go_by_the_settings(cli: Callable[..., Ran], own: Path, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    write(own, f"[output]\nquiet = true\n[logging]\nfile = {str(log)!r}\n")
    assert cli("list").ok().err == ""
    assert "command list with" in log.read_text()
    assert "done in" in cli("list", "--debug").ok().err
    log.unlink()
    write(own, f"[output]\ndebug = true\n[logging]\nfile = {str(log)!r}\nlevel = 'error'\n")
    assert "done in" in cli("list").ok().err
    assert log.read_text() == ""
    assert "done in" not in cli("list", "--quiet").ok().err


def test_the_threshold_of_the_settings_bounds_every_test(
    cli: Callable[..., Ran], engine: EmbeddedEngine, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.port
    cli("scan").ok()

    def ceiling(*words: str) -> int:
        planned = cli("test", TINY, "--dry-run", "--json", *words).ok().json
        found: int = planned["models"][0]["ceiling"]
        return found

    assert ceiling() == 4096
    write(own, "[safety]\nthreshold = 1024\n")
    assert ceiling() == 1024
    assert ceiling("--threshold", "2048") == 2048
    monkeypatch.setenv("LMSTRIX_SAFETY_THRESHOLD", "512")
    assert ceiling() == 512
    write(own, "[defaults.test]\nthreshold = 1024\n")
    assert ceiling() == 512


def test_a_model_is_asked_as_the_settings_say(cli: Callable[..., Ran], engine: EmbeddedEngine, own: Path) -> None:
    assert engine.port
    write(own, f"[models.{SCRIPTED}]\ncontext_length = 512\nmax_tokens = 3\n")
    answer = cli("infer", "hello", "-m", SCRIPTED, "--json").ok().json
    assert (answer["context_length"], answer["completion_tokens"]) == (512, 3)
    answer = cli("infer", "hello", "-m", SCRIPTED, "--json", "--max-tokens", "2").ok().json
    assert answer["completion_tokens"] == 2


def test_a_setting_is_set_shown_and_taken_out(cli: Callable[..., Ran], own: Path) -> None:
    file = own / "config.toml"
    assert cli("config", "path").ok().out == f"{file}\n"
    assert "no file sets anything" in cli("config", "show").ok().err
    cli("config", "set", "server.retries", "5").ok()
    cli("config", "set", "server.api_token", "sk-lm-12345678:secret").ok()
    cli("config", "set", "models.'acme/tiny'.temperature", "0.5").ok()
    assert file.stat().st_mode & 0o077 == 0
    assert cli("config", "show", "--json").ok().json["settings"] == [
        {"key": "server.retries", "value": 5, "from": f"{file}:2:11"},
        {"key": "server.api_token", "value": "(not shown)", "from": f"{file}:3:13"},
        {"key": 'models."acme/tiny".temperature', "value": 0.5, "from": f"{file}:6:15"},
    ]
    assert cli("config", "validate", "--json").ok().json["settings"] == 3
    cli("config", "unset", "server.api_token").ok()
    assert "api_token" not in file.read_text()
    cli("config", "unset", "server.api_token").failed(2, "does not set server.api_token")


def test_what_would_not_be_valid_is_not_written(cli: Callable[..., Ran], own: Path) -> None:
    file = own / "config.toml"
    file.write_text("timeout_s = 5 # as ever\n")
    cli("config", "set", "server.retries", "many").failed(2, "expected a whole number, received 'many'")
    cli("config", "set", "server.retrys", "1").failed(2, "did you mean 'server.retries'?")
    cli("config", "set", "models", "1").failed(2, "there is no setting 'models'")
    assert file.read_text() == "timeout_s = 5 # as ever\n"
    cli("config", "set", "server.timeout_s", "7").ok()
    assert file.read_text() == "timeout_s = 7 # as ever\n"


def test_every_value_that_holds_is_shown_with_its_layer(
    cli: Callable[..., Ran], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(own, "[server]\nretries = 2\ntimeout_s = 9\n[servers.far]\napi_token = 'hidden'\nverify_tls = false\n")
    monkeypatch.setenv("LMSTRIX_MAX_RETRIES", "4")
    ran = cli("config", "effective", "--timeout", "3", "--json").ok()
    rows = {row["key"]: (row["value"], row["from"]) for row in ran.json["settings"]}
    assert rows["server.retries"] == (4, "$LMSTRIX_MAX_RETRIES")
    assert rows["server.timeout_s"] == (3, "the command line")
    assert rows["server.verify_tls"] == (True, "default")
    assert rows["servers.far.api_token"] == ("(not shown)", f"{own}/config.toml:5:13")
    assert rows["servers.far.verify_tls"][0] is False
    assert "hidden" not in ran.out


def test_a_file_is_validated_wherever_it_lies(cli: Callable[..., Ran], tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("[defaults.list]\nshwo = 'id'\n")
    cli("config", "validate", str(file)).failed(2, str(file), "list has no option 'shwo'")
    file.write_text("[profiles.p.server]\nretries = 'x'\n")
    cli("config", "validate", str(file)).failed(2, f"{file}:2:11", "expected a whole number")
    file.write_text("server = [")
    cli("config", "validate", str(file)).failed(2, "is not valid TOML")


def test_every_command_finds_a_config_file_named_from_the_home_directory(
    cli: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell leaves the ~ of --config=~/my.toml as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "my.toml").write_text('[defaults.list]\nsort = "size"\n[server]\nretries = "many"\n')
    for words in (["config", "effective"], ["list"]):
        cli(*words, "--config=~/my.toml").failed(2, "my.toml:4:11", "expected a whole number")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("defaults.list.shw", "json", "config.toml:2:7: defaults.list: list has no option 'shw'; did you mean 'show'?"),
        ("defaults.lsit.show", "json", "defaults: there is no command 'lsit'; did you mean 'list'?"),
        ("defaults.list.show", "no", "defaults.list.show: --show: 'no' is not one of table"),
        ("aliases.list", "logs", "aliases.list: 'list' is a command, which goes before an alias; choose another name"),
        ("aliases.mine", "mine", "aliases.mine: 'mine' names no command"),
        ("aliases.mine", "", "aliases.mine: '' names no command"),
        ("models.default", "tiny", "models.default: expected a table (received 'tiny')"),
        ("models.tiny.context_length", "16k", "expected a whole number (received '16k')"),
        ("models.tiny.temprature", "1", "models.tiny.temprature: there is no such setting"),
    ],
)
def test_what_has_no_effect_on_any_command_is_not_written(
    cli: Callable[..., Ran], own: Path, key: str, value: str, told: str
) -> None:
    cli("config", "set", key, value).failed(2, told)
    assert not (own / "config.toml").exists()


def test_a_default_beside_a_broken_one_can_be_set(cli: Callable[..., Ran], own: Path) -> None:
    write(own, "[defaults.lsit]\nshow = 'id'\n")
    cli("config", "set", "defaults.list.show", "id").ok()
    cli("list").failed(2, "there is no command 'lsit'", "lmstrix config show tells where it is set")
    cli("config", "unset", "defaults.lsit.show").ok()
    cli("list").ok()


def test_a_value_that_does_not_hold_says_what_goes_before_it(
    cli: Callable[..., Ran], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "does not hold" not in cli("config", "set", "server.timeout_s", "30").ok().err
    monkeypatch.setenv("LMSTRIX_TIMEOUT", "5")
    assert "it does not hold here: $LMSTRIX_TIMEOUT gives" in cli("config", "set", "server.timeout_s", "40").ok().err
    assert cli("config", "set", "server.timeout_s", "9", "--json").ok().json["overruled_by"] == "$LMSTRIX_TIMEOUT"
    monkeypatch.setenv("LMSTRIX_TIMEOUT", "often")
    cli("config", "set", "server.timeout_s", "8").ok()
    monkeypatch.delenv("LMSTRIX_TIMEOUT")
    (own / "profiles").mkdir()
    (own / "profiles" / "slow.toml").write_text("[server]\ntimeout_s = 600\n")
    told = cli("config", "set", "server.timeout_s", "7", "--profile", "slow").ok().err
    assert f"{own}/profiles/slow.toml:2:13 gives server.timeout_s another value" in told


def test_the_keys_that_are_shown_can_be_set(cli: Callable[..., Ran], own: Path) -> None:
    cli("config", "set", "servers.'https://far'.headers.X-Key", "a").ok()
    for command in ("show", "effective"):
        keys = [row["key"] for row in cli("config", command, "--json").ok().json["settings"]]
        assert 'servers."https://far".headers.X-Key' in keys
    cli("config", "unset", 'servers."https://far".headers.X-Key').ok()
    assert "X-Key" not in (own / "config.toml").read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("profiles = 3", "config.toml:1:12: profiles: expected a table per profile, received 3"),
        ("[profiles]\nwork = 4", "config.toml:2:8: profiles.work: expected a table of settings, received 4"),
        ("[aliases]\nlist = 'logs'", "aliases.list: 'list' is a command"),
    ],
)
def test_a_file_with_profiles_or_aliases_of_no_use_is_not_valid(
    cli: Callable[..., Ran], own: Path, text: str, told: str
) -> None:
    write(own, text)
    cli("config", "validate").failed(2, told)


def test_profiles_beside_the_file_are_validated_with_it(cli: Callable[..., Ran], own: Path) -> None:
    told = cli("config", "validate").ok().err
    assert f"nothing to check: there is no {own / 'config.toml'}" in told
    assert cli("config", "validate", "--json").ok().json["settings"] == 0
    cli("config", "validate", str(own / "config.toml")).failed(2, "cannot read")
    write(own, "[server]\nretries = 1\n")
    (own / "profiles").mkdir()
    (own / "profiles" / "bad.toml").write_text("[server]\nretries = 'x'\n")
    cli("config", "validate").failed(2, "bad.toml:2:11", "expected a whole number")
