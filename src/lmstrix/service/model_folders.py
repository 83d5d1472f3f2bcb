"""Where models lie: each in the models directory that its record names, else in the one in use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.service.connection import Connection
    from lmstrix.service.workspace import Workspace


def model_file(workspace: Workspace, record: ModelRecord) -> Path:
    """The model's first file, as far as it is on this machine."""
    if record.models_dir is not None:
        return Path(record.models_dir) / record.file
    in_use = workspace.models_dir / record.file
    at_home = workspace.paths.models_dir / record.file
    # An engine may serve another folder than the one this model was found in.
    return at_home if not in_use.exists() and at_home.exists() else in_use


def folder_to_serve(workspace: Workspace, records: Iterable[ModelRecord]) -> Path | None:
    """The models directory that an engine for these models has to serve; None where the settings decide."""
    folders = {record.models_dir for record in records}
    folder = folders.pop() if len(folders) == 1 else None
    if folder is None or _served_by(workspace.configured_models_dir, Path(folder)):
        return None
    return Path(folder)


def foreign_format(connection: Connection, record: ModelRecord) -> str | None:
    """What a model is that the server in use has no runtime for, None where it has one."""
    if not record.is_mlx or connection.server.engine != "embedded":
        return None
    return (
        "MLX model and the embedded engine loads GGUF files only: load it in LM Studio on a Mac, or download it as GGUF"
    )


def why_not_served(workspace: Workspace, connection: Connection, record: ModelRecord) -> str | None:
    """Why the engine in use cannot load a model, in one line: its format, or a file outside the folder it serves."""
    if record.is_mlx and connection.server.engine == "embedded":
        return (
            f"{record.model_key} is an MLX model, and {connection.name} loads GGUF files only: LM Studio on a Mac can"
        )
    served = connection.models_dir
    if served is None:
        return None
    file = model_file(workspace, record)
    if _served_by(served, file) or not file.exists():
        return None
    folder = record.models_dir or workspace.paths.models_dir
    option = parameter("models_dir", str(folder))
    return f"{record.model_key} lies in {folder}, and {connection.name} serves {served}; start one for it with {option}"


def check_served(workspace: Workspace, connection: Connection, record: ModelRecord) -> None:
    """Raise LMStrixError where the engine in use cannot load a model."""
    if (format_reason := foreign_format(connection, record)) is not None:
        raise LMStrixError(f"{record.model_key} is an {format_reason}")
    reason = why_not_served(workspace, connection, record)
    if reason is not None:
        raise LMStrixError(reason)


def present_elsewhere(registry: ModelRegistry, home_folder: Path, looked_in: Path | None) -> frozenset[str]:
    """The paths of the models that lie in other folders than the one a scan looked into, and are there."""
    seen = looked_in.resolve() if looked_in is not None else None
    lies = {folder: Path(folder or home_folder) for folder in {record.models_dir for record in registry}}
    other = {folder: place for folder, place in lies.items() if place.resolve() != seen}
    return frozenset(
        record.path
        for record in registry
        if record.models_dir in other and (other[record.models_dir] / record.file).exists()
    )


def _served_by(served: Path, file: Path) -> bool:
    return file.resolve().is_relative_to(served.resolve())
