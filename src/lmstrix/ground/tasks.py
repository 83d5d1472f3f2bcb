"""Clean-up after a step, however that ended: neither cut short nor waited for without end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

T = TypeVar("T")

CLEAN_UP_S: Final = 1.5
"""How long whoever wants to leave waits for what it leaves behind: a request that was sent needs nobody to wait."""


async def to_its_end(clean_up: Coroutine[Any, Any, T]) -> T:
    """Await the clean-up to its end. A cancellation meanwhile leaves it CLEAN_UP_S more, and then goes on.

    Without it, somebody who leaves an answer while its model is being unloaded leaves the model loaded.
    """
    import asyncio  # here, as modules that a dry run imports know this one

    task = asyncio.ensure_future(clean_up)  # a task of its own, which a cancellation of this one does not reach
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _given_up(task, CLEAN_UP_S)
        raise


async def within(limit_s: float, clean_up: Coroutine[Any, Any, object]) -> None:
    """Give the clean-up so long, whatever it does with a cancellation. What it fails with is nobody's concern any more.

    For what follows a failure or an interrupt, and for code that is not ours: `asyncio.timeout` would wait for a step
    that swallows its cancellation.
    """
    import asyncio

    await _given_up(asyncio.ensure_future(clean_up), limit_s)


async def _given_up(task: asyncio.Future[Any], limit_s: float) -> None:
    import asyncio

    try:
        await asyncio.wait({task}, timeout=limit_s)
    finally:
        task.cancel()
        task.add_done_callback(_looked_at)


def _looked_at(task: asyncio.Future[Any]) -> None:
    """So that nobody is told of a failure that was never retrieved."""
    if not task.cancelled():
        task.exception()
