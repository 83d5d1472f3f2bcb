"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.files import flush_to_drive, make_private, make_private_file, make_private_folder, write_whole

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize("durable", [True, False])
def test_text_and_bytes_take_the_place_of_what_was_there(folder: Path, durable: bool) -> None:
    file = folder / "file.json"
    write_whole(file, "né\n", durable=durable)
    assert file.read_bytes() == b"n\xc3\xa9\n"
    write_whole(file, b"\xff", durable=durable)
    assert file.read_bytes() == b"\xff"
    assert [path.name for path in folder.iterdir()] == ["file.json"]


def test_a_new_file_is_as_open_as_the_umask_allows(folder: Path) -> None:
    old = os.umask(0o027)
    try:
        write_whole(folder / "file", "")
    finally:
        os.umask(old)
    assert (folder / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.needs_posix("permission bits")
def test_a_replaced_file_keeps_its_permissions(folder: Path) -> None:
    file = folder / "file"
    file.touch()
    file.chmod(0o604)
    write_whole(file, "new")
    assert file.stat().st_mode & 0o777 == 0o604


def test_a_mode_is_kept_from_the_first_byte(folder: Path) -> None:
    file = folder / "token"
    file.touch(0o644)
    write_whole(file, "secret", mode=0o600)
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.needs_posix("permission bits")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_is_private_is_private_whatever_the_umask(folder: Path, umask: int) -> None:
    (folder / "old").mkdir()
    (folder / "old").chmod(0o755)
    (folder / "old.db").touch()
    (folder / "old.db").chmod(0o664)
    old = os.umask(umask)
    try:
        make_private_folder(folder / "new" / "inner")
        make_private_folder(folder / "old")
        make_private_file(folder / "new.db")
        make_private_file(folder / "old.db")
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert modes == {"new": 0o700, "inner": 0o700, "old": 0o700, "new.db": 0o600, "old.db": 0o600}


@pytest.mark.needs_posix("permission bits")
def test_a_folder_for_everybody_stays_one(folder: Path) -> None:
    folder.chmod(0o1777)
    make_private(folder)
    make_private(folder / "absent")
    assert folder.stat().st_mode & 0o7777 == 0o1777


@pytest.mark.needs_posix("limits on what a process may write")
def test_what_the_system_refuses_leaves_the_old_file_alone(folder: Path) -> None:
    file = folder / "file"
    file.write_text("old")
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # stands in for a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(file, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_text() == "old"
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_folder_in_the_way_is_an_error(folder: Path) -> None:
    (folder / "taken").mkdir()
    with pytest.raises(OSError):
        write_whole(folder / "taken", "text")
    with pytest.raises(FileNotFoundError):
        write_whole(folder / "missing" / "file", "text")
    assert [path.name for path in folder.iterdir()] == ["taken"]


def test_writers_at_the_same_time_leave_one_of_their_contents(folder: Path) -> None:
    file = folder / "file"
    contents = [bytes([letter]) * 200_000 for letter in b"abcd"]
    threads = [threading.Thread(target=write_whole, args=(file, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_bytes() in contents
    assert [path.name for path in folder.iterdir()] == ["file"]


class TestFlushing:
    """What a Mac is asked for, beside a system that knows the command and one that does not."""

    F_FULLFSYNC = 51

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        fcntl = pytest.importorskip("fcntl")
        asked: list[str] = []

        def command(_descriptor: int, number: int) -> int:
            asked.append(f"fcntl {number}")
            if self.refused:
                raise OSError(errno.ENOTSUP, "Operation not supported")
            return 0

        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", self.F_FULLFSYNC, raising=False)
        monkeypatch.setattr(fcntl, "fcntl", command)
        monkeypatch.setattr(os, "fsync", lambda _descriptor: asked.append("fsync"))
        return asked

    refused = False

    def test_a_mac_empties_the_cache_of_the_drive(self, folder: Path, asked: list[str]) -> None:
        write_whole(folder / "file", "text")
        assert asked == ["fcntl 51", "fcntl 51"]  # the file, then its folder

    def test_a_drive_that_does_not_know_the_command_is_synced_as_elsewhere(self, asked: list[str]) -> None:
        self.refused = True
        flush_to_drive(1)
        assert asked == ["fcntl 51", "fsync"]

    def test_elsewhere_the_system_does_both(self, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        flush_to_drive(1)
        assert asked == ["fsync"]
