"""`save`: tested context lengths into LM Studio's own defaults, so that the app itself loads what really works.

Only what was measured on LM Studio on this machine is written, together with the number of slots it was measured with:
LM Studio's own four slots take more memory than one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.registry.defaults import (
    AUTO_FIT,
    CONTEXT_LENGTH,
    FLASH_ATTENTION,
    MLX_AUTO_FIT,
    PARALLEL_SLOTS,
    DefaultsChange,
    ModelDefaults,
    SavedDefaults,
)
from lmstrix.core.registry.places import place_here
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.units import counted
from lmstrix.ground.wording import call, parameter
from lmstrix.service.unheeded import check_settings, without_effect

if TYPE_CHECKING:
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import ContextResult
    from lmstrix.service.workspace import Workspace

LEAST_CONTEXT_LENGTH = 512


def save(
    workspace: Workspace,
    model: str | None,
    *,
    limit: float | None = None,
    flash_attention: bool | None = None,
    parallel_slots: int = 1,
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
    wanted = LoadConfig(context_length=None, flash_attention=flash_attention, parallel_slots=parallel_slots)
    if model is not None:
        check_settings(records[0], wanted)
    saved, elsewhere = [], 0
    for record in records:
        result = _measured(record, wanted)
        if result is None or not result.tested_context_length:
            if model is not None:
                raise LMStrixError(_nothing_measured(record, wanted))
            elsewhere += bool(record.results)
            continue
        if ignored := without_effect(record, wanted):
            workspace.notify(ignored)
        fields = _fields(record, wanted, capped(result.tested_context_length, limit))
        saved.append(_written(defaults, record, result, fields, dry_run=dry_run))
    if elsewhere:
        workspace.notify(
            f"{counted(elsewhere, 'tested model')} left out: "
            f"not measured on LM Studio on this machine with {_slots(wanted)}"
        )
    return saved


def _measured(record: ModelRecord, wanted: LoadConfig) -> ContextResult | None:
    """What LM Studio itself was measured at: with this flash attention, else with its own choice of it."""
    here = record.seen_from(place_here("lmstudio"))
    return here.result_with(wanted) or here.result_with(replace(wanted, flash_attention=None))


def _fields(record: ModelRecord, wanted: LoadConfig, length: int) -> dict[str, object]:
    # With auto-fit on, LM Studio would choose a context of its own instead of this one.
    auto_fit = MLX_AUTO_FIT if record.is_mlx else AUTO_FIT
    fields: dict[str, object] = {CONTEXT_LENGTH: length, PARALLEL_SLOTS: wanted.parallel_slots, auto_fit: False}
    if wanted.flash_attention is not None and not record.is_mlx:
        fields[FLASH_ATTENTION] = wanted.flash_attention
    return fields


def _nothing_measured(record: ModelRecord, wanted: LoadConfig) -> str:
    if not record.results:
        return f"{record.model_key} has no tested context; {call('test_model', record.model_key)} finds it"
    slots = f", {parameter('parallel_slots', wanted.parallel_slots)}" if wanted.parallel_slots != 1 else ""
    return (
        f"{record.model_key} has no context measured on LM Studio on this machine with {_slots(wanted)}; "
        f"{call('test_model', record.model_key)} with {parameter('server', 'lmstudio')}{slots} finds it"
    )


def _slots(load: LoadConfig) -> str:
    return "1 slot" if load.parallel_slots == 1 else f"{load.parallel_slots} slots"


def _written(
    defaults: ModelDefaults, record: ModelRecord, result: ContextResult, fields: dict[str, object], *, dry_run: bool
) -> SavedDefaults:
    try:
        change = defaults.plan(record.path, fields)
        if change.differs and not dry_run:
            defaults.write(change)
    except LMStrixError as exc:
        return SavedDefaults(record=record, change=None, problem=str(exc))
    return SavedDefaults(record=record, change=change, result=result, written=change.differs and not dry_run)


def capped(tested: int, limit: float | None) -> int:
    """The length to write: the tested one, or less: `limit` as a token count, or as a ratio (float) of it."""
    length = tested
    if limit is not None:
        length = int(tested * limit) if isinstance(limit, float) else min(tested, limit)
    # A likely slip: 75 tokens where 75% was meant.
    if length < min(LEAST_CONTEXT_LENGTH, tested):
        raise UsageError(
            f"{parameter('limit')} would write a context of {length:,} tokens; the least that makes sense is"
            f" {LEAST_CONTEXT_LENGTH} (a share of the tested context is written as in {parameter('limit', 0.75)})"
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
