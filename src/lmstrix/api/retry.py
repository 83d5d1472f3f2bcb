"""Asking again, where that is safe: connecting, and reads that change nothing. Nothing else is ever asked twice.

A prediction, a load or an unload that broke off may have happened all the same. A port without a listener, a refusal
and an unreadable answer would be the same a moment later, and a deadline that has passed leaves no time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """How often to ask, and how long to wait before asking again: a random time below a bound that doubles."""

    attempts: int = 3  # one lost connection is an accident, three are a state
    first_wait_s: float = 0.05  # a server that restarts its socket is back in less
    longest_wait_s: float = 0.5  # a person waits for the answer


LIMITS = RetryLimits()


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    *,
    passes: Callable[[BaseException], bool],
    limit_s: float | None,
    retries: int | None = None,
) -> T:
    """What the first attempt that works returns. `passes` says which failures may be over in a moment.

    `retries` is how many attempts may follow the first; None leaves the usual number.
    All attempts together take at most `limit_s`. Raises the last failure, or TimeoutError where none came before it.
    """
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    passed: list[BaseException] = []

    def noted(failure: BaseException) -> bool:
        passing = passes(failure)
        if passing:
            passed.append(failure)
        return passing

    retrying = AsyncRetrying(
        stop=stop_after_attempt(LIMITS.attempts if retries is None else retries + 1),
        wait=wait_random_exponential(multiplier=LIMITS.first_wait_s, max=LIMITS.longest_wait_s),
        retry=retry_if_exception(noted),
        reraise=True,
    )
    try:
        async with asyncio.timeout(limit_s):
            return await retrying(attempt)
    except TimeoutError:
        if passed:  # what went wrong says more than that the time for another attempt ran out
            raise passed[-1] from None
        raise
