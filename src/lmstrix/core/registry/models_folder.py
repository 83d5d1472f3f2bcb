"""A walk over a models folder: every file that may be a model, once, whatever lies there and whatever links lead where.

Folders and model files are known by their real path. What a link leads to is listed under the link's name, and only
where it is not listed already: links are followed last, so that a model keeps the name it has in the folder itself. A
file or folder that cannot be looked at is a finding on a list; nothing in here raises because of what it meets.

Traded away: two hard links to one file are two models; a projector without "mmproj" in its name, linked into several
folders, belongs to the first of them; and what lies deeper than `WalkLimits` says.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

from lmstrix.ground.model_names import is_mmproj

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTIAL_SUFFIXES = (".gguf.part", ".gguf.incomplete", ".gguf.crdownload", ".gguf.tmp", ".gguf.download")
_LOOKED_FOR = (".gguf", ".safetensors", "config.json", "chat_template.jinja", *PARTIAL_SUFFIXES)


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkLimits:
    """How far a walk goes: a models folder that is really a home folder, or a whole disk, is not walked to its end."""

    depth: int = 6
    """Folders below each other: publisher/repository needs two, the cache of a hub with its snapshots four."""
    entries: int = 200_000
    """Names looked at, some 2 s of them; the largest collections have some ten thousand."""


_LIMITS = WalkLimits()


class FoundFile(NamedTuple):
    """A regular file: `path` relative to the models folder, POSIX; where it is; and what tells whether it changed."""

    path: str
    location: str
    size_bytes: int
    mtime_ns: int


class FoundFolder(NamedTuple):
    """A folder and the files in it that may belong to models, by name."""

    path: str
    files: list[FoundFile]


class FoundProblem(NamedTuple):
    """What is in the way, relative to the models folder, and why. The path is fit to be shown."""

    path: str
    kind: Literal["unreadable", "not a model"]
    detail: str


class _Folder(NamedTuple):
    """A folder still to be looked at. `real` is its path without links, or None where a link has yet to be followed."""

    path: str
    location: str
    real: str | None
    depth: int


@dataclass(slots=True)
class ModelsFolder:
    """What a walk found. `looked_at` has the time of change of every folder, by location; -1 for one that is gone."""

    folders: list[FoundFolder] = field(default_factory=list)
    problems: list[FoundProblem] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)
    missing: bool = False


def walk_models_folder(directory: Path, *, limits: WalkLimits = _LIMITS) -> ModelsFolder:
    """Look through `directory`. One that is not there is `missing`, which is no problem of its own."""
    return _Walk(limits).run(str(directory))


def changed_ns(location: str) -> int:
    """What grows whenever the folder or file, its names or its permissions change; -1 where it cannot be looked at."""
    try:
        status = os.stat(location)  # noqa: PTH116 - called for every folder at every listing
    except (OSError, ValueError):
        return -1
    # Making a file readable changes the second only.
    return max(status.st_mtime_ns, status.st_ctime_ns)


class _Walk:
    """The state of one walk."""

    def __init__(self, limits: WalkLimits) -> None:
        self.limits = limits
        self.entries_left = limits.entries
        self.found = ModelsFolder()
        self.seen: set[str] = set()
        self.pending: deque[_Folder] = deque()
        self.linked_folders: deque[_Folder] = deque()
        self.linked_files: list[tuple[FoundFolder, FoundFile]] = []

    def run(self, top: str) -> ModelsFolder:
        self.linked_folders.append(_Folder("", top, None, 0))
        while self.pending or self.linked_folders:
            if self.pending:
                self._look_into(self.pending.popleft())
            else:
                self._follow(self.linked_folders.popleft())
        for folder, file in self.linked_files:
            self._add(folder, file, os.path.realpath(file.location))
        for folder in self.found.folders:
            folder.files.sort()
        return self.found

    def _follow(self, folder: _Folder) -> None:
        """Look into a folder that a link names, under the link's name, unless it was looked into."""
        real = os.path.realpath(folder.location)
        if real not in self.seen:
            self._look_into(folder._replace(real=real))

    def _look_into(self, folder: _Folder) -> None:
        real = folder.real
        assert real is not None
        if real in self.seen:
            return
        self.seen.add(real)
        # Before its children are listed: what comes while they are must count as a change.
        self.found.looked_at[folder.location] = changed_ns(folder.location)
        try:
            with os.scandir(folder.location) as entries:
                children = sorted(islice(entries, self.entries_left + 1), key=lambda child: child.name)
        except FileNotFoundError:
            # Gone since its name was read, which is no news; or the models folder was not there to begin with.
            self.found.missing |= not folder.path
            return
        except (OSError, ValueError) as exc:
            self._problem(folder.path or ".", exc)
            return
        found = FoundFolder(folder.path, [])
        self.found.folders.append(found)
        for child in self._affordable(children, folder.path):
            # Hidden are downloads under way, caches of other tools, and what file managers leave.
            if not child.name.startswith("."):
                self._meet(child, folder, found)

    def _affordable(self, children: list[os.DirEntry[str]], path: str) -> Iterator[os.DirEntry[str]]:
        yield from children[: self.entries_left]
        if self.entries_left < len(children):
            detail = (
                f"more than {self.limits.entries:,} files and folders; the rest is not looked at: "
                "choose a folder with models alone"
            )
            self.found.problems.append(FoundProblem(shown(path) or ".", "unreadable", detail))
            # Told once; nothing further is looked into.
            self.pending.clear()
            self.linked_folders.clear()
        self.entries_left = max(0, self.entries_left - len(children))

    def _meet(self, child: os.DirEntry[str], folder: _Folder, found: FoundFolder) -> None:
        path = f"{folder.path}/{child.name}" if folder.path else child.name
        try:
            is_link = child.is_symlink()
            if child.is_dir():
                self._note_folder(child, path, folder, is_link=is_link)
            elif child.name.lower().endswith(_LOOKED_FOR):
                self._note_file(child, path, folder, found, is_link=is_link)
        except FileNotFoundError as exc:
            # A file may vanish between its listing and this look; a link to nothing stays, and is worth a word.
            if is_link:
                self._problem(path, exc)
        except (OSError, ValueError) as exc:
            self._problem(path, exc)

    def _note_folder(self, child: os.DirEntry[str], path: str, folder: _Folder, *, is_link: bool) -> None:
        if not _is_text(child.name):
            self.found.problems.append(_unnamable(path))
        elif folder.depth < self.limits.depth:
            assert folder.real is not None
            joined = os.path.join(folder.real, child.name)  # noqa: PTH118 - plain strings, as a thousand Paths cost more
            # Windows has links that do not look like any.
            real = os.path.realpath(child.path) if os.name == "nt" else joined
            if is_link or real != joined:
                self.linked_folders.append(_Folder(path, child.path, None, folder.depth + 1))
            else:
                self.pending.append(_Folder(path, child.path, real, folder.depth + 1))

    def _note_file(
        self, child: os.DirEntry[str], path: str, folder: _Folder, found: FoundFolder, *, is_link: bool
    ) -> None:
        status = child.stat()
        # Opening a pipe or a device would wait, or set something off.
        if not stat.S_ISREG(status.st_mode):
            self.found.problems.append(FoundProblem(shown(path), "not a model", "not a regular file"))
        elif not _is_text(child.name):
            self.found.problems.append(_unnamable(path))
        else:
            file = FoundFile(path, child.path, status.st_size, status.st_mtime_ns)
            if not _is_model(child.name):
                found.files.append(file)
            elif is_link:
                self.linked_files.append((found, file))
            else:
                self._add(found, file, f"{folder.real}{os.sep}{child.name}")

    def _add(self, folder: FoundFolder, file: FoundFile, real: str) -> None:
        if real not in self.seen:
            self.seen.add(real)
            folder.files.append(file)

    def _problem(self, path: str, exc: OSError | ValueError) -> None:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        self.found.problems.append(FoundProblem(shown(path), "unreadable", reason))


def shown(path: str) -> str:
    """A path that can be printed and stored, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_text(name: str) -> bool:
    # Other bytes come as half surrogate pairs, which no file of ours and no answer can hold.
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_model(name: str) -> bool:
    """Whether a file is one that should be there once; projectors and MLX files may serve several folders."""
    return name.lower().endswith(".gguf") and not is_mmproj(name)


def _unnamable(path: str) -> FoundProblem:
    return FoundProblem(shown(path), "unreadable", "its name is not valid UTF-8: rename it")
