"""Scan: the disk's models and the server's listing, joined and merged into the registry in one write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmstrix.core.history import History
from lmstrix.core.registry.listing import ScanReport
from lmstrix.core.registry.scanner import DiskScan, merge_listing, scan_models_dir
from lmstrix.ground.errors import BackendUnavailableError, LMStrixError
from lmstrix.loaders.gguf import read_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.registry.records import ModelFacts
    from lmstrix.core.registry.registry import ModelRegistry, ScanChanges
    from lmstrix.core.registry.store import RegistryStore
    from lmstrix.ground.paths import Paths
    from lmstrix.ground.settings import Settings
    from lmstrix.ground.types import ModelInfo

Forget = Literal["all", "failed"] | None


def scan(
    paths: Paths,
    settings: Settings,
    *,
    store: RegistryStore,
    models_dir: Path | None,
    refresh: bool,
    write: bool,
    forget: Forget,
    notify: Callable[[str], None],
) -> ScanReport:
    """Find models and merge them. A server that cannot be reached costs only its listing, never a result."""
    registry = store.load()
    listing, server_name, server_dir = _listing(paths, settings, notify)
    directory = models_dir or server_dir or (Path(settings.models_dir) if settings.models_dir else paths.models_dir)
    if models_dir is not None and not models_dir.is_dir():
        raise LMStrixError(f"{models_dir} is not a directory; --models-dir names the folder that holds publisher/repo/")
    disk = DiskScan(models=(), problems=(), headers_read=0)
    sources = [server_name] if server_name else []
    if directory.is_dir():
        known: dict[str, ModelFacts] = {} if refresh else registry.known_facts()
        disk = scan_models_dir(directory, known=known, read_header=read_header)
        sources.append(str(directory))
    elif listing is None:
        raise BackendUnavailableError(
            f"there is no server and no models directory {directory}: start LM Studio, "
            "or name the directory with --models-dir"
        )
    found = list(disk.models) if listing is None else merge_listing(disk.models, listing)
    unreadable = [problem.path for problem in disk.problems if problem.kind != "not a model"]

    def change(current: ModelRegistry) -> tuple[ScanChanges, tuple[str, ...]]:
        changes = current.merge_scan(found, unreadable=unreadable)
        return changes, _forget(current, forget)

    before = _content(store.path)
    changes, forgotten = store.update(change) if write else change(registry)
    if write and changes.moved and paths.history_file.exists():
        with History(paths.history_file) as history:
            for move in changes.moved:
                history.move_model(move.old_path, move.new_path)
    return ScanReport(
        changes=changes,
        problems=disk.problems,
        models=len(found),
        forgotten=forgotten,
        sources=tuple(sources),
        written=write and _content(store.path) != before,
    )


def _listing(
    paths: Paths, settings: Settings, notify: Callable[[str], None]
) -> tuple[list[ModelInfo] | None, str | None, Path | None]:
    """What a running server lists, its name, and the folder it serves where it tells."""
    from lmstrix.service.connection import connect_running

    try:
        connection = connect_running(paths, settings)
    except BackendUnavailableError:
        if settings.server != "auto" and settings.server != "embedded":
            raise
        notify("no server is running; reading the models directory alone")
        return None, None, None
    try:
        return connection.backend.list_downloaded(), connection.name, connection.models_dir
    finally:
        connection.close()


def _forget(registry: ModelRegistry, forget: Forget) -> tuple[str, ...]:
    if forget is None:
        return ()
    paths = [r.path for r in registry if forget == "all" or r.test_status == "failed"]
    return tuple(path for path in paths if registry.reset(path))


def _content(path: Path) -> tuple[int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_ino
