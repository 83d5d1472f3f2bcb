"""A model that a server downloads, as far as it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

DownloadStatus = Literal["downloading", "paused", "completed", "failed", "already_downloaded"]
STATUSES: tuple[str, ...] = get_args(DownloadStatus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """How far a download is. What the server does not tell is None; one that was done before has no `job_id`."""

    status: DownloadStatus
    job_id: str | None = None
    total_bytes: int | None = None
    downloaded_bytes: int | None = None
    bytes_per_second: float | None = None

    @property
    def is_over(self) -> bool:
        return self.status in ("completed", "failed", "already_downloaded")

    @property
    def ratio(self) -> float | None:
        """How much of it is there, from 0 to 1."""
        if not self.total_bytes or self.downloaded_bytes is None:
            return None
        return min(1.0, self.downloaded_bytes / self.total_bytes)

    @property
    def left_s(self) -> float | None:
        """How long the rest takes at this speed."""
        if self.total_bytes is None or self.downloaded_bytes is None or not self.bytes_per_second:
            return None
        return max(0, self.total_bytes - self.downloaded_bytes) / self.bytes_per_second
