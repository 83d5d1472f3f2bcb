"""Where things are: the home, LMStrix's own folder in it, and the models.

`LMSTRIX_HOME`, when it is set, decides alone: then the user's home directory is not looked at. Otherwise LM Studio's
home is used when there is one (its pointer file, then its two defaults, symlinks resolved), else the platform's data
folder. In any home only the registry and the history lie beside what LM Studio keeps there; all else of ours has a
folder of its own. Nothing is created here.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME_VARIABLE = "LMSTRIX_HOME"
REGISTRY_FILE = "lmstrix.json"
PROJECT_FILE = ".lmstrix.toml"
"""Settings of the project whose folder a command runs in."""
_OWN_FOLDER = "lmstrix"
_ENGINE_FILE = "engine.json"
_POINTER_FILE = ".lmstudio-home-pointer"
_LMSTUDIO_DEFAULTS = (".cache/lm-studio", ".lmstudio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The folders one run works with. `lmstudio_home` is None when LM Studio has none here, or we may not look: that is
    where the home was named (`home_is_named`).
    """

    home: Path
    models_dir: Path
    lmstudio_home: Path | None
    home_is_named: bool = False

    @property
    def own(self) -> Path:
        """The folder that is LMStrix's alone: conversations, settings, reports, cache, state, the engine's files."""
        return own_folder(self.home)

    @property
    def registry_file(self) -> Path:
        return self.home / REGISTRY_FILE

    @property
    def history_file(self) -> Path:
        return self.home / "lmstrix.db"


def own_folder(home: Path) -> Path:
    """LMStrix's own folder in a home."""
    return home / _OWN_FOLDER


def engine_files(home: Path) -> tuple[Path, Path]:
    """Where an engine of this home says that it runs: one of ours, and one that an earlier version started."""
    return own_folder(home) / _ENGINE_FILE, home / _ENGINE_FILE


def resolve_paths(
    environ: Mapping[str, str] | None = None, *, user_home: Path | None = None, lmstudio_home: Path | None = None
) -> Paths:
    """The folders for this environment. `lmstudio_home` names LM Studio's home outright, also beside LMSTRIX_HOME."""
    environ = os.environ if environ is None else environ
    chosen = environ.get(HOME_VARIABLE, "").strip()
    if lmstudio_home is None and not chosen:
        lmstudio_home = find_lmstudio_home(user_home or Path.home())
    home = Path(chosen).expanduser().absolute() if chosen else lmstudio_home or _platform_data_dir()
    return Paths(
        home=home,
        models_dir=find_models_dir(lmstudio_home or home),
        lmstudio_home=lmstudio_home,
        home_is_named=bool(chosen),
    )


def find_lmstudio_home(user_home: Path) -> Path | None:
    """LM Studio's home below or named from `user_home`, symlinks resolved; None when there is none."""
    candidates = [user_home / default for default in _LMSTUDIO_DEFAULTS]
    pointed = _first_line(user_home / _POINTER_FILE)
    if pointed:
        # Before the defaults, which may be left from before LM Studio's home was moved.
        candidates.insert(0, user_home / pointed)
    return next((candidate.resolve() for candidate in candidates if candidate.is_dir()), None)


def find_models_dir(home: Path) -> Path:
    """The models folder of an LM Studio home: `downloadsFolder` of its settings.json when set, else `models`."""
    try:
        settings = json.loads((home / "settings.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        settings = None  # another program's file: damage to it must not keep us from starting
    folder = settings.get("downloadsFolder") if isinstance(settings, dict) else None
    if isinstance(folder, str) and folder.strip():
        return home / Path(folder.strip()).expanduser()
    return home / "models"


def _first_line(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").strip().partition("\n")[0].strip()
    except (OSError, ValueError):
        return ""


def _platform_data_dir() -> Path:
    from platformdirs import user_data_path  # 15 ms, and only machines without LM Studio need it

    return user_data_path("lmstrix", appauthor=False)
