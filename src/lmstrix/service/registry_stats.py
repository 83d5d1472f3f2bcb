"""`registry stats` and `registry validate`: what the registry holds, how models are used, and whether it is well."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lmstrix.core.history.usage import usage_of
from lmstrix.core.registry.checking import Finding, check_registry
from lmstrix.core.registry.keeping import RegistryStats
from lmstrix.service.model_folders import model_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lmstrix.core.history.usage import ModelUsage
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.service.workspace import Workspace


def stats(workspace: Workspace, *, span_s: float) -> RegistryStats:
    """Counts and sizes of the models that are there, results by place, and the calls of the last `span_s`."""
    records = list(workspace.registry())
    present = [record for record in records if not record.is_missing]
    sizes: Counter[str] = Counter()
    for record in present:
        sizes[record.quantization or "unknown"] += record.all_bytes
    return RegistryStats(
        models=len(present),
        missing=len(records) - len(present),
        size_bytes=sum(record.all_bytes for record in present),
        status=_counts(_status(record) for record in present),
        formats=_counts(record.format for record in present),
        quantizations=_counts(record.quantization or "unknown" for record in present),
        quantization_bytes=dict(sizes),
        # Wherever measured: what a list shows is of one place alone.
        results=_counts(result.configuration.server for record in records for result in record.results),
        tags=_counts(tag for record in present for tag in record.tags),
        span_s=span_s,
        usage=tuple(_usage(workspace, span_s)),
    )


def validate(workspace: Workspace, *, fix: bool = False) -> list[Finding]:
    """What is wrong in the registry, mended as far as it can be where `fix`."""

    def is_gone(record: ModelRecord) -> bool:
        # A model that only a server lists has no file that could be looked for.
        return record.mtime_ns is not None and not model_file(workspace, record).exists()

    if not fix:
        return check_registry(workspace.store.load(), is_gone=is_gone)
    return workspace.store.update(lambda registry: check_registry(registry, is_gone=is_gone, fix=True))


def _status(record: ModelRecord) -> str:
    return "embedding" if record.kind == "embedding" else record.test_status


def _counts(words: Iterable[str]) -> dict[str, int]:
    return dict(Counter(words).most_common())


def _usage(workspace: Workspace, span_s: float) -> list[ModelUsage]:
    history = workspace.history()
    if history is None:
        return []
    span = timedelta(seconds=span_s)
    since = datetime.now(UTC) - span
    with history:
        return usage_of(history.calls.figures(since - span), since)
