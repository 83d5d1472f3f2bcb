"""Settings: defaults < our config.toml < its profile < .lmstrix.toml of the project < environment < flags.

Read once, by an entry point; below it, values are arguments. A file that does not validate is one SettingsError naming
file, key, what was expected and what was found. Pydantic is imported only when there is something to validate.

A project's folder may come from anybody. So its file may say how long to wait and what not to write down; everything
else in it counts only once the user trusts the folder: where prompts and tokens go, which model files are run (by
native code), what is written down, and when it is deleted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstrix.ground.documents import DocumentError, parse_json, parse_toml
from lmstrix.ground.environment import PROFILE_VARIABLE, SETTING_VARIABLES, chosen_config
from lmstrix.ground.errors import SettingsError, UsageError
from lmstrix.ground.held_files import while_held
from lmstrix.ground.paths import PROJECT_FILE
from lmstrix.ground.text import decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_FILE_BYTES = 2**20
CONFIG_FILES = ("config.toml", "config.json")
_TEXTS = ("server", "api_token", "models_dir")
_HARMLESS = ("timeout_s",)
_HARMLESS_IF_OFF = ("log_inference", "log_texts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every command knows.

    Attributes:
        server: "auto", "lmstudio", "embedded", or an address such as 127.0.0.1:1234.
        api_token: token of the server (sk-lm-…), if it asks for one.
        timeout_s: limit of one whole answer, connecting and loading included, in seconds; None means none.
        models_dir: models directory, where it is not LM Studio's own.
        log_inference: whether calls are written to lmstrix.db.
        log_texts: whether their prompts and answers are, too.
        log_keep_days: calls older than this are dropped; None keeps all.
    """

    server: str = "auto"
    api_token: str | None = None
    timeout_s: float | None = None
    models_dir: str | None = None
    log_inference: bool = True
    log_texts: bool = True
    log_keep_days: float | None = None


def load_settings(
    own: Path,
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    project_dir: Path | None = None,
    config_file: Path | None = None,
    profile: str | None = None,
    notify: Callable[[str], None] | None = None,
) -> Settings:
    """All layers, merged and validated; `own` is LMStrix's folder. `notify` is told what is left out.

    Raises SettingsError.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def layer(found: Mapping[str, Any], origin: str) -> None:
        for key, value in found.items():
            values[key] = value
            origins[key] = origin

    environ = os.environ if environ is None else environ
    profile = profile or environ.get(PROFILE_VARIABLE) or None
    if config_file is None and (chosen := chosen_config(environ)):
        config_file = Path(chosen).expanduser()
    file = config_file or next((own / name for name in CONFIG_FILES if (own / name).is_file()), None)
    table = _read(file) if file else {}
    profiles = table.pop("profiles", {})
    layer(table, str(file))
    if profile is not None:
        if not isinstance(profiles, dict) or profile not in profiles:
            known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) and profiles else "none"
            raise SettingsError(f"profile {profile!r} is not in {file or own / CONFIG_FILES[0]} (there are: {known})")
        layer(profiles[profile], f"{file} [profiles.{profile}]")
    project_file = (project_dir or Path.cwd()) / PROJECT_FILE
    if project_file.is_file():
        layer(_of_project(project_file, own, notify), str(project_file))
    # From last to first, so that of two variables for one setting the first in the table wins.
    for variable, key in reversed(SETTING_VARIABLES.items()):
        if environ.get(variable):
            layer({key: environ[variable]}, f"${variable}")
    layer({key: value for key, value in (flags or {}).items() if value is not None}, "the command line")
    return _validated(values, origins) if values else Settings()


def holds_settings(file: Path) -> bool:
    """Whether a file is surely one of ours: settings that we know, and nothing else."""
    try:
        table = _read(file)
    except SettingsError:
        return False
    profiles = table.pop("profiles", {})
    if not isinstance(profiles, dict) or not (table or profiles):
        return False
    return all(isinstance(values, dict) and _are_settings(values) for values in (table, *profiles.values()))


def _are_settings(values: Mapping[str, Any]) -> bool:
    return all(key in Settings.__slots__ and not isinstance(value, dict | list) for key, value in values.items())


def project_settings(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """What a folder's settings file holds, and its settings as they are written. Raises SettingsError."""
    file = folder / PROJECT_FILE
    if not file.is_file():
        raise SettingsError(f"there is no {PROJECT_FILE} in {folder}")
    content = _bytes_of(file)
    # The user chooses a profile, and a project must not redefine what that means.
    return content, {key: value for key, value in _parsed(file, content).items() if key != "profiles"}


def needs_trust(settings: Mapping[str, Any]) -> list[str]:
    """The keys of a project's settings that count only in a folder the user trusts."""
    return [
        key
        for key, value in settings.items()
        if key not in _HARMLESS and not (key in _HARMLESS_IF_OFF and value is False)
    ]


def _of_project(file: Path, own: Path, notify: Callable[[str], None] | None) -> dict[str, Any]:
    """The settings of a project's file that count."""
    content, settings = project_settings(file.parent)
    # An unknown key is no matter of trust: it is refused as in every other file.
    left_out = [key for key in needs_trust(settings) if key in Settings.__slots__]
    if not left_out:
        return settings
    import shlex

    from lmstrix.ground.trust import TrustedFolders

    if TrustedFolders(own).holds(file.parent, content):
        return settings
    if notify is not None:
        notify(
            f"{file}: {', '.join(left_out)} left out, as this folder is not trusted (or its file has changed); look at "
            f"it, then: lmstrix trust {shlex.quote(str(file.parent))}"
        )
    return {key: value for key, value in settings.items() if key not in left_out}


def _read(file: Path) -> dict[str, Any]:
    return _parsed(file, _bytes_of(file))


def _bytes_of(file: Path) -> bytes:
    try:
        content = while_held(lambda: _beginning_of(file))
    except OSError as exc:
        raise SettingsError(f"cannot read {file}: {exc}") from exc
    if len(content) > _MAX_FILE_BYTES:
        raise SettingsError(f"{file} is larger than 1 MiB, which no file of settings is")
    return content


def _beginning_of(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_MAX_FILE_BYTES + 1)


def _parsed(file: Path, content: bytes) -> dict[str, Any]:
    try:
        text = decoded(content)
        found = parse_json(text) if file.suffix == ".json" else parse_toml(text)
    except UnicodeDecodeError as exc:
        raise SettingsError(f"cannot read {file}: {exc}") from exc
    except DocumentError as exc:
        raise SettingsError(f"{file} {exc}") from exc
    if not isinstance(found, dict):
        raise SettingsError(f"{file}: expected a table of settings, found {type(found).__name__}")
    return found


def _validated(values: dict[str, Any], origins: Mapping[str, str]) -> Settings:
    known = [item.name for item in fields(Settings)]
    # Before pydantic, which would name the key but not the file it stands in.
    for key in values:
        if key not in known:
            raise SettingsError(f"{origins[key]}: unknown setting {key!r} (known: {', '.join(known)})")
    if all(isinstance(value, str) and key in _TEXTS for key, value in values.items()):
        return Settings(**values)  # what the environment usually holds needs no validation, nor 80 ms for its import
    from pydantic import TypeAdapter, ValidationError

    from lmstrix.ground.ranges import check_number

    try:
        settings = TypeAdapter(Settings).validate_python(values)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        key = str(error["loc"][0])
        raise SettingsError(f"{origins[key]}: {key}: {error['msg']} (found {values[key]!r})") from exc
    for key in values:
        try:
            check_number(key, getattr(settings, key))
        except UsageError as exc:
            raise SettingsError(f"{origins[key]}: {exc}") from exc
    return settings
