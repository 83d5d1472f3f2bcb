"""Scan: the disk's models and the server's listing, joined and merged into the registry in one write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from lmstrix.core.registry.listing import ScanReport
from lmstrix.core.registry.scanner import DiskScan, ScanProblem, merge_listing, scan_models_dir
from lmstrix.ground.errors import BackendUnavailableError, LMStrixError
from lmstrix.ground.wording import parameter
from lmstrix.loaders.gguf import read_header
from lmstrix.loaders.mlx import read_model
from lmstrix.service.hung_engine import hung_engine
from lmstrix.service.model_folders import present_elsewhere

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lmstrix.core.registry.records import ModelFacts
    from lmstrix.core.registry.registry import ModelRegistry, ScanChanges
    from lmstrix.ground.types import ModelInfo
    from lmstrix.service.workspace import Workspace

Forget = Literal["all", "failed"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _ServerListing:
    """What a running server lists, its name, and the folder it serves where it tells."""

    models: list[ModelInfo]
    name: str
    models_dir: Path | None


async def scan(
    workspace: Workspace,
    *,
    models_dir: Path | None = None,
    refresh: bool = False,
    write: bool = True,
    forget: Forget = None,
) -> ScanReport:
    """Find models and merge them. A server that cannot be reached costs only its listing, never a result."""
    import asyncio

    async with workspace.deadline().step("asking the server for its models"):
        listing = await _listing(workspace)
    return await asyncio.to_thread(
        _merge, workspace, listing, models_dir=models_dir, refresh=refresh, write=write, forget=forget
    )


async def _listing(workspace: Workspace) -> _ServerListing | None:
    """The listing of a running server, None where none runs.

    On a connection of its own: the one in use may be an engine of ours, which serves what is on the disk anyway.
    """
    from lmstrix.service.connection import connect_running

    settings = workspace.settings
    try:
        connection = await connect_running(workspace.paths, settings)
    except BackendUnavailableError:
        if settings.server not in ("auto", "embedded"):
            raise  # asked for by name or address: the disk alone would be another answer
        why = hung_engine(workspace.paths, settings.server) or "no server is running"
        workspace.notify(f"{why}; reading the models directory alone")
        return None
    try:
        models = await connection.backend.list_downloaded()
        return _ServerListing(models=models, name=connection.name, models_dir=connection.models_dir)
    finally:
        await connection.close()


def _merge(
    workspace: Workspace,
    listing: _ServerListing | None,
    *,
    models_dir: Path | None,
    refresh: bool,
    write: bool,
    forget: Forget,
) -> ScanReport:
    if models_dir is not None and not models_dir.is_dir():
        raise LMStrixError(
            f"{models_dir} is not a directory; {parameter('models_dir')} names the folder that holds publisher/repo/"
        )
    store = workspace.store
    registry = store.load()
    directory = models_dir or (listing.models_dir if listing else None) or workspace.configured_models_dir
    disk = DiskScan(models=(), problems=(), headers_read=0)
    sources = [listing.name] if listing else []
    if directory.is_dir():
        # With the facts known so far, only files that are new or changed have their headers read.
        known: dict[str, ModelFacts] = {} if refresh else registry.known_facts()
        disk = scan_models_dir(directory, known=known, read_header=read_header, read_folder=read_model)
        sources.append(str(directory))
    elif listing is None:
        raise BackendUnavailableError(
            f"there is no server and no models directory {directory}: start LM Studio, "
            f"or name the directory with {parameter('models_dir')}; the command lmstrix demo needs neither"
        )
    home_folder = workspace.paths.models_dir
    disk, taken = in_folder(disk, directory, registry, home_folder)
    listed = [info for info in listing.models if info.path not in taken] if listing else []
    found = merge_listing(disk.models, listed) if listing else list(disk.models)
    looked_in = directory if directory.is_dir() else None
    # A file that is there but cannot be read now is not gone: its results stay.
    unreadable = [problem.path for problem in disk.problems if problem.kind != "not a model"]

    # On the registry as it is when it is locked: another process may have written since it was loaded above.
    def change(current: ModelRegistry) -> tuple[ScanChanges, list[str], tuple[str, ...]]:
        elsewhere = present_elsewhere(current, home_folder, looked_in)
        changes = current.merge_scan(found, unreadable=unreadable, elsewhere=elsewhere)
        to_forget = _to_forget(current, forget)
        return changes, to_forget, tuple(path for path in to_forget if current.reset(path))

    before = _content(store.path)
    changes, to_forget, forgotten = store.update(change) if write else change(registry)
    if write:
        _tell_history(workspace, changes, to_forget)
    return ScanReport(
        changes=changes,
        problems=disk.problems,
        models=len(found),
        forgotten=forgotten,
        sources=tuple(sources),
        written=write and _content(store.path) != before,
    )


def in_folder(
    disk: DiskScan, directory: Path, registry: ModelRegistry, home_folder: Path
) -> tuple[DiskScan, frozenset[str]]:
    """The scan with the folder noted where it is not the home's own; and the paths that name a model elsewhere.

    Such a model keeps its record: the one found here is a problem, unless it is a copy.
    """
    at_home = directory.resolve() == home_folder.resolve()
    folder = None if at_home else str(directory.absolute())
    elsewhere = present_elsewhere(registry, home_folder, directory)
    models = tuple(replace(facts, models_dir=folder) for facts in disk.models if facts.path not in elsewhere)
    problems = [
        ScanProblem(
            path=facts.path,
            kind="path taken",
            detail=f"another model of this path lies in {known.models_dir or home_folder}: rename one of them",
        )
        for facts in disk.models
        if facts.path in elsewhere
        and (known := registry.get(facts.path)) is not None
        and known.content_hash != facts.content_hash
    ]
    problems = sorted([*disk.problems, *problems], key=lambda problem: problem.path)
    taken = frozenset(facts.path for facts in disk.models if facts.path in elsewhere)
    return replace(disk, models=models, problems=tuple(problems)), taken


def _tell_history(workspace: Workspace, changes: ScanChanges, to_forget: Sequence[str]) -> None:
    """Let the journal follow models that moved, and forget the tests that are to be forgotten."""
    history = workspace.history() if changes.moved or to_forget else None
    if history is None:
        return
    with history:
        for move in changes.moved:
            history.move_model(move.old_path, move.new_path)
        for path in to_forget:
            history.journal.forget_tests(path)


def _to_forget(registry: ModelRegistry, forget: Forget) -> list[str]:
    """The models whose tests are to be forgotten: the journal may hold a size against one without a result."""
    if forget is None:
        return []
    return [record.path for record in registry if forget == "all" or record.test_status == "failed"]


def _content(path: Path) -> tuple[int, int] | None:
    """What changes whenever the file is replaced."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_ino
