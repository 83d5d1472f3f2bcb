"""What a killed writer leaves is removed by the next one, and nothing else is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground import half_written
from lmstrix.ground.files import write_whole
from lmstrix.ground.half_written import OLD_S, held, remove_left, temporary_beside

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path


@pytest.fixture(autouse=True)
def _first_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_written, "_swept", set())


def left(folder: Path, name: str, *, age_s: float = 2 * OLD_S) -> Path:
    path = folder / name
    path.write_text("hal", encoding="utf-8")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "user-home")


def killed_writer(folder: Path, ready: Connection) -> None:
    """Is killed between writing and renaming."""

    def stay(*_: object) -> None:
        ready.send("written")
        time.sleep(60)

    pytest.MonkeyPatch().setattr("lmstrix.ground.files.replace_file", stay)
    write_whole(folder / "file", "new")


@pytest.mark.needs_posix("SIGKILL and its locks")
def test_what_a_killed_writer_leaves_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old", encoding="utf-8")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    writer = context.Process(target=killed_writer, args=(tmp_path, there))
    writer.start()
    try:
        assert here.poll(30)
        [temporary] = tmp_path.glob(".file.*")
        os.utime(temporary, (time.time() - 2 * OLD_S,) * 2)
        write_whole(tmp_path / "other", "")
        assert temporary.exists()  # old, but its writer lives, as a suspended one does
    finally:
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(30)
    half_written._swept.clear()
    write_whole(tmp_path / "other", "")
    assert names(tmp_path) == ["file", "other"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"


def test_only_old_files_of_our_making_go(tmp_path: Path) -> None:
    left(tmp_path, ".lmstrix.json.lmstrix-0123abcd.tmp")
    left(tmp_path, ".young.json.lmstrix-0123abcd.tmp", age_s=OLD_S / 2)
    for name in (".notes.0123abcd.tmp", "notes.lmstrix-0123abcd.tmp", ".a.lmstrix-0123abcd.tmp.txt"):
        left(tmp_path, name)
    (tmp_path / ".folder.lmstrix-0123abcd.tmp").mkdir()
    os.utime(tmp_path / ".folder.lmstrix-0123abcd.tmp", (1, 1))
    kept = set(names(tmp_path)) - {".lmstrix.json.lmstrix-0123abcd.tmp"}
    write_whole(tmp_path / "file", "")
    assert set(names(tmp_path)) == kept | {"file"}


def test_the_age_is_by_the_clock_of_the_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    young = left(tmp_path, ".file.lmstrix-0123abcd.tmp", age_s=0)
    monkeypatch.setattr(time, "time", lambda: 4e9)  # this machine's clock is decades ahead of the server's
    write_whole(tmp_path / "file", "")
    assert young.exists()


def test_a_folder_is_looked_through_once(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "")
    late = left(tmp_path, ".file.lmstrix-0123abcd.tmp")
    write_whole(tmp_path / "file", "")
    assert late.exists()


@pytest.mark.needs_posix("owners, links and pipes")
def test_neither_links_nor_pipes_nor_files_of_others_are_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    aim = left(tmp_path, "aim")
    (folder / ".link.lmstrix-0123abcd.tmp").symlink_to(aim)
    os.mkfifo(folder / ".pipe.lmstrix-0123abcd.tmp")
    remove_left(folder)
    assert aim.read_text(encoding="utf-8") == "hal"
    assert len(names(folder)) == 2
    other = left(folder, ".other.lmstrix-0123abcd.tmp")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    remove_left(folder)
    assert other.exists()


@pytest.mark.needs_posix("locks of open files")
def test_where_locks_are_refused_nothing_goes_and_writing_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    old = left(tmp_path, ".file.lmstrix-0123abcd.tmp")
    monkeypatch.setattr(fcntl, "flock", refuse)
    write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "new"
    assert old.exists()


@pytest.mark.needs_posix("locks of open files")
def test_a_file_is_held_until_it_has_its_name(tmp_path: Path) -> None:
    path = temporary_beside(tmp_path / "file")
    with path.open("xb") as file, held(file.fileno()):
        file.close()
        remove_left(tmp_path)
        assert path.exists()
    remove_left(tmp_path)
    assert not path.exists()
