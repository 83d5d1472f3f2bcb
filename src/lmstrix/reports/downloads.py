"""A download on the terminal: a line that moves while it lasts, and what came of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lmstrix.ground.units import format_bytes, format_seconds
from lmstrix.reports.json_form import json_form
from lmstrix.reports.progress import ProgressLine
from lmstrix.reports.table import clean

if TYPE_CHECKING:
    from lmstrix.core.registry.listing import ScanReport
    from lmstrix.ground.downloads import Download
    from lmstrix.reports.console import Console


class DownloadLine(ProgressLine):
    """How far a download is: bytes, speed, time left. Remembers the job, for whoever leaves before its end."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.job_id: str | None = None
        self._status = ""

    def show(self, download: Download) -> None:
        """The server has told more."""
        self.job_id = download.job_id or self.job_id
        if download.status != self._status and not download.is_over:
            self._status = download.status
            self._console.note(_begun(download))
        speed = f"{format_bytes(int(download.bytes_per_second))}/s" if download.bytes_per_second else ""
        left = f"{format_seconds(download.left_s)} left" if download.left_s is not None else ""
        parts = [part for part in (_amount(download), speed, left) if part]
        self.update(download.status, download.ratio, tail=", ".join(parts))


def show_got(console: Console, model: str, download: Download, scan: ScanReport) -> None:
    """What came of it."""
    new = [*scan.changes.added, *scan.changes.restored]
    if console.json:
        console.result("get", {"model": model, **json_form(download), "new": new})
        return
    done = "was there already" if download.status == "already_downloaded" else f"is there{_size(download)}"
    sys.stdout.write(f"{clean(model)} {done}\n")
    for path in new:
        sys.stdout.write(f"new: {clean(path)}\n")
    if not new:
        console.note("the registry had it already, or the server lists it under another name (lmstrix list)")


def _begun(download: Download) -> str:
    job = f" (job {download.job_id})" if download.job_id else ""
    if download.status == "paused":
        return f"the download is paused{job}; LM Studio's Downloads window goes on with it"
    return f"LM Studio downloads{_size(download)}{job}"


def _size(download: Download) -> str:
    return f" {format_bytes(download.total_bytes)}" if download.total_bytes else ""


def _amount(download: Download) -> str:
    if download.downloaded_bytes is None:
        return ""
    total = f" of {format_bytes(download.total_bytes)}" if download.total_bytes else ""
    return f"{format_bytes(download.downloaded_bytes)}{total}"
