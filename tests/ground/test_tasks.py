"""Clean-up is not cut short."""

from __future__ import annotations

import asyncio

import pytest

from lmstrix.ground.tasks import to_its_end


async def test_a_cancellation_waits_for_the_clean_up() -> None:
    done: list[str] = []
    begun = asyncio.Event()

    async def clean_up() -> str:
        begun.set()
        await asyncio.sleep(0.02)
        done.append("cleaned")
        return "up"

    async def steps() -> None:
        try:
            pass
        finally:
            await to_its_end(clean_up())

    task = asyncio.create_task(steps())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["cleaned"]
    assert await to_its_end(clean_up()) == "up"
