"""Doctor on what is kept on disk: LMStrix's home, its registry and history, LM Studio's home, the models folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lmstrix.core.health import Check
from lmstrix.core.registry.checking import alias_findings
from lmstrix.core.registry.models_folder import walk_models_folder
from lmstrix.ground.units import counted, format_bytes
from lmstrix.ground.wording import call, parameter
from lmstrix.service.doctor.unusable import unusable

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.service.workspace import Workspace

_MOST_NAMED = 3


def home(workspace: Workspace) -> Check:
    folder, own = workspace.paths.home, workspace.paths.own
    for needed in (folder, own):
        # What is not there yet is made in the nearest folder that is.
        existing = next(each for each in (needed, *needed.parents) if each.exists())
        if not os.access(existing, os.W_OK):
            remedy = f"make {existing} writable, or set LMSTRIX_HOME to a folder that is"
            return Check(name="home", state="problem", found=f"{needed} cannot be written", remedy=remedy)
    return Check(name="home", state="ok", found=f"{folder}; settings, conversations and reports in {own}")


def registry(workspace: Workspace) -> Check:
    registry = workspace.store.load()
    tested = sum(1 for record in registry if record.tested_context_length)
    missing = sum(1 for record in registry if record.is_missing)
    if not len(registry):
        return Check(name="registry", state="note", found="no models yet", remedy="lmstrix scan")
    note = f", {missing} missing" if missing else ""
    found = f"{counted(len(registry), 'model')}, {tested} tested{note}"
    astray = [finding.detail for finding in alias_findings(registry) if not finding.is_note]
    if astray:
        more = f" (and {len(astray) - 1} more)" if len(astray) > 1 else ""
        remedy = f"{astray[0]}{more}; lmstrix models aliases shows all"
        found += f"; {len(astray)} of {len(registry.aliases)} aliases of models without effect"
        return Check(name="registry", state="note", found=found, remedy=remedy)
    return Check(name="registry", state="ok", found=found)


def backups(workspace: Workspace) -> Check:
    from lmstrix.service.registry_keeping import backups

    copies = backups(workspace)
    if not copies:
        return Check(name="backups", state="note", found="none yet; the next change of the registry makes one")
    newest = f"the newest of {copies[0].written_at.astimezone():%Y-%m-%d %H:%M}"
    damaged = sum(1 for copy in copies if copy.models is None)
    if damaged:
        found = f"{counted(len(copies), 'backup')} of the registry, {damaged} not readable, {newest}"
        return Check(name="backups", state="note", found=found, remedy="lmstrix registry backup makes a good one")
    return Check(name="backups", state="ok", found=f"{counted(len(copies), 'backup')} of the registry, {newest}")


def history(workspace: Workspace) -> Check:
    file = workspace.paths.history_file
    if not file.exists():  # opening would make it: an examination leaves nothing behind
        return Check(name="history", state="note", found="no lmstrix.db yet; the first test makes it")
    from lmstrix.core.history import History
    from lmstrix.core.history.database import damage

    damaged = damage(file)
    if damaged is not None:
        remedy = f"move {file} away to begin a new one; the next command that needs it does so itself"
        return Check(name="history", state="problem", found=f"{file} is damaged: {damaged}", remedy=remedy)
    with History(file, for_reading=True) as history:
        unfinished = len(history.journal.unfinished())
    if unfinished:
        found = f"{counted(unfinished, 'load')} ended without an outcome: the machine or LMStrix went down there"
        return Check(name="history", state="note", found=found, remedy="test the model again")
    return Check(name="history", state="ok", found=f"{file} ({format_bytes(file.stat().st_size)})")


def lmstudio(workspace: Workspace) -> Check:
    if workspace.paths.lmstudio_home is not None:
        return Check(name="lm studio", state="ok", found=f"home {workspace.paths.lmstudio_home}")
    if workspace.paths.home_is_named:
        found = "not looked for, since another home is named"
        return Check(name="lm studio", state="note", found=found)
    return Check(
        name="lm studio",
        state="note",
        found="not installed here",
        remedy="lmstrix engine start serves models without it",
    )


def models(workspace: Workspace) -> Check:
    directory = workspace.configured_models_dir
    if not directory.is_dir():
        remedy = f"download a model in LM Studio, or name a folder with {parameter('models_dir')} or LMSTRIX_MODELS_DIR"
        return Check(name="models", state="note", found=f"{directory} does not exist", remedy=remedy)
    gguf_files, mlx_models = _counts(directory)
    counts = [counted(gguf_files, "GGUF file")] if gguf_files or not mlx_models else []
    counts += [counted(mlx_models, "MLX model")] if mlx_models else []
    found = f"{directory} ({', '.join(counts)})"
    broken = [problem.path for problem in unusable(workspace)]
    if not broken:
        return Check(name="models", state="ok", found=found)
    named = ", ".join(broken[:_MOST_NAMED]) + (" …" if len(broken) > _MOST_NAMED else "")
    return Check(
        name="models",
        state="note",
        found=f"{found}; {len(broken)} cannot be used: {named}",
        remedy=f"{call('doctor', broken[0])} says why; {call('scan')} says it of all",
    )


def _counts(directory: Path) -> tuple[int, int]:
    """GGUF files, and folders that are an MLX model, as the scan tells them."""
    gguf_files = mlx_models = 0
    for folder in walk_models_folder(directory).folders:
        names = [file.path.rpartition("/")[2].lower() for file in folder.files]
        gguf = sum(name.endswith(".gguf") for name in names)
        gguf_files += gguf
        mlx_models += not gguf and "config.json" in names and any(name.endswith(".safetensors") for name in names)
    return gguf_files, mlx_models
