"""What is done to the registry itself: tags and notes, models taken out, copies made, put back and merged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.registry.keeping import RegistryBackup, RemovedModel, RestoredRegistry, TaggedModel
from lmstrix.core.registry.merging import MergeReport, merge_registries
from lmstrix.core.registry.model_aliases import readable
from lmstrix.core.registry.registry import ModelRegistry
from lmstrix.core.registry.store import read_registry, registry_bytes, write_registry
from lmstrix.core.registry.tags import check_tag, derived_tags
from lmstrix.ground.errors import RegistryError, UsageError
from lmstrix.ground.paths import REGISTRY_FILE
from lmstrix.ground.wording import call
from lmstrix.service.model_folders import model_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.service.workspace import Workspace


def tagged_models(workspace: Workspace, model: str | None = None) -> list[TaggedModel]:
    """The tags of one model, or of all."""
    registry = workspace.registry()
    records = registry.find_all(model) if model is not None else list(registry)
    return [_tagged(record) for record in records]


def tag(workspace: Workspace, model: str, tags: Sequence[str]) -> TaggedModel:
    """Give a model tags, beside those it has."""
    new = [check_tag(word) for word in tags]
    path = workspace.find(model).path

    def change(registry: ModelRegistry) -> TaggedModel:
        record = _there(registry, path)
        registry.set_tags(path, list(dict.fromkeys((*record.tags, *new))))
        return _tagged(record)

    return workspace.store.update(change)


def untag(workspace: Workspace, model: str, tags: Sequence[str]) -> TaggedModel:
    """Take tags from a model, or all of its own where none is named."""
    record = workspace.find(model)
    gone = [check_tag(word) for word in tags] or list(record.tags)
    unknown = [word for word in gone if word not in record.tags]
    if unknown:
        own = ", ".join(record.tags) or "none"
        derived = " (it follows from what the model is)" if unknown[0] in derived_tags(record) else ""
        raise UsageError(f"{record.model_key} has no tag {unknown[0]!r} of its own{derived}; it has {own}")

    def change(registry: ModelRegistry) -> TaggedModel:
        current = _there(registry, record.path)
        registry.set_tags(record.path, [word for word in current.tags if word not in gone])
        return _tagged(current)

    return workspace.store.update(change)


def note(workspace: Workspace, model: str, text: str) -> TaggedModel:
    """Note something of a model; an empty text takes the note away."""
    path = workspace.find(model).path

    def change(registry: ModelRegistry) -> TaggedModel:
        registry.set_note(path, text.strip())
        return _tagged(_there(registry, path))

    return workspace.store.update(change)


def remove(workspace: Workspace, model: str) -> RemovedModel:
    """Take a model out of the registry with all its results. Its files stay."""
    record = workspace.find(model)
    removed = _removed(record)
    workspace.store.update(lambda registry: registry.remove(record.path))
    _forget_tests(workspace, [record.path])
    return removed


def prune(workspace: Workspace, *, older_than_s: float = 0.0, dry_run: bool = False) -> list[RemovedModel]:
    """Take out the models that have been missing for so long; returns them."""
    latest = datetime.now(UTC) - timedelta(seconds=older_than_s)

    def change(registry: ModelRegistry) -> list[RemovedModel]:
        gone = [record for record in registry if _missing_before(record, latest)]
        removed = [_removed(record) for record in gone]
        for record in gone:
            registry.remove(record.path)
        return removed

    if dry_run:
        return change(workspace.registry())
    removed = workspace.store.update(change)
    _forget_tests(workspace, [model.path for model in removed])
    return removed


def export(workspace: Workspace, file: Path, wanted: str | None = None) -> list[str]:
    """Write the registry, or the models that `wanted` filters, into a file; returns their paths."""
    from lmstrix.core.registry.filters import matches, parse_filter

    registry = workspace.registry()
    conditions = parse_filter(wanted or "", registry.aliases)
    chosen = {record.path: record.raw for record in registry if matches(record, conditions)}
    if not chosen:
        raise UsageError(f"none of {len(registry)} models is to be written; {file} is left as it is")
    aliases = {alias: path for alias, path in readable(registry.aliases).items() if path in chosen}
    write_registry(file, registry_bytes(ModelRegistry(chosen, aliases=aliases)))
    return list(chosen)


def merge(workspace: Workspace, other: Path, *, dry_run: bool = False) -> MergeReport:
    """Take in what another registry knows more or newer: its file, or the home it lies in."""
    theirs = read_registry(other / REGISTRY_FILE if other.is_dir() else other)

    def change(ours: ModelRegistry) -> MergeReport:
        return merge_registries(ours, theirs, is_here=lambda record: model_file(workspace, record).exists())

    return change(workspace.store.load()) if dry_run else workspace.store.update(change)


def backups(workspace: Workspace) -> list[RegistryBackup]:
    """The copies there are, newest first: those kept with every change, and those made by `backup`."""
    made = sorted(_folder(workspace).glob("*.json"))
    return _newest_first((*workspace.store.backups(), *made))


def restorable(workspace: Workspace) -> list[RegistryBackup]:
    """The copies that can be put back, newest first: the backups, and what they were put in the place of."""
    made = sorted(_folder(workspace).glob("*.json"))
    return _newest_first((*workspace.store.backups(), *workspace.store.replaced(), *made))


def backup(workspace: Workspace, file: Path | None = None) -> RegistryBackup:
    """Copy the registry into a file, by default one named by the time."""
    if file is None:
        file = _folder(workspace) / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    workspace.store.copy_to(file)
    return _described(file)


def restore(workspace: Workspace, name: str) -> RestoredRegistry:
    """Put a copy in the place of the registry, which is copied aside first."""
    copies = restorable(workspace)
    chosen = next((copy for copy in copies if name in (copy.name, str(copy.file))), None)
    if chosen is None and Path(name).is_file():
        chosen = _described(Path(name).absolute())
    if chosen is None:
        names = ", ".join(copy.name for copy in copies) or "there is none"
        raise UsageError(f"no backup {name!r}; there are: {names}")
    # Read before: restoring shifts nothing, but what was restored is told as it was when it was chosen.
    replaced = workspace.store.restore(chosen.file).replaced
    return RestoredRegistry(backup=chosen, replaced=_described(replaced) if replaced is not None else None)


def _folder(workspace: Workspace) -> Path:
    return workspace.paths.own / "backups"


def _newest_first(files: Sequence[Path]) -> list[RegistryBackup]:
    return sorted(map(_described, files), key=lambda copy: copy.written_at, reverse=True)


def _described(file: Path) -> RegistryBackup:
    stat = file.stat()
    try:
        registry = read_registry(file)
    except RegistryError:
        models = tested = None
    else:
        models, tested = len(registry), sum(1 for record in registry if record.tested_context_length)
    return RegistryBackup(
        name=file.name.rpartition("lmstrix.json.")[2],
        file=file,
        written_at=datetime.fromtimestamp(stat.st_mtime, UTC),
        size_bytes=stat.st_size,
        models=models,
        tested=tested,
    )


def _tagged(record: ModelRecord) -> TaggedModel:
    return TaggedModel(
        model_key=record.model_key,
        path=record.path,
        tags=record.tags,
        derived=derived_tags(record),
        note=record.note,
    )


def _removed(record: ModelRecord) -> RemovedModel:
    return RemovedModel(
        model_key=record.model_key,
        path=record.path,
        missing_since=record.missing_since,
        results=len(record.results),
    )


def _there(registry: ModelRegistry, path: str) -> ModelRecord:
    record = registry.get(path)
    if record is None:
        raise RegistryError(f"{path} was taken out of the registry meanwhile; run {call('scan')}")
    return record


def _missing_before(record: ModelRecord, latest: datetime) -> bool:
    since = record.missing_since
    # A date that cannot be read says nothing of how long.
    return record.is_missing and since is not None and since <= latest


def _forget_tests(workspace: Workspace, paths: Sequence[str]) -> None:
    history = workspace.history() if paths else None
    if history is not None:
        with history:
            for path in paths:
                history.journal.forget_tests(path)
