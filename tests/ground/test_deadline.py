"""One moment for all steps of a call."""

from __future__ import annotations

import asyncio

import pytest

from lmstrix.ground.deadline import Deadline, without_limit
from lmstrix.ground.errors import TimeLimitError


async def test_all_steps_end_at_the_same_moment_and_the_message_says_what_took_the_time() -> None:
    async with asyncio.timeout(5):
        deadline = Deadline(0.2)
        async with deadline.step("loading the model"):
            await asyncio.sleep(0.1)
        with pytest.raises(TimeLimitError) as caught:
            async with deadline.step("counting the prompt"):
                await asyncio.sleep(60)
        assert (caught.value.step, caught.value.limit_s) == ("counting the prompt", 0.2)
        message = str(caught.value)
        for part in ("time limit of 0.2 s passed", "of counting the prompt", "loading the model took", "`timeout_s`"):
            assert part in message
        with pytest.raises(TimeLimitError, match="of answering"):  # no further step begins
            async with deadline.step("answering"):
                await asyncio.sleep(60)


async def test_a_step_that_took_no_time_is_not_blamed() -> None:
    deadline = Deadline(0.05)
    async with deadline.step("connecting"):
        pass
    with pytest.raises(TimeLimitError) as caught:
        async with deadline.step("loading"):
            await asyncio.sleep(60)
    assert "connecting" not in str(caught.value)


async def test_without_a_limit_nothing_ends() -> None:
    deadline = without_limit()
    async with deadline.step("waiting"):
        await asyncio.sleep(0)
    assert (deadline.left_s, deadline.earlier()) == (None, "")


async def test_what_fails_by_itself_is_not_the_deadlines() -> None:
    with pytest.raises(TimeoutError):
        async with Deadline(60).step("reading"):
            raise TimeoutError
    with pytest.raises(ZeroDivisionError):
        async with Deadline(60).step("dividing"):
            raise ZeroDivisionError
