"""Clean-up that is not cut short: what must happen after a step, whether it ended, failed or was cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


async def to_its_end(clean_up: Coroutine[Any, Any, T]) -> T:
    """Await the clean-up to its end, also when the awaiting task is cancelled meanwhile; then the cancellation goes on.

    Without it, somebody who leaves an answer while its model is being unloaded leaves the model loaded.
    """
    import asyncio  # here, as modules that a dry run imports know this one

    task = asyncio.ensure_future(clean_up)  # a task of its own, which a cancellation of this one does not reach
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
