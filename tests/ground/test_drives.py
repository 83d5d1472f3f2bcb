"""Which kind of drive a path is on, from what Linux, macOS and Windows answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from lmstrix.ground import drives
from lmstrix.ground.drives import Drive, Mount, drive_of, linux_mounts, mount_of, mounted_drive, windows_drive

if TYPE_CHECKING:
    from pathlib import Path

TABLE = r"""27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 27 0:21 / /proc rw,relatime - proc proc rw
40 27 0:50 / /mnt/nas rw,relatime shared:9 - nfs4 nas:/export rw,vers=4.2
41 27 0:51 / /mnt/c rw,noatime - 9p drvfs rw,aname=drvfs;path=C:\
42 27 0:52 / /home/ada/far\040away rw - fuse.sshfs ada@far: rw
43 40 8:17 / /mnt/nas/usb rw - vfat /dev/sdb1 rw
"""


@pytest.mark.parametrize(
    ("place", "file_system", "kind"),
    [
        ("/home/ada/models", "ext4", "local"),
        ("/", "ext4", "local"),
        ("/mnt/nas/models/a.gguf", "nfs4", "network"),
        ("/mnt/nas2", "ext4", "local"),
        ("/mnt/c/Users/Ada", "9p", "network"),
        ("/home/ada/far away/models", "fuse.sshfs", "network"),
        ("/mnt/nas/usb/models", "vfat", "removable"),
    ],
)
def test_linux_tells_the_file_system_of_the_longest_mount(place: str, file_system: str, kind: str) -> None:
    mount = mount_of(place, linux_mounts(TABLE))
    assert mount is not None
    drive = mounted_drive(mount, is_removable=mount.device == "8:17")
    assert (drive.file_system, drive.kind) == (file_system, kind)


def test_a_later_mount_hides_an_earlier_one_at_the_same_folder() -> None:
    hidden, seen = (Mount(folder="/data", file_system=name) for name in ("autofs", "cifs"))
    assert mount_of("/data/models", [hidden, seen]) is seen


def test_macos_says_itself_what_is_local() -> None:
    # As psutil gives it: MNT_LOCAL among the options.
    assert mounted_drive(Mount(folder="/", file_system="apfs", is_local=True), is_removable=False).kind == "local"
    for name in ("smbfs", "macfuse"):
        assert mounted_drive(Mount(folder="/x", file_system=name, is_local=False), is_removable=False).kind == "network"
    assert mounted_drive(Mount(folder="/x", file_system="exfat", is_local=True), is_removable=True).kind == "removable"


@pytest.mark.parametrize(
    ("root", "drive_type", "kind"),
    [
        ("C:\\", 3, "local"),
        ("Z:\\", 4, "network"),
        ("\\\\nas\\models\\", 4, "network"),
        ("\\\\wsl$\\Ubuntu\\", 1, "network"),
        ("\\\\?\\UNC\\nas\\models\\", 1, "network"),
        ("\\\\?\\C:\\", 3, "local"),
        ("E:\\", 2, "removable"),
        ("Q:\\", 0, "unknown"),
    ],
)
def test_windows_tells_by_drive_type_and_share(root: str, drive_type: int, kind: str) -> None:
    assert windows_drive(root, drive_type, "NTFS") == Drive(kind=kind, file_system="ntfs")  # type: ignore[arg-type]


def test_here_the_answer_is_what_psutil_says_too(tmp_path: Path) -> None:
    drive = drive_of(tmp_path / "not" / "there yet")
    known = {each.fstype.lower() for each in psutil.disk_partitions(all=True)}
    assert drive.file_system in known
    assert drive.kind != "unknown"


def test_a_system_that_does_not_tell_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise PermissionError

    monkeypatch.setattr(drives, "_mount_table", refuse)
    monkeypatch.setattr(drives, "_mac_mounts", refuse)
    monkeypatch.setattr(drives, "_windows_drive", lambda _place: Drive())
    assert drive_of(tmp_path) == Drive()
