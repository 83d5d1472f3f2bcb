"""A length that failed in an earlier test and is still held against a model: the record, its words, its JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from lmstrix.core.registry.json_fields import EPOCH, Json, known_fields, read_count, read_flag, read_moment, read_text
from lmstrix.ground.units import format_bytes

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure:
    """The shortest length known to fail. `free_bytes`: what was free before the attempt, None where nobody knows."""

    context_length: int
    failed_at: datetime
    outcome: str
    free_bytes: int | None = None
    took_machine_down: bool = False

    @property
    def what(self) -> str:
        """What the length did: "failed"."""
        return "took the machine down" if self.took_machine_down else "failed"

    @property
    def when(self) -> str:
        """And when: "on 2026-11-20 with 3.1 GiB free"."""
        beside = "" if self.free_bytes is None else f" with {format_bytes(self.free_bytes)} free"
        return f"on {self.failed_at.astimezone():%Y-%m-%d}{beside}"


def failure_to_json(failure: KnownFailure) -> dict[str, Json]:
    return known_fields(failure) | {"failed_at": failure.failed_at.astimezone(UTC).isoformat()}


def failure_from_json(raw: Json) -> KnownFailure | None:
    """None for what is no such record."""
    length = read_count(raw.get("context_length")) if isinstance(raw, dict) else None
    if length is None:
        return None
    return KnownFailure(
        context_length=length,
        failed_at=read_moment(raw.get("failed_at")) or EPOCH,
        outcome=read_text(raw.get("outcome")) or "failed",
        free_bytes=read_count(raw.get("free_bytes")),
        took_machine_down=read_flag(raw.get("took_machine_down")) or False,
    )
