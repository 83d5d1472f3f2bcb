"""LM Studio's own per-model defaults: the files that decide what a load without options gets.

One JSON file per model, `<home>/.internal/user-concrete-model-default-config/<model path>.json`, holding `load.fields`,
a list of {key, value}. A change replaces the fields it names and keeps everything else; the old file is copied aside
first, the new one put in place in one step. Nothing outside the folder is ever written, whatever a model's path says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.files import write_whole
from lmstrix.ground.held_files import read_whole, remove_file

if TYPE_CHECKING:
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import ContextResult
    from lmstrix.ground.types import RuntimeVersion

FOLDER = Path(".internal") / "user-concrete-model-default-config"
BACKUP_SUFFIX = ".lmstrix-backup"
CONTEXT_LENGTH = "llm.load.contextLength"
FLASH_ATTENTION = "llm.load.llama.flashAttention"
AUTO_FIT = "llm.load.llama.autoFit"
MLX_AUTO_FIT = "llm.load.mlx.autoFit"
PARALLEL_SLOTS = "llm.load.numParallelSessions"

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultsChange:
    """What writing would do to one file. `before` and `after` hold only the fields concerned; None is absent."""

    model_path: str
    file: Path
    before: Fields
    after: Fields
    text: str

    @property
    def differs(self) -> bool:
        return dict(self.before) != dict(self.after)


class ModelDefaults:
    """The defaults below one LM Studio home."""

    def __init__(self, lmstudio_home: Path) -> None:
        self.folder = lmstudio_home / FOLDER

    def file_for(self, model_path: str) -> Path:
        """The file of a model. Raises LMStrixError when the path would lead outside the folder."""
        # Windows reads backslashes and drive letters as folders; a path must mean the same on every system.
        relative = PurePosixPath(model_path)
        unsafe = relative.is_absolute() or ".." in relative.parts or "\\" in model_path or ":" in model_path
        if unsafe or not relative.parts:
            raise LMStrixError(f"{model_path!r} is no path below the models folder; its defaults are not written")
        # A link inside the folder may lead out of it although the path itself looks harmless.
        file = self.folder / f"{model_path}.json"
        if not file.resolve().is_relative_to(self.folder.resolve()):
            raise LMStrixError(f"{file} leads outside {self.folder} through a link; its defaults are not written")
        return file

    def plan(self, model_path: str, fields: Fields) -> DefaultsChange:
        """What setting `fields` would change. Raises LMStrixError when the file there cannot be understood."""
        file = self.file_for(model_path)
        document = self._read(file)
        load = document.setdefault("load", {})
        listed = load.get("fields") if isinstance(load, dict) else None
        if not isinstance(load, dict) or not isinstance(listed, list | None):
            raise LMStrixError(f"{file}: load.fields is not a list; mend or remove the file, it is left as it is")
        kept = list(listed or [])
        old = {
            item["key"]: item.get("value")
            for item in kept
            if isinstance(item, dict) and isinstance(item.get("key"), str)
        }
        # Taken out and added at the end: changed in place, a key that stands twice would keep one of its old values.
        for key, value in fields.items():
            kept = [item for item in kept if not (isinstance(item, dict) and item.get("key") == key)]
            kept.append({"key": key, "value": value})
        load["fields"] = kept
        return DefaultsChange(
            model_path=model_path,
            file=file,
            before={key: old.get(key) for key in fields},
            after=dict(fields),
            text=json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        )

    def write(self, change: DefaultsChange) -> None:
        """Put a planned change in place; the first original is kept beside it for `restore`."""
        change.file.parent.mkdir(parents=True, exist_ok=True)
        backup = _backup_of(change.file)
        # Only the first time: later the file holds our own values, and going back to those would restore nothing.
        if not backup.exists():
            # An empty backup says that there was no file.
            original = read_whole(change.file) if change.file.exists() else b""
            write_whole(backup, original)
        write_whole(change.file, change.text)

    def has_backup(self, model_path: str) -> bool:
        """Whether there is an original to go back to."""
        return _backup_of(self.file_for(model_path)).exists()

    def restore(self, model_path: str) -> bool:
        """Put the original back, or remove the file where there was none; whether there was anything to restore."""
        file = self.file_for(model_path)
        if not self.has_backup(model_path):
            return False
        backup = _backup_of(file)
        original = read_whole(backup)
        if original:
            write_whole(file, original)
        else:
            remove_file(file)
        remove_file(backup)
        return True

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            found = json.loads(read_whole(file))
        except FileNotFoundError:
            # What LM Studio itself writes for a model that has no settings.
            return {"preset": "", "operation": {"fields": []}, "load": {"fields": []}}
        except (OSError, ValueError, RecursionError) as exc:
            raise LMStrixError(f"{file} cannot be read ({exc}); mend or remove it, it is left as it is") from exc
        if not isinstance(found, dict):
            raise LMStrixError(f"{file} holds no object; mend or remove it, it is left as it is")
        return found


def _backup_of(file: Path) -> Path:
    return file.with_name(file.name + BACKUP_SUFFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedAsSaved:
    """One load without options after a context was saved: what it got, or the `problem`. `runtime` is that of MLX."""

    saved_context_length: int
    context_length: int | None = None
    runtime: RuntimeVersion | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedDefaults:
    """One model of `save`: what was (or with a dry run would be) changed in its file of defaults, or the `problem`.

    `result` is what was measured, None where an original is put back. `loaded` is what LM Studio then made of it, None
    where it was not asked.
    """

    record: ModelRecord
    change: DefaultsChange | None
    result: ContextResult | None = None
    written: bool = False
    problem: str | None = None
    loaded: LoadedAsSaved | None = None
