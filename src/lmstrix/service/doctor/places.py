"""Doctor on where LMStrix's home and the models lie: what kind of drive or folder makes for slow or uncertain work.

A place that is as it should be has no line. What is said is what the place means for LMStrix, and where else to go.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.health import Check
from lmstrix.core.registry.models_folder import walk_models_folder
from lmstrix.ground.drives import drive_of
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lmstrix.ground.drives import Drive
    from lmstrix.service.workspace import Workspace

_FAT = ("fat", "fat32", "msdos", "vfat")
_WITHOUT_PERMISSIONS = (*_FAT, "exfat")
_ONEDRIVE = ("OneDrive", "OneDriveConsumer", "OneDriveCommercial")
"""Variables by which OneDrive names its folders."""
_MAC_CLOUDS = {"Library/Mobile Documents": "iCloud's", "Library/CloudStorage": "a cloud service's"}
_LONG_PATHS = (
    "choose a shorter folder, or set LongPathsEnabled "
    "(https://learn.microsoft.com/windows/win32/fileio/maximum-file-path-limitation)"
)
MOST_PATH_CHARACTERS = 240
"""Of Windows' 260 the rest is for the names of the files that are written beside a file while it is replaced."""


class _Words(NamedTuple):
    """What the kinds of place mean for one folder, and how to choose another."""

    network: str
    removable: str
    cloud: str
    elsewhere: str


_HOME = _Words(
    network="the history is written more slowly there, and locks are as good as that server's",
    removable="results and conversations go with it",
    cloud="its service copies and moves files while they are written, which can damage the registry and the history",
    elsewhere="set LMSTRIX_HOME to a folder on a drive of this machine",
)


def _models_words() -> _Words:
    return _Words(
        network="each load reads the model over the network, and load times are the network's",
        removable="without it, its models are missing",
        cloud="its service may take files off this drive until they are read, so that a load waits for a download",
        elsewhere=f"move the models to a drive of this machine, and name it with {parameter('models_dir')}",
    )


def places(workspace: Workspace) -> list[Check]:
    """What is remarkable about where the home and the models are."""
    models_dir = workspace.configured_models_dir
    return [
        *_remarks("home", workspace.paths.home, _HOME),
        *(_remarks("models", models_dir, _models_words()) if models_dir.is_dir() else ()),
    ]


def _remarks(name: str, folder: Path, words: _Words) -> Iterator[Check]:
    drive = drive_of(folder)
    cloud = cloud_of(folder, os.environ, Path(os.path.expanduser("~")))  # noqa: PTH111 - never fails
    if cloud is not None:
        yield _note(name, f"{folder} is in {cloud} folders: {words.cloud}", words.elsewhere)
    if drive.kind == "network":
        yield _note(name, f"{folder} is on a network drive{_named(drive)}: {words.network}", words.elsewhere)
    elif drive.kind == "removable":
        yield _note(name, f"{folder} is on a drive that can be unplugged{_named(drive)}: {words.removable}")
    if drive.file_system in _FAT and name == "models":
        yield _note(name, f"{folder} is on a FAT drive, which takes no file of 4 GiB or more", words.elsewhere)
    elif drive.file_system in _WITHOUT_PERMISSIONS and name == "home":
        found = f"{folder} is on a drive without permissions{_named(drive)}: who can reach it can read conversations"
        yield _note(name, found, words.elsewhere)
    if sys.platform == "win32":
        path = longest_path(folder) if name == "models" else str(folder)
        if len(path) > MOST_PATH_CHARACTERS:
            found = f"{path} has {len(path)} characters; of more than {MOST_PATH_CHARACTERS} some programs open no file"
            yield _note(name, found, _LONG_PATHS)


def longest_path(models_dir: Path) -> str:
    """The longest path of a file that may belong to a model."""
    folders = walk_models_folder(models_dir).folders
    return max((file.location for folder in folders for file in folder.files), key=len, default=str(models_dir))


def cloud_of(folder: Path, environ: Mapping[str, str], user_home: Path) -> str | None:
    """Whose folder it is where a service copies its files elsewhere, such as "iCloud's"; None of all others."""
    folder = Path(os.path.realpath(folder))
    for name in _ONEDRIVE:
        if environ.get(name) and folder.is_relative_to(os.path.realpath(environ[name])):
            return "OneDrive's"
    for place, owner in _MAC_CLOUDS.items():
        if folder.is_relative_to(os.path.realpath(user_home / place)):
            return owner
    return None


def _named(drive: Drive) -> str:
    return f" ({drive.file_system})" if drive.file_system else ""


def _note(name: str, found: str, remedy: str | None = None) -> Check:
    return Check(name=f"{name} folder", state="note", found=found, remedy=remedy)
