"""`save`: tested context lengths into LM Studio's own defaults, so that the app itself loads what really works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.registry.defaults import (
    AUTO_FIT,
    CONTEXT_LENGTH,
    FLASH_ATTENTION,
    DefaultsChange,
    ModelDefaults,
    SavedDefaults,
)
from lmstrix.ground.errors import LMStrixError, UsageError

if TYPE_CHECKING:
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.service.workspace import Workspace

LEAST_CONTEXT_LENGTH = 512


def save(
    workspace: Workspace,
    model: str | None,
    *,
    limit: float | None = None,
    flash_attention: bool | None = None,
    dry_run: bool = False,
    restore: bool = False,
) -> list[SavedDefaults]:
    """Write the tested context of one model, or of all tested ones. `limit` caps it: tokens, or a ratio as float.

    A failure with one model does not keep the others from being written.
    """
    home = workspace.paths.lmstudio_home or workspace.paths.home
    defaults = ModelDefaults(home)
    records = [workspace.find(model)] if model is not None else [r for r in workspace.registry() if r.kind == "llm"]
    if not (home / ".internal").is_dir():
        workspace.notify(f"{home} has no .internal folder: LM Studio does not seem to use it")
    if restore:
        return [_restored(defaults, record, dry_run) for record in records if _has_backup(defaults, record)]
    saved = []
    for record in records:
        tested = record.tested_context_length
        if tested is None:
            if model is not None:
                raise LMStrixError(
                    f"{record.model_key} has no tested context; lmstrix test {record.model_key} finds it"
                )
            continue
        length = capped(tested, limit)
        # With auto-fit on, LM Studio would choose a context of its own instead of this one.
        fields: dict[str, object] = {CONTEXT_LENGTH: length, AUTO_FIT: False}
        if flash_attention is not None and record.format == "gguf":
            fields[FLASH_ATTENTION] = flash_attention
        saved.append(_written(defaults, record, fields, dry_run=dry_run))
    return saved


def _written(
    defaults: ModelDefaults, record: ModelRecord, fields: dict[str, object], *, dry_run: bool
) -> SavedDefaults:
    try:
        change = defaults.plan(record.path, fields)
        if change.differs and not dry_run:
            defaults.write(change)
    except LMStrixError as exc:
        return SavedDefaults(record=record, change=None, problem=str(exc))
    return SavedDefaults(record=record, change=change, written=change.differs and not dry_run)


def capped(tested: int, limit: float | None) -> int:
    """The length to write: the tested one, or less: `limit` as a token count, or as a ratio (float) of it."""
    length = tested
    if limit is not None:
        length = int(tested * limit) if isinstance(limit, float) else min(tested, limit)
    # A likely slip: 75 tokens where 75% was meant.
    if length < min(LEAST_CONTEXT_LENGTH, tested):
        raise UsageError(
            f"--limit would write a context of {length:,} tokens; the least that makes sense is"
            f" {LEAST_CONTEXT_LENGTH} (a percentage is written with %, as in 75%)"
        )
    return length


def _has_backup(defaults: ModelDefaults, record: ModelRecord) -> bool:
    """Whether there is an original; a path that leads elsewhere has none, since nothing was written there."""
    try:
        return defaults.has_backup(record.path)
    except LMStrixError:
        return False


def _restored(defaults: ModelDefaults, record: ModelRecord, dry_run: bool) -> SavedDefaults:
    # The original is put back as a file, so there are no fields to compare.
    change = DefaultsChange(model_path=record.path, file=defaults.file_for(record.path), before={}, after={}, text="")
    return SavedDefaults(record=record, change=change, written=not dry_run and defaults.restore(record.path))
