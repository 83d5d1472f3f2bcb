"""What kind of drive a path is on, as the system says: asked only, nothing is tried or written.

    drive = drive_of(Path("/mnt/models"))      # Drive(kind="network", file_system="nfs4")

Linux tells its mounts in /proc, macOS through psutil, Windows by the drive's letter. A share that a program of another
kind mounts (sshfs, a virtual machine's shared folder) counts as a network: its files are another system's too.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

DriveKind = Literal["local", "network", "removable", "unknown"]

_SERVERS = {"afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
_THROUGH_FUSE = {"ceph-fuse", "davfs", "davfs2", "gcsfuse", "glusterfs", "gvfsd-fuse", "rclone", "s3fs", "sshfs"}
_HOSTS = {"9p", "prl_fs", "vboxsf", "virtiofs", "vmhgfs-fuse"}
"""File systems whose files lie on another system: a server, or what a virtual machine runs on; as Linux names them."""
_FAT = frozenset(("exfat", "fat", "fat32", "msdos", "vfat"))
"""Windows leaves their folders the time at which they were made; others round it to two seconds."""
_CARRIED = _FAT | {"ntfs"}
"""What only drives that are carried about are formatted with, on a Mac."""
_DRIVE_TYPES: dict[int, DriveKind] = {2: "removable", 3: "local", 4: "network", 5: "removable", 6: "local"}
"""What GetDriveTypeW says: 2 removable, 3 fixed, 4 remote, 5 CD-ROM, 6 RAM disk."""
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """The drive of a path. `file_system` is its name as the system gives it, in lower case."""

    kind: DriveKind = "unknown"
    file_system: str | None = None

    @property
    def times_folders(self) -> bool:
        """Whether a folder's time of change tells that something was put into it."""
        return self.file_system not in _FAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file system and the folder where it begins."""

    folder: str
    file_system: str
    is_local: bool | None = None  # None: to be told by the file system's name
    device: str = ""  # Linux's major:minor


def drive_of(path: Path) -> Drive:
    """The drive of a file or folder, or of where it would be made."""
    place = _real(path)
    try:
        if sys.platform == "win32":
            return _windows_drive(place)
        mount = mount_of(place, _mac_mounts() if sys.platform == "darwin" else linux_mounts(_mount_table()))
    except OSError:  # a system that does not tell, such as a container without /proc
        return Drive()
    if mount is None:
        return Drive()
    if sys.platform == "darwin":
        return mounted_drive(mount, is_removable=mount.file_system in _CARRIED)
    return mounted_drive(mount, is_removable=_linux_removable(mount.device))


def mount_of(place: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that a path lies in; of two at one folder the later one, which hides the first."""
    found: Mount | None = None
    for mount in mounts:
        begins = mount.folder.rstrip("/") + "/"
        if (place + "/").startswith(begins) and (found is None or len(mount.folder) >= len(found.folder)):
            found = mount
    return found


def mounted_drive(mount: Mount, *, is_removable: bool) -> Drive:
    is_network = _is_far(mount.file_system) if mount.is_local is None else not mount.is_local
    kind: DriveKind = "network" if is_network else "removable" if is_removable else "local"
    return Drive(kind=kind, file_system=mount.file_system)


def _is_far(file_system: str) -> bool:
    return file_system.removeprefix("fuse.") in _SERVERS | _THROUGH_FUSE | _HOSTS


def linux_mounts(table: str) -> list[Mount]:
    """The lines of /proc/self/mountinfo: number, parent, device, root, folder, options, …, -, file system, source."""
    mounts = []
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        if len(fields) > 4 and kind:
            mounts.append(Mount(folder=_unescaped(fields[4]), file_system=kind.lower(), device=fields[2]))
    return mounts


def windows_drive(root: str, drive_type: int, file_system: str | None) -> Drive:
    """From a volume's root and what GetDriveTypeW and GetVolumeInformationW say of it."""
    # A share has no drive letter; `\\?\C:\` and `\\.\C:\` are drives in a long form.
    is_share = root.startswith("\\\\") and not root.startswith(("\\\\?\\", "\\\\.\\"))
    is_share = is_share or root.upper().startswith("\\\\?\\UNC\\")
    kind: DriveKind = "network" if is_share else _DRIVE_TYPES.get(drive_type, "unknown")
    return Drive(kind=kind, file_system=file_system.lower() if file_system else None)


def _real(path: Path) -> str:
    """The path behind links; of what is not there yet, its name is enough."""
    return os.path.realpath(path)


def _mount_table() -> str:
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")


def _unescaped(folder: str) -> str:
    """The table writes blanks and the like as octal numbers."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), folder)


def _linux_removable(device: str) -> bool:
    """Whether the kernel says so of the disk, or of the disk that the partition is on."""
    block = Path("/sys/dev/block") / device
    for place in (block / "removable", block / "../removable"):
        try:
            return place.read_text(encoding="ascii").strip() == "1"
        except (OSError, ValueError):  # a partition has no such file, and not every file system has a disk
            continue
    return False


def _mac_mounts() -> list[Mount]:
    import psutil

    return [
        # MNT_LOCAL is what statfs(2) says of each mount.
        Mount(folder=each.mountpoint, file_system=each.fstype.lower(), is_local="local" in each.opts.split(","))
        for each in psutil.disk_partitions(all=True)
    ]


def _windows_drive(place: str) -> Drive:
    if sys.platform != "win32":
        return Drive()
    import ctypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    root, name = ctypes.create_unicode_buffer(1024), ctypes.create_unicode_buffer(256)
    if not kernel.GetVolumePathNameW(place, root, len(root)):
        return windows_drive(place, 0, None)
    has_name = kernel.GetVolumeInformationW(root, None, 0, None, None, None, name, len(name))
    return windows_drive(root.value, kernel.GetDriveTypeW(root), name.value if has_name else None)
