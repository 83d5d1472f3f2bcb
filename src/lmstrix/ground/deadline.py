"""The moment by which a call is to be done, over all its steps: made once where the call begins, and passed down.

    deadline = Deadline(8.0)
    async with deadline.step("loading qwen3-8b"):
        ...                                          # TimeLimitError when the 8 s end here, whoever waits for whom

Every step ends at the same moment, whatever limits of their own the waits inside it have. A step must not be a
generator that yields from within it: its end would then interrupt whoever reads the generator.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from lmstrix.ground.errors import TimeLimitError
from lmstrix.ground.units import format_seconds
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_WORTH_TELLING = 0.1  # an earlier step that took less of the time than this did not use it up


class Deadline:
    """`limit_s` from now; with None it never passes. Remembers how long each step took, for whoever asks what did."""

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self._began_at = time.monotonic()
        self._took_s: dict[str, float] = {}

    @property
    def left_s(self) -> float | None:
        """How much time there still is, negative once it has passed; None without limit."""
        return None if self.limit_s is None else self._began_at + self.limit_s - time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the time stand still, between two steps: for a person who is asked something."""
        began_at = time.monotonic()
        try:
            yield
        finally:
            self._began_at += time.monotonic() - began_at

    @asynccontextmanager
    async def step(self, doing: str) -> AsyncIterator[None]:
        """Do something before the moment comes. `doing` completes "the time ended while …". Raises TimeLimitError."""
        import asyncio  # here, as records that a dry run imports hold a deadline

        began_at, left_s = time.monotonic(), self.left_s
        try:
            async with asyncio.timeout(left_s) as patience:
                yield
        except TimeoutError as exc:
            if not patience.expired():
                raise  # somebody else's
            # Not until now: what was cancelled may have cleaned up since.
            raise self._passed(doing, max(0.0, left_s or 0.0)) from exc
        finally:
            self._took_s[doing] = self._took_s.get(doing, 0.0) + time.monotonic() - began_at

    def _passed(self, doing: str, took_s: float) -> TimeLimitError:
        limit_s = self.limit_s or 0.0
        earlier = self.earlier(but=doing)
        return TimeLimitError(
            f"the time limit of {limit_s:g} s passed after {format_seconds(took_s)} of {doing}"
            f"{f' ({earlier})' if earlier else ''}; allow more time ({parameter('timeout_s')}), or look whether the "
            "server is busy or hangs",
            step=doing,
            limit_s=limit_s,
        )

    def earlier(self, *, but: str = "") -> str:
        """The steps that took a good part of the time, and how long: "loading qwen3-8b took 7.40 s"."""
        long_s = _WORTH_TELLING * (self.limit_s or 0.0)
        told = [
            f"{doing} took {format_seconds(took_s)}"
            for doing, took_s in self._took_s.items()
            if self.limit_s is not None and took_s >= long_s and doing != but
        ]
        return ", ".join(told)


def without_limit() -> Deadline:
    """A moment that never comes."""
    return Deadline(None)
