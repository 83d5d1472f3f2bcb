"""`list`: the registry's records, filtered and sorted. Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.core.registry.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.choices import SortKey
    from lmstrix.service.workspace import Workspace

_SORTS: dict[SortKey, Callable[[ModelRecord], Any]] = {
    "id": lambda record: record.model_key.lower(),
    "name": lambda record: record.display_name.lower(),
    "ctx": lambda record: record.max_context_length or 0,
    "tested": lambda record: record.tested_context_length or 0,
    "size": lambda record: record.all_bytes,
    "status": lambda record: (record.is_missing, record.test_status),
    "date": lambda record: record.tested_at.timestamp() if record.tested_at else 0.0,
}


def list_models(
    workspace: Workspace, *, containing: str | None = None, sort: SortKey = "id", reverse: bool = False
) -> Listing:
    """The records whose key or path contains a text, sorted."""
    registry = workspace.registry()
    records = list(registry)
    total = len(records)
    if containing:
        wanted = containing.lower()
        records = [r for r in records if wanted in r.model_key.lower() or wanted in r.path.lower()]
    records.sort(key=_SORTS[sort], reverse=reverse)
    return Listing(records=tuple(records), total=total, place=registry.place)
