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
    "ctx": lambda record: record.tested_context_length or 0,
    "dtx": lambda record: record.max_context_length or 0,
    "size": lambda record: record.all_bytes,
    "eff": lambda record: record.effectiveness_ratio or 0.0,
    # What a test of it takes: each token of the declared context weighs as much as 100 kB of the file.
    "smart": lambda record: record.all_bytes + 100_000 * (record.max_context_length or 0),
    "status": lambda record: (record.is_missing, record.test_status),
    "date": lambda record: record.tested_at.timestamp() if record.tested_at else 0.0,
}


def list_models(
    workspace: Workspace, *, wanted: str | None = None, sort: SortKey = "id", reverse: bool = False
) -> Listing:
    """The records that meet the conditions of `wanted` (`core.registry.filters`), sorted."""
    registry = workspace.registry()
    records = list(registry)
    total = len(records)
    if wanted:
        from lmstrix.core.registry.filters import matches, parse_filter  # 5 ms that a plain list does not need

        conditions = parse_filter(wanted, registry.aliases)
        records = [record for record in records if matches(record, conditions)]
    records.sort(key=_SORTS[sort], reverse=reverse)
    return Listing(records=tuple(records), total=total, place=registry.place)
