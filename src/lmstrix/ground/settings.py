"""Settings: defaults < our config.toml < its profile < .lmstrix.toml of the project < environment < flags.

Read once, by an entry point; below it, values are arguments. A value that does not validate is one SettingsError naming
file, line and column, key, what was expected and what was found. Pydantic is imported only when there is something to
validate.

A project's folder may come from anybody. So its file may say how long to wait and what not to write down; everything
else in it counts only once the user trusts the folder: where prompts and tokens go, which model files are run (by
native code), what is written down, and when it is deleted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping  # noqa: TC003 - pydantic evaluates the annotations
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lmstrix.ground.environment import PROFILE_VARIABLE, SETTING_VARIABLES, chosen_config, setting_value
from lmstrix.ground.errors import SettingsError, UsageError
from lmstrix.ground.paths import HOME_VARIABLE, PROJECT_FILE
from lmstrix.ground.setting_keys import BY_FIELD, KEYS
from lmstrix.ground.settings_file import PROFILES, GivenSetting, SettingsFile, read_settings_file, settings_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIG_FILES = ("config.toml", "config.json")
PROFILES_FOLDER = "profiles"
EARLIER_CONFIG = Path(".lmstrix", "config.json")
"""Below the user's home: where the documentation of the earlier LMStrix put its settings."""
_SUFFIXES = (".toml", ".json")
_TEXTS = ("server", "api_token", "models_dir", "ca_file", "log_file")
LogLevel = Literal["debug", "info", "warn", "error"]
_EXPECTED: Mapping[str, str] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "expected a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    **dict.fromkeys(("dict_type", "mapping_type", "dataclass_type"), "expected a table"),
    "string_type": "expected a text",
    "unexpected_keyword_argument": "there is no such setting",
}
"""What pydantic's faults, by type, mean to who writes settings."""
_FORBID_OTHERS: Mapping[str, str] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What one server alone is given, over what all are."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = _FORBID_OTHERS
    api_token: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    verify_tls: bool | None = None
    ca_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefaults:
    """How one model is asked, where the request does not say."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = _FORBID_OTHERS
    context_length: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every command knows.

    Attributes:
        server: "auto", "lmstudio", "embedded", or an address such as 127.0.0.1:1234.
        api_token: token of the server (sk-lm-…), if it asks for one.
        timeout_s: limit of one whole answer, connecting and loading included, in seconds; None means none.
        connect_timeout_s: limit of connecting to a server.
        retries: how often what is safe to ask again is asked again.
        verify_tls: whether an https server has to prove who it is.
        ca_file: certificates to trust instead of the system's.
        headers: sent with every request to a server.
        servers: what single servers are given, by address.
        threshold: tests of a context length never try more tokens than this.
        headroom: memory that stays free beside models, in bytes or as a share of what they might take ("2GB", "10%").
        color, verbose, quiet, debug: what --no-color, --verbose, --quiet and --debug say.
        log_file: where the log of commands is written.
        log_level: the least that is written there.
        log_max_bytes: at which size that file is begun anew.
        log_inference: whether calls are written to lmstrix.db.
        log_texts: whether their prompts and answers are, too.
        log_keep_days: calls older than this are dropped; None keeps all.
        models_dir: models directory, where it is not LM Studio's own.
        command_defaults: options that commands have where they are not given, by command.
        command_aliases: words of a command line by a name of the user's.
        model_defaults: how single models are asked, by their names.
    """

    server: str = "auto"
    api_token: str | None = None
    timeout_s: float | None = None
    connect_timeout_s: float | None = None
    retries: int | None = None
    verify_tls: bool = True
    ca_file: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    servers: Mapping[str, ServerSettings] = field(default_factory=dict)
    threshold: int | None = None
    headroom: str | int | None = None
    color: bool | None = None
    verbose: bool | None = None
    quiet: bool | None = None
    debug: bool | None = None
    log_file: str | None = None
    log_level: LogLevel = "debug"
    log_max_bytes: int | None = None
    log_inference: bool = True
    log_texts: bool = True
    log_keep_days: float | None = None
    models_dir: str | None = None
    command_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    command_aliases: Mapping[str, str] = field(default_factory=dict)
    model_defaults: Mapping[str, ModelDefaults] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The settings that hold, and every value that a layer gave, from the weakest layer to the strongest."""

    settings: Settings
    given: tuple[GivenSetting, ...]


def load_settings(
    own: Path,
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    project_dir: Path | None = None,
    config_file: Path | None = None,
    profile: str | None = None,
    notify: Callable[[str], None] | None = None,
) -> Layers:
    """All layers, merged and validated; `own` is LMStrix's folder. `notify` is told what is left out.

    Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    tell = notify or _say_nothing
    file = config_file or find_config_file(own, environ)
    given: list[GivenSetting] = []
    main = read_settings_file(file) if file is not None else None
    if main is not None:
        given += _counting(main, None, tell)
    profile = profile or environ.get(PROFILE_VARIABLE) or None
    if profile is not None:
        given += _of_profile(main, (file or own / CONFIG_FILES[0]).parent, profile, tell)
    project_file = (project_dir or Path.cwd()) / PROJECT_FILE
    if project_file.is_file():
        given += _of_project(project_file, own, notify)
    given += _of_environment(environ)
    given += [_plain(key, value, "the command line") for key, value in (flags or {}).items() if value is not None]
    return Layers(settings=validated(given), given=tuple(given))


def find_config_file(own: Path, environ: Mapping[str, str]) -> Path | None:
    """The file of settings: the one the environment names, ours, or that of the earlier LMStrix."""
    chosen = chosen_config(environ)
    if chosen is not None:
        return Path(chosen).expanduser()
    places = [own / name for name in CONFIG_FILES]
    # Where LMSTRIX_HOME is set, the user's home directory is not looked at.
    if not environ.get(HOME_VARIABLE):
        places.append(Path.home() / EARLIER_CONFIG)
    return next((place for place in places if place.is_file()), None)


def profile_files(folder: Path) -> dict[str, Path]:
    """The profiles that are files of their own, by name; `folder` is that of the config file."""
    return {file.stem: file for file in sorted((folder / PROFILES_FOLDER).glob("*")) if file.suffix in _SUFFIXES}


def validated(given: Sequence[GivenSetting]) -> Settings:
    """The settings of all layers, the later one winning. Raises SettingsError."""
    values: dict[str, Any] = {}
    for each in given:
        _put(values, (each.setting.field, *each.entry), each.value)
    if all(isinstance(value, str) and key in _TEXTS for key, value in values.items()):
        return Settings(**values)  # what the environment usually holds needs no validation, nor 80 ms for its import
    from pydantic import TypeAdapter, ValidationError

    from lmstrix.ground.headroom import parse_headroom
    from lmstrix.ground.ranges import check_number, check_numbers

    if isinstance(values.get("log_level"), str):
        level = values["log_level"].lower()
        values["log_level"] = {"warning": "warn", "critical": "error"}.get(level, level)
    if isinstance(values.get("headroom"), bool):  # pydantic would take it for the number 1
        raise SettingsError(_refused(_giver(given, ("headroom",)), ("headroom",), "", values["headroom"]))
    try:
        settings = TypeAdapter(Settings).validate_python(values)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        place = tuple(map(str, error["loc"]))
        message = _EXPECTED.get(error["type"], error["msg"])
        raise SettingsError(_refused(_giver(given, place), place, message, error["input"])) from exc
    for key in values:
        try:
            check_number(key, getattr(settings, key))
        except UsageError as exc:
            raise SettingsError(f"{_giver(given, (key,)).where}: {exc}") from exc
    try:
        parse_headroom(settings.headroom)
    except UsageError as exc:
        raise SettingsError(f"{_giver(given, ('headroom',)).where}: {exc}") from exc
    for name, defaults in settings.model_defaults.items():
        try:
            check_numbers(defaults)
        except UsageError as exc:
            raise SettingsError(f"{_giver(given, ('model_defaults', name)).where}: models.{name}: {exc}") from exc
    return settings


def holds_settings(file: Path) -> bool:
    """Whether a file is surely one of ours: settings that we know, and nothing else."""
    try:
        table = read_settings_file(file).table
    except SettingsError:
        return False
    profiles = table.pop(PROFILES, {})
    if not isinstance(profiles, dict) or not (table or profiles):
        return False
    return all(isinstance(values, dict) and _are_flat(values) for values in (table, *profiles.values()))


def _are_flat(values: Mapping[str, Any]) -> bool:
    # Sections came after the files that are looked at here.
    flat = [each.flat for each in KEYS if each.flat is not None]
    return all(key in flat and not isinstance(value, dict | list) for key, value in values.items())


def project_settings(folder: Path) -> tuple[bytes, tuple[GivenSetting, ...]]:
    """What a folder's settings file holds, and the settings in it. Raises SettingsError."""
    path = folder / PROJECT_FILE
    if not path.is_file():
        raise SettingsError(f"there is no {PROJECT_FILE} in {folder}")
    file = read_settings_file(path)
    # Without its profiles: the user chooses one, and a project must not redefine what that means.
    return file.content, settings_in(file).given


def needs_trust(given: Sequence[GivenSetting]) -> list[GivenSetting]:
    """The settings of a project that count only in a folder the user trusts."""
    return [
        each
        for each in given
        if each.setting.harmless != "always" and not (each.setting.harmless == "if_off" and each.value is False)
    ]


def _of_project(file: Path, own: Path, notify: Callable[[str], None] | None) -> Sequence[GivenSetting]:
    """The settings of a project's file that count."""
    content, given = project_settings(file.parent)
    left_out = needs_trust(given)
    if not left_out:
        return given
    import shlex

    from lmstrix.ground.trust import TrustedFolders

    if TrustedFolders(own).holds(file.parent, content):
        return given
    if notify is not None:
        notify(
            f"{file}: {', '.join(each.name for each in left_out)} left out, as this folder is not trusted (or its file "
            f"has changed); look at it, then: lmstrix trust {shlex.quote(str(file.parent))}"
        )
    return [each for each in given if each not in left_out]


def _of_profile(
    main: SettingsFile | None, folder: Path, profile: str, tell: Callable[[str], None]
) -> Sequence[GivenSetting]:
    """A profile of the file, or one that is a file of its own beside it."""
    inside = main.table.get(PROFILES, {}) if main is not None else {}
    if main is not None and isinstance(inside, dict) and isinstance(inside.get(profile), dict):
        return _counting(main, profile, tell)
    beside = profile_files(folder)
    if profile in beside:
        return _counting(read_settings_file(beside[profile]), None, tell)
    tables = [name for name, table in inside.items() if isinstance(table, dict)] if isinstance(inside, dict) else []
    known = ", ".join(sorted({*beside, *tables})) or "none"
    where = main.path if main is not None else folder / CONFIG_FILES[0]
    raise SettingsError(
        f"profile {profile!r} is not in {where}, nor in {folder / PROFILES_FOLDER} (there are: {known})"
    )


def _counting(file: SettingsFile, profile: str | None, tell: Callable[[str], None]) -> Sequence[GivenSetting]:
    found = settings_in(file, profile=profile)
    if found.without_effect:
        from lmstrix.ground.units import counted

        # A line of each command, so short; `config validate` has the names.
        which = f"{counted(len(found.without_effect), 'setting')} of the earlier LMStrix"
        tell(f"{file.path}: no effect here: {which} (lmstrix config validate names what)")
    return found.given


def _of_environment(environ: Mapping[str, str]) -> list[GivenSetting]:
    # From last to first, so that of two variables for one setting the first in the table wins.
    return [
        _plain(key, value, f"${variable}")
        for variable, key in reversed([*SETTING_VARIABLES.items()])
        if environ.get(variable) and (value := setting_value(variable, environ[variable])) is not None
    ]


def _plain(key: str, value: object, origin: str) -> GivenSetting:
    return GivenSetting(setting=BY_FIELD[key], name=key, value=value, origin=origin)


def _put(values: dict[str, Any], place: tuple[str, ...], value: object) -> None:
    for name in place[:-1]:
        inner = values.setdefault(name, {})
        # A layer below gave something that is no table: what stands above it counts.
        if not isinstance(inner, dict):
            inner = values[name] = {}
        values = inner
    values[place[-1]] = value


def _giver(given: Sequence[GivenSetting], place: tuple[str, ...]) -> GivenSetting:
    """The last that gave the value at `place`, or what leads to it or stands in it."""

    def common(each: GivenSetting) -> int:
        own = (each.setting.field, *each.entry)
        return next((n for n, (a, b) in enumerate(zip(own, place, strict=False)) if a != b), min(len(own), len(place)))

    return max(reversed(given), key=common)


def _refused(giver: GivenSetting, place: tuple[str, ...], message: str, found: object) -> str:
    if len(place) > 1:
        # What stands in a table is described by pydantic, which knows its record.
        return f"{giver.where}: {giver.name}: {message} (received {found!r})"
    return f"{giver.where}: {giver.name}: expected {giver.setting.expects}, received {found!r}"


def _say_nothing(line: str) -> None:
    """For callers that want no remarks."""
