"""What a scan found and what a list shows: records of the registry for callers and reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.core.registry.places import Place
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ScanChanges
    from lmstrix.core.registry.scanner import ScanProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """What a scan found. `sources` say where it looked; `written` whether the registry file changed."""

    changes: ScanChanges
    problems: tuple[ScanProblem, ...]
    models: int
    forgotten: tuple[str, ...]
    sources: tuple[str, ...]
    written: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Records in the order asked for, of `total` in the registry, seen from `place`."""

    records: tuple[ModelRecord, ...]
    total: int
    place: Place | None = None
