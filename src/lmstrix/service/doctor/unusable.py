"""Files and folders in the models folder that are no usable model, and why: the registry knows only those that are."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lmstrix.core.registry.scanner import ScanProblem, scan_models_dir
from lmstrix.loaders.gguf import read_header
from lmstrix.loaders.mlx import read_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.service.workspace import Workspace


def unusable(workspace: Workspace) -> tuple[ScanProblem, ...]:
    """What a scan of the models folder would list. Of models that are known only what has changed is read."""
    directory = workspace.configured_models_dir
    if not directory.is_dir():
        return ()
    known = workspace.registry().known_facts()
    return scan_models_dir(directory, known=known, read_header=read_header, read_folder=read_model).problems


def unusable_named(workspace: Workspace, name: str) -> ScanProblem | None:
    """The one that a user means by this name: its path, or its name with or without ending."""
    meant = {name.strip().casefold()}
    directory = workspace.configured_models_dir.absolute()
    # As the shell completes it: a path from where the user is.
    file = Path(name).expanduser().absolute()
    if file.is_relative_to(directory):
        meant.add(file.relative_to(directory).as_posix().casefold())
    found = [problem for problem in unusable(workspace) if meant.intersection(_names(problem.path))]
    return min(found, key=lambda problem: problem.path, default=None)


def _names(path: str) -> Iterator[str]:
    whole = PurePosixPath(path.casefold())
    yield from (whole.as_posix(), whole.name, whole.stem)
