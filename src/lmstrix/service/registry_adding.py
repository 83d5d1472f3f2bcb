"""Models outside the models folder: one file, one model's folder, or a whole folder of models, taken in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.registry.keeping import AddedModels
from lmstrix.core.registry.scanner import scan_models_dir
from lmstrix.ground.errors import UsageError
from lmstrix.ground.model_names import parse_shard
from lmstrix.ground.wording import call
from lmstrix.loaders.gguf import read_header
from lmstrix.loaders.mlx import read_model
from lmstrix.service.scanning import in_folder

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.registry.records import ModelFacts
    from lmstrix.core.registry.registry import ModelRegistry, ScanChanges
    from lmstrix.service.workspace import Workspace


def add(workspace: Workspace, place: Path) -> AddedModels:
    """Take in the model in a file or folder, or all models below a folder; they stay where they are."""
    place = place.expanduser().absolute()
    if not place.exists():
        raise UsageError(f"{place} does not exist; name a model's file or folder, or a folder of models")
    for known in (workspace.configured_models_dir, workspace.paths.models_dir):
        if place.resolve().is_relative_to(known.resolve()):
            raise UsageError(f"{place} lies in the models folder {known}: {call('scan')} finds it")
    is_model = place.is_file() or (place / "config.json").is_file()
    models_dir = place.parent if is_model else place
    registry = workspace.store.load()
    scanned = scan_models_dir(models_dir, known={}, read_header=read_header, read_folder=read_model)
    disk, _ = in_folder(scanned, models_dir, registry, workspace.paths.models_dir)
    found = [facts for facts in disk.models if not is_model or _is_of(facts, place)]
    problems = [problem for problem in disk.problems if not is_model or problem.path == place.name]
    if not found:
        reason = f": {problems[0].detail}" if problems else ", or it is known already"
        raise UsageError(f"{place} holds no model to add{reason}")

    def change(current: ModelRegistry) -> ScanChanges:
        # Only these were looked for, so nothing is said of all others.
        present = [record.path for record in current if not record.is_missing]
        return current.merge_scan(found, elsewhere=present)

    changes = workspace.store.update(change)
    paths = [facts.path for facts in found]
    new = {*changes.added, *(move.new_path for move in changes.moved)}
    return AddedModels(
        models_dir=models_dir,
        added=tuple(path for path in paths if path in new),
        known=tuple(path for path in paths if path not in new),
        problems=tuple(f"{problem.path}: {problem.detail}" for problem in problems),
    )


def _is_of(facts: ModelFacts, place: Path) -> bool:
    if facts.path == place.name:
        return True
    # Any part of a split model names the whole.
    shard, first = parse_shard(place.name), parse_shard(facts.path)
    return shard is not None and first is not None and (shard.base, shard.total) == (first.base, first.total)
