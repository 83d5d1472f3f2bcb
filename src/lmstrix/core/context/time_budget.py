"""The time one model's test may take."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lmstrix.core.context.verdict import EndOfTest, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class TimeBudget:
    """The time one model's test may take, from now on; None is without limit. `ran_out` says that it ended the test."""

    def __init__(self, budget_s: float | None) -> None:
        self._budget_s = budget_s
        self._started_at_s = time.perf_counter()
        self.ran_out = False

    @property
    def spent_s(self) -> float:
        return time.perf_counter() - self._started_at_s

    @asynccontextmanager
    async def enforced(self) -> AsyncGenerator[None]:
        """Cancel what is awaited inside once the budget is spent, on the server too. Raises EndOfTest then.

        Cancelled, not asked between two steps: one load or prefill of a large model takes minutes.
        """
        import asyncio  # here, as a dry run imports this module and needs no loop

        left_s = None if self._budget_s is None else self._budget_s - self.spent_s
        try:
            async with asyncio.timeout(left_s) as patience:
                yield
        except TimeoutError as exc:
            if not patience.expired():
                raise
            self.ran_out = True
            reason = f"the time budget of {self._budget_s:g} s for this model is spent"
            raise EndOfTest(Outcome.TIMED_OUT, reason) from exc
