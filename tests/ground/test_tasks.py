"""Clean-up is not cut short."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from lmstrix.ground.tasks import to_its_end, within


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


async def test_a_clean_up_that_never_ends_is_left_behind() -> None:
    began = asyncio.Event()

    async def stubborn() -> None:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(0.02)

    async def fail() -> None:
        raise ZeroDivisionError

    async with asyncio.timeout(5):
        await within(0.01, stubborn())
        await within(5, fail())  # nobody's concern any more
        assert began.is_set()
        await asyncio.sleep(0.05)
