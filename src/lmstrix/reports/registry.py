"""The registry itself on the terminal: tags, copies, what was taken in and out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lmstrix.ground.units import counted, format_bytes
from lmstrix.reports.json_form import json_form
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lmstrix.core.registry.keeping import (
        AddedModels,
        RegistryBackup,
        RemovedModel,
        RestoredRegistry,
        TaggedModel,
    )
    from lmstrix.core.registry.merging import MergeReport
    from lmstrix.reports.console import Console

_TAGS = (
    Column(title="MODEL", shrink=True, keep=18),
    Column(title="TAGS", shrink=True, keep=8),
    Column(title="DERIVED", shrink=True, keep=12),
    Column(title="NOTE", shrink=True, keep=8, drop=1),
)
_BACKUPS = (
    Column(title="NAME", shrink=True, keep=18),
    Column(title="WRITTEN"),
    Column(title="SIZE", right=True),
    Column(title="MODELS", right=True),
    Column(title="TESTED", right=True),
)
_REMOVED = (
    Column(title="MODEL", shrink=True, keep=18),
    Column(title="MISSING SINCE"),
    Column(title="RESULTS", right=True),
)
_CONFLICTS = (
    Column(title="MODEL", shrink=True, keep=18),
    Column(title="OF", shrink=True, keep=8),
    Column(title="OURS", shrink=True, keep=8),
    Column(title="THEIRS", shrink=True, keep=8),
    Column(title="KEPT"),
)


def show_tagged(console: Console, models: Sequence[TaggedModel]) -> None:
    """Models with their own and derived tags."""
    if console.json:
        console.result("registry-tags", {"models": [json_form(model) for model in models]})
        return
    rows = [
        (model.model_key, ", ".join(model.tags) or "-", ", ".join(model.derived) or "-", model.note or "-")
        for model in models
    ]
    if not rows:
        console.note("no models yet: lmstrix scan finds them; lmstrix demo needs none")
        return
    console.table(_TAGS, rows)


def show_backups(console: Console, copies: Sequence[RegistryBackup]) -> None:
    """The copies that can be put back."""
    if console.json:
        console.result("registry-backups", {"backups": [_backup_json(copy) for copy in copies]})
        return
    if not copies:
        console.note("there is no backup yet: the next change of the registry makes one, and so does registry backup")
        return
    rows = [
        (
            copy.name,
            copy.written_at.astimezone().isoformat(" ", "seconds")[:19],
            format_bytes(copy.size_bytes),
            "not readable" if copy.models is None else f"{copy.models:,}",
            "-" if copy.tested is None else f"{copy.tested:,}",
        )
        for copy in copies
    ]
    console.table(_BACKUPS, rows)


def show_backup(console: Console, copy: RegistryBackup) -> None:
    """A copy that was made."""
    if console.json:
        console.result("registry-backup", _backup_json(copy))
        return
    sys.stdout.write(clean(f"{copy.file}: {_held(copy)}") + "\n")


def show_restored(console: Console, restored: RestoredRegistry) -> None:
    """A copy that was put back, and how to undo that."""
    copy, replaced = restored.backup, restored.replaced
    if console.json:
        name = replaced.name if replaced is not None else None
        console.result("registry-restore", {**_backup_json(copy), "replaced": name})
        return
    sys.stdout.write(clean(f"restored {copy.name}: {_held(copy)}") + "\n")
    if replaced is not None:
        console.note(f"what was there before is kept; lmstrix registry restore {replaced.name} --yes puts it back")


def _held(copy: RegistryBackup) -> str:
    return f"{counted(copy.models or 0, 'model')}, {copy.tested or 0:,} tested"


def _backup_json(copy: RegistryBackup) -> dict[str, object]:
    return {**json_form(copy), "file": str(copy.file)}


def show_removed(console: Console, models: Sequence[RemovedModel], *, command: str, written: bool = True) -> None:
    """The models that were taken out, or would be."""
    if console.json:
        value = {"models": [json_form(model) for model in models], "written": written and bool(models)}
        console.result(f"registry-{command}", value)
        return
    if not models:
        console.note("nothing to take out")
        return
    rows = [
        (
            model.model_key,
            model.missing_since.date().isoformat() if model.missing_since else "-",
            f"{model.results:,}",
        )
        for model in models
    ]
    console.table(_REMOVED, rows)
    count = counted(len(models), "model")
    console.note(f"took out {count}" if written else f"nothing is changed yet: add --yes to take out {count}")


def show_added(console: Console, added: AddedModels) -> None:
    """Models taken in from outside the models folder."""
    if console.json:
        console.result("registry-add", {**json_form(added), "models_dir": str(added.models_dir)})
        return
    for problem in added.problems:
        console.note(problem)
    for word, paths in (("new", added.added), ("known", added.known)):
        for path in paths:
            sys.stdout.write(clean(f"{word}: {path}") + "\n")
    console.note(f"in {added.models_dir}; an engine serves them with --models-dir {added.models_dir}")


def show_exported(console: Console, file: Path, paths: Sequence[str]) -> None:
    """What was written into a file."""
    if console.json:
        console.result("registry-export", {"file": str(file), "models": paths})
        return
    sys.stdout.write(clean(f"{file}: {counted(len(paths), 'model')}") + "\n")


def show_merged(console: Console, report: MergeReport, *, command: str, written: bool) -> None:
    """What was taken over from another registry, and where the two differ."""
    if console.json:
        conflicts = [json_form(conflict) for conflict in report.conflicts]
        console.result(f"registry-{command}", {**json_form(report), "conflicts": conflicts, "written": written})
        return
    rows = [(each.model_path, each.what, each.ours, each.theirs, each.kept) for each in report.conflicts]
    if rows:
        console.table(_CONFLICTS, rows)
    counts = (
        f"{len(report.added):,} new, {counted(report.results, 'result')} taken over, {report.unchanged:,} unchanged"
    )
    counts += f", {len(report.aliases):,} of the aliases" if report.aliases else ""
    state = "" if written else " (nothing is written)"
    sys.stdout.write(f"{counts}, {counted(len(report.conflicts), 'conflict')}{state}\n")
    if report.unplaced:
        console.note(
            f"results that name no machine (LMStrix 1 wrote none): {report.unplaced:,}; they count as measured on this "
            "one (lmstrix reset MODEL forgets them)"
        )
