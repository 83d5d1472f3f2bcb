"""Settings: defaults < LMSTRIX_HOME/config.toml < its profile < .lmstrix.toml of the project < environment < flags.

Read once, by an entry point; below it, values are arguments. A file that does not validate is one SettingsError naming
file, key, what was expected and what was found. Pydantic is imported only when there is something to validate.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstrix.ground.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT_FILE = ".lmstrix.toml"
HOME_FILES = ("config.toml", "config.json")
_TEXTS = ("server", "api_token", "models_dir")
_VARIABLES = {
    "LMSTRIX_SERVER": "server",
    "LMSTUDIO_BASE_URL": "server",
    "LMSTRIX_API_TOKEN": "api_token",
    "LM_API_TOKEN": "api_token",
    "LMSTRIX_TIMEOUT": "timeout_s",
    "LMSTRIX_MODELS_DIR": "models_dir",
    "LMSTRIX_LOG": "log_inference",
}


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
    home: Path,
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    project_dir: Path | None = None,
    config_file: Path | None = None,
    profile: str | None = None,
) -> Settings:
    """All layers, merged and validated. Raises SettingsError."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def layer(found: Mapping[str, Any], origin: str) -> None:
        for key, value in found.items():
            values[key] = value
            origins[key] = origin

    file = config_file or next((home / name for name in HOME_FILES if (home / name).is_file()), None)
    table = _read(file) if file else {}
    profiles = table.pop("profiles", {})
    layer(table, str(file))
    if profile is not None:
        if not isinstance(profiles, dict) or profile not in profiles:
            known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) and profiles else "none"
            raise SettingsError(f"profile {profile!r} is not in {file or home / HOME_FILES[0]} (there are: {known})")
        layer(profiles[profile], f"{file} [profiles.{profile}]")
    project_file = (project_dir or Path.cwd()) / PROJECT_FILE
    if project_file.is_file():
        # The user chooses a profile, and a project must not redefine what that means.
        layer({k: v for k, v in _read(project_file).items() if k != "profiles"}, str(project_file))
    environ = os.environ if environ is None else environ
    # From last to first, so that of two variables for one setting the first in the table wins.
    for variable, key in reversed(_VARIABLES.items()):
        if environ.get(variable):
            layer({key: environ[variable]}, f"${variable}")
    layer({key: value for key, value in (flags or {}).items() if value is not None}, "the command line")
    return _validated(values, origins) if values else Settings()


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"cannot read {file}: {exc}") from exc
    try:
        if file.suffix == ".json":
            import json

            found = json.loads(text)
        else:
            import tomllib

            found = tomllib.loads(text)
    except ValueError as exc:
        raise SettingsError(f"{file} is not valid {file.suffix[1:].upper()}: {exc}") from exc
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

    try:
        return TypeAdapter(Settings).validate_python(values)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        key = str(error["loc"][0])
        raise SettingsError(f"{origins[key]}: {key}: {error['msg']} (found {values[key]!r})") from exc
