"""The walk over a models folder: each file once, whatever is in it and wherever links lead."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.registry.models_folder import ModelsFolder, WalkLimits, walk_models_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.needs_posix("links, pipes and names of bytes are POSIX")
NOBODY = 65534


def put(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"GGUF")
    return file


def paths(found: ModelsFolder) -> list[str]:
    return sorted(file.path for folder in found.folders for file in folder.files)


def problems(found: ModelsFolder) -> dict[str, str]:
    return {problem.path: problem.kind for problem in found.problems}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything; here it is somebody who may not."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_links_that_lead_nowhere_or_to_themselves_are_problems(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b" / "good.gguf")
    for name in ("self.gguf", "self"):
        (tmp_path / "a" / "b" / name).symlink_to(name)
    (tmp_path / "ping").symlink_to("pong")
    (tmp_path / "pong").symlink_to("ping")
    (tmp_path / "dangling.gguf").symlink_to("nowhere")
    found = walk_models_folder(tmp_path)
    assert paths(found) == ["a/b/good.gguf"]
    assert problems(found) == dict.fromkeys(
        ["a/b/self.gguf", "a/b/self", "ping", "pong", "dangling.gguf"], "unreadable"
    )


def test_a_model_is_listed_once_however_many_links_lead_to_it(tmp_path: Path) -> None:
    models = tmp_path / "models"
    real = put(models / "publisher" / "repository" / "model.gguf")
    # Named so that every link comes before the folder itself in the order of names.
    (models / "a-file.gguf").symlink_to(real)
    (models / "a-folder").symlink_to(models / "publisher")
    for folder in (models, models / "publisher", real.parent):
        for number in range(3):
            (folder / f"0-up-{number}").symlink_to(models)
    outside = put(tmp_path / "elsewhere" / "other.gguf")
    (models / "b-elsewhere").symlink_to(outside.parent)
    (models / "b-other.gguf").symlink_to(outside)
    (models / "c-elsewhere").symlink_to(outside.parent)
    (models / "d-root").symlink_to(tmp_path)
    found = walk_models_folder(models)
    assert paths(found) == ["b-elsewhere/other.gguf", "publisher/repository/model.gguf"]
    assert found.problems == []


def test_the_models_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    put(tmp_path / "real" / "a" / "b" / "c.gguf")
    (tmp_path / "link").symlink_to("real")
    assert paths(walk_models_folder(tmp_path / "link")) == ["a/b/c.gguf"]


def test_one_projector_may_serve_several_models(tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path / "a" / name / "model.gguf")
    put(tmp_path / "a" / "one" / "mmproj-f16.gguf")
    (tmp_path / "a" / "two" / "mmproj-f16.gguf").symlink_to(tmp_path / "a" / "one" / "mmproj-f16.gguf")
    assert len(paths(walk_models_folder(tmp_path))) == 4


def test_what_is_no_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "null.gguf").symlink_to(os.devnull)
    (tmp_path / "folder.gguf").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # of the whole path there may be no more than about a hundred bytes
        listener.bind("socket.gguf")
        found = walk_models_folder(tmp_path)
    assert paths(found) == []
    assert problems(found) == dict.fromkeys(["pipe.gguf", "null.gguf", "socket.gguf"], "not a model")


def test_names_that_are_no_text_are_problems_with_a_name_that_can_be_shown(tmp_path: Path) -> None:
    put(tmp_path / "a" / "good.gguf")
    try:
        put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/bad-\xff.gguf")))
        put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/folder-\xfe/model.gguf")))
    except OSError:
        pytest.skip("this file system takes only text as names")
    found = walk_models_folder(tmp_path)
    assert paths(found) == ["a/good.gguf"]
    assert {problem.path for problem in found.problems} == {r"a/bad-\xff.gguf", r"folder-\xfe"}
    assert all("UTF-8" in problem.detail for problem in found.problems)


def test_what_may_not_be_read_is_a_problem() -> None:
    # Not in the test's own folder, which nobody else may enter.
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        put(top / "open" / "good.gguf")
        put(top / "closed" / "hidden.gguf")
        for folder in (top, top / "open"):
            folder.chmod(0o755)
        (top / "closed").chmod(0)
        try:
            with as_nobody():
                found = walk_models_folder(top)
        finally:
            (top / "closed").chmod(0o700)
    assert paths(found) == ["open/good.gguf"]
    assert [(problem.path, problem.detail) for problem in found.problems] == [("closed", "Permission denied")]


def test_a_file_that_vanishes_while_it_is_looked_at_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a" / "stays.gguf")
    put(tmp_path / "a" / "goes.gguf")
    put(tmp_path / "gone" / "model.gguf")
    scandir = os.scandir

    def scan_and_remove(folder: str) -> object:
        names = scandir(folder)
        if folder == str(tmp_path):
            (tmp_path / "gone" / "model.gguf").unlink()
            (tmp_path / "gone").rmdir()
        elif folder == str(tmp_path / "a"):
            # Read first: what a listing has not read yet simply does not come.
            entries = list(names)
            (tmp_path / "a" / "goes.gguf").unlink()
            return _Listing(entries)
        return names

    monkeypatch.setattr(os, "scandir", scan_and_remove)
    found = walk_models_folder(tmp_path)
    assert (paths(found), found.problems) == (["a/stays.gguf"], [])


class _Listing:
    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self.entries = entries

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        return iter(self.entries)

    def __exit__(self, *_: object) -> None:
        pass


def test_a_missing_folder_is_missing_and_one_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    assert walk_models_folder(tmp_path / "absent").missing
    found = walk_models_folder(put(tmp_path / "file"))
    assert not found.missing
    assert problems(found) == {".": "unreadable"}


def test_a_walk_ends(tmp_path: Path) -> None:
    put(tmp_path.joinpath(*"abcdef", "deep.gguf"))
    put(tmp_path.joinpath(*"abcdefg", "too-deep.gguf"))
    assert paths(walk_models_folder(tmp_path)) == ["a/b/c/d/e/f/deep.gguf"]
    for number in range(20):
        put(tmp_path / "many" / f"{number:02}.gguf")
    found = walk_models_folder(tmp_path, limits=WalkLimits(entries=12))
    assert len(paths(found)) <= 12
    (problem,) = found.problems
    assert "more than 12 files and folders" in problem.detail


class NumberlessEntry:
    """An entry of a drive that numbers no files: sshfs and some others on Windows say 0 of each."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self._entry = entry

    def __getattr__(self, name: str) -> object:
        return getattr(self._entry, name)

    def inode(self) -> int:
        return 0

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return numberless(self._entry.stat(follow_symlinks=follow_symlinks))


def numberless(found: os.stat_result) -> os.stat_result:
    mode, _number, _drive, *rest = found
    nanoseconds = {"st_mtime_ns": found.st_mtime_ns, "st_ctime_ns": found.st_ctime_ns, "st_atime_ns": found.st_atime_ns}
    return os.stat_result((mode, 0, 0, *rest), nanoseconds)


def test_every_model_of_a_drive_without_file_numbers_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/b/one.gguf", "a/c/two.gguf", "d/e/three.gguf"):
        put(tmp_path / name)
    real_scandir, real_stat = os.scandir, os.stat

    @contextmanager
    def scandir(folder: str) -> Iterator[list[NumberlessEntry]]:
        with real_scandir(folder) as entries:
            yield [NumberlessEntry(entry) for entry in entries]

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "stat", lambda place, **options: numberless(real_stat(place, **options)))
    found = walk_models_folder(tmp_path)
    monkeypatch.undo()
    assert paths(found) == ["a/b/one.gguf", "a/c/two.gguf", "d/e/three.gguf"]
    assert not found.problems
