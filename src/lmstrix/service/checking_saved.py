"""After `save`: one load without any options, as the app does it, tells what LM Studio makes of what was saved.

Some MLX runtimes load a context of their own choice whatever is saved. So their models are loaded once unasked, if LM
Studio is there and has nothing else loaded: a second model in memory is nobody's wish. What is loaded goes again.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.answers.load_policy import ONCE_PREFIX
from lmstrix.core.registry.defaults import CONTEXT_LENGTH, LoadedAsSaved
from lmstrix.core.registry.places import place_of
from lmstrix.ground.errors import BackendUnavailableError, LMStrixError
from lmstrix.ground.tasks import to_its_end
from lmstrix.ground.text import one_line
from lmstrix.ground.types import Deadlines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.api.client import AsyncLMStudioBackend
    from lmstrix.core.registry.defaults import SavedDefaults
    from lmstrix.service.workspace import Workspace

_TIME_TO_LIVE_S = 600.0  # for a check that is killed: what it leaves loaded goes by itself


def wants_check(saved: Sequence[SavedDefaults], check: bool | None) -> bool:
    """Whether any of them is to be loaded once."""
    return any(_is_checked(item, check) for item in saved)


async def check_saved(
    workspace: Workspace, saved: Sequence[SavedDefaults], check: bool | None = None
) -> list[SavedDefaults]:
    """The same, each that is to be checked with what a load came to. `check` None: the MLX models just written."""
    try:
        backend = (await workspace.connect_running()).backend
        place = place_of(backend.server)
        refusal = (
            None
            if place.engine == "lmstudio" and place.is_here
            else "the server in use is not LM Studio on this machine"
        )
        if refusal is None and check is None and (loaded := await backend.list_loaded()):
            names = ", ".join(model.instance_id for model in loaded)
            refusal = f"{names} {'is' if len(loaded) == 1 else 'are'} loaded, and one more might not fit beside"
    except BackendUnavailableError as exc:
        refusal = one_line(exc).partition("; ")[0]
    if refusal is not None:
        if check:
            raise LMStrixError(f"saved, but not checked: {refusal}")
        workspace.notify(f"saved, but LM Studio was not asked what it makes of it: {refusal}")
        return list(saved)
    return [
        replace(item, loaded=await _load_once(backend, item)) if _is_checked(item, check) else item for item in saved
    ]


def _is_checked(item: SavedDefaults, check: bool | None) -> bool:
    if item.change is None or check is False:
        return False
    return True if check else item.written and item.record.is_mlx


async def _load_once(backend: AsyncLMStudioBackend, item: SavedDefaults) -> LoadedAsSaved:
    assert item.change is not None
    saved = int(item.change.after[CONTEXT_LENGTH])
    instance_id = f"{ONCE_PREFIX}{uuid.uuid4().hex[:8]}"
    kind = item.record.kind
    runtime = await backend.runtime(item.record.format) if item.record.is_mlx else None
    try:
        loaded = await backend.load(
            item.record.model_key,
            None,
            instance_id=instance_id,
            kind=kind,
            ttl_s=_TIME_TO_LIVE_S,
            deadlines=Deadlines(),
        )
    except LMStrixError as exc:
        return LoadedAsSaved(saved_context_length=saved, runtime=runtime, problem=one_line(exc))
    # What it was loaded for is known: that it could not be unloaded changes nothing, and it has a time to live.
    with suppress(LMStrixError):
        await to_its_end(backend.unload(instance_id, kind=kind))
    return LoadedAsSaved(saved_context_length=saved, context_length=loaded.context_length, runtime=runtime)
