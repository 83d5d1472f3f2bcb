"""Settings come from layers, the later one winning, and faults name where they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmstrix.ground.earlier_settings import RENAMED, has_no_effect
from lmstrix.ground.errors import SettingsError
from lmstrix.ground.setting_keys import BY_KEY
from lmstrix.ground.settings import ModelDefaults, ServerSettings, Settings, load_settings

EARLIER = Path(__file__).parent.parent / "data" / "settings" / "earlier.json"


def load(home: Path, **changes: object) -> Settings:
    home.mkdir(exist_ok=True)
    given = {"environ": {}, "project_dir": home, **changes}
    return load_settings(home, **given).settings  # type: ignore[arg-type]


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


SECTIONS = """
[server]
address = "http://far:1"
connect_timeout_s = 2
retries = 5
headers = { X-Custom-Auth = "key" }
[servers."http://far:1"]
api_token = "t"
[safety]
threshold = 8192
[output]
color = false
[logging]
file = "a.log"
level = "INFO"
calls = false
[paths]
models_dir = "m"
[defaults.infer]
temperature = 0.2
[aliases]
q = "infer --max-tokens 50"
[models."acme/tiny"]
temperature = 0.1
"""


def test_settings_stand_in_sections(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(SECTIONS)
    assert load(tmp_path) == Settings(
        server="http://far:1",
        connect_timeout_s=2,
        retries=5,
        headers={"X-Custom-Auth": "key"},
        servers={"http://far:1": ServerSettings(api_token="t")},
        threshold=8192,
        color=False,
        log_file="a.log",
        log_level="info",
        log_inference=False,
        models_dir="m",
        command_defaults={"infer": {"temperature": 0.2}},
        command_aliases={"q": "infer --max-tokens 50"},
        model_defaults={"acme/tiny": ModelDefaults(temperature=0.1)},
    )


def test_tables_of_later_layers_add_to_those_of_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        f"{SECTIONS}\n[profiles.p.aliases]\nz = 'list'\n[profiles.p.server]\nretries = 1"
    )
    found = load(tmp_path, profile="p")
    assert found.command_aliases == {"q": "infer --max-tokens 50", "z": "list"}
    assert (found.retries, found.connect_timeout_s) == (1, 2)


@pytest.mark.parametrize(
    ("name", "text"), [("dev.toml", "[safety]\nthreshold = 4096"), ("dev.json", '{"safety": {"threshold": 4096}}')]
)
def test_a_profile_may_be_a_file_of_its_own(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / name).write_text(text)
    assert load(tmp_path, profile="dev").threshold == 4096
    with pytest.raises(SettingsError, match="there are: dev"):
        load(tmp_path, profile="prod")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "config.toml",
            '[server]\nretries = "many"\n',
            "config.toml:2:11: server.retries: expected a whole number, received 'many'",
        ),
        ("config.toml", "[safety]\n# how far\n  threshold = 0\n", "config.toml:3:15: threshold: 0 is out of range"),
        (
            "config.toml",
            "[server]\nretrys = 1\n",
            "config.toml:2:10: unknown setting 'server.retrys'; did you mean 'server.retries'?",
        ),
        (
            "config.toml",
            "[output]\ncolor = 'blue'\n",
            "config.toml:2:9: output.color: expected true or false, received 'blue'",
        ),
        ("config.toml", '[models."a.b"]\nheat = 1\n', "config.toml:2:8: models.a.b.heat: there is no such setting"),
        (
            "config.toml",
            "[models.a]\ntemperature = 500\n",
            "config.toml:2:15: models.a: temperature: 500 is out of range",
        ),
        (
            "config.json",
            '{"server":\n  {"address": "x",\n   "retries": []}}',
            "config.json:3:15: server.retries: expected a whole number, received []",
        ),
        (
            "config.json",
            '{"server": {\n  "retries": 2,\n  "retries": 3\n}}',
            "config.json has the key 'server.retries' twice, in lines 2 and 3; leave out one of them",
        ),
        (
            "config.toml",
            "timeout_s = 3\n[server]\ntimeout_s = 7\n",
            "config.toml:3:13: server.timeout_s is the setting that timeout_s (",
        ),
        (
            "config.toml",
            "[profiles.p.server]\nretries = 'x'\n",
            "config.toml:2:11: server.retries: expected a whole number",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, profile="p" if "profiles" in text else None)
    assert f"{tmp_path}/{told}" in str(caught.value)


def test_a_file_of_the_earlier_lmstrix_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "user" / ".lmstrix"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(EARLIER.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "user"))
    said: list[str] = []
    assert load(tmp_path / "own", notify=said.append) == Settings(
        server="http://localhost:1234",
        timeout_s=300,
        connect_timeout_s=30,
        headers={"User-Agent": "LMStrix/1.0", "X-Custom-Auth": "key"},
        threshold=65536,
        retries=3,
        verbose=False,
        color=True,
        log_level="info",
        log_max_bytes=10 * 2**20,
        command_defaults={"test": {"threshold": 32768}, "list": {"sort": "name"}},
        command_aliases={"q": "infer --out_ctx 50"},
    )
    (line,) = said
    assert line.endswith("no effect here: 11 settings of the earlier LMStrix (lmstrix config validate names what)")
    assert load(tmp_path / "own", environ={"LMSTRIX_HOME": "elsewhere"}) == Settings()


EARLIER_KEYS = {
    "": "lmstudio_base_url default_timeout max_retries debug registry_path safety_threshold",
    "lmstudio": "base_url api_key timeout connect_timeout read_timeout verify_ssl follow_redirects endpoints headers "
    "auth_type port use_https custom_endpoints max_retries retry_delay connection_pool_size",
    "safety": "max_context_threshold default_test_threshold emergency_stop_threshold enable_safety_checks "
    "safety_margin_tokens max_test_iterations min_test_context max_memory_usage_mb max_concurrent_tests "
    "test_timeout_seconds enable_resource_monitoring memory_check_interval max_consecutive_failures "
    "failure_cooldown_seconds auto_reduce_context_on_failure context_reduction_factor enable_automatic_recovery "
    "memory_usage_limit enable_graceful_degradation fallback_models circuit_breaker_threshold",
    "performance": "max_retries retry_delay retry_backoff retry_on_errors exponential_backoff jitter cache_results "
    "cache_ttl_hours cache_size_mb cache_compression cache_cleanup_interval keep_models_loaded model_load_timeout "
    "model_unload_delay auto_unload_inactive memory_threshold_unload enable_caching cache_ttl batch_size "
    "batch_timeout max_concurrent_requests request_queue_size",
    "output": "verbose_by_default use_color use_emoji compact_tables show_progress table_style date_format "
    "number_format verbosity_levels default_verbosity show_timestamps show_model_info show_performance_stats",
    "logging": "level file format rotate max_size_mb date_format handlers loggers",
    "paths": "registry_file cache_dir prompts_dir logs_dir config_dir",
    "cli": "defaults aliases",
    "workspace": "name prompts_dir cache_dir preferred_models",
    "context_testing": "binary_search performance failure_handling",
    "monitoring": "enable_metrics metrics_interval enable_alerts alert_cooldown log_level",
}
"""All that the documentation of the earlier LMStrix names."""


@pytest.mark.parametrize(
    ("section", "name"), [(section, name) for section, names in EARLIER_KEYS.items() for name in names.split()]
)
def test_every_documented_key_has_its_equivalent_or_its_reason(section: str, name: str) -> None:
    key = f"{section}.{name}" if section else name
    assert (key in RENAMED or key in BY_KEY) or has_no_effect(section, name)


def test_each_value_knows_its_layer(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(SECTIONS)
    given = load_settings(
        tmp_path, environ={"LMSTRIX_NO_COLOR": "1", "LMSTRIX_DEBUG": "true"}, project_dir=tmp_path
    ).given
    places = {each.name: each.where for each in given}
    assert places["server.retries"] == f"{tmp_path}/config.toml:5:11"
    assert places["servers.http://far:1.api_token"] == f"{tmp_path}/config.toml:8:13"
    assert (places["color"], places["debug"]) == ("$LMSTRIX_NO_COLOR", "$LMSTRIX_DEBUG")


def test_settings_of_the_earlier_lmstrix_that_are_one_now_are_no_contradiction(tmp_path: Path) -> None:
    safety = {"max_context_threshold": 65536, "default_test_threshold": 4096}
    (tmp_path / "config.json").write_text(json.dumps({"safety": safety}))
    assert load(tmp_path).threshold == 4096
