"""The watch on the event loop: what it counts, when it speaks up, and where its figures are."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from lmstrix.engine.loop_watch import LoopWatch, WatchLimits

if TYPE_CHECKING:
    import httpx

    from lmstrix.engine import EmbeddedEngine


def test_warnings_name_the_lag_and_are_few() -> None:
    said: list[str] = []
    watch = LoopWatch(said.append, WatchLimits(lag_s=0.25, quiet_s=10))
    for now_s, lag_s in ((1, 0.01), (2, 0.4), (3, 0.3), (4, 0.9), (5, 0.01), (11.9, 0.01)):
        watch.note(lag_s, now_s)
    assert said == ["the event loop was held up for 400 ms"]
    watch.note(0.01, 12)
    assert said[1:] == ["the event loop was held up for 900 ms, the longest of 2 such pauses"]
    watch.note(0.01, 30)
    assert len(said) == 2
    lag = watch.lag
    assert (lag.last_ms, lag.worst_ms, lag.late_count, lag.looks) == (10, 900, 3, 8)


async def test_a_loop_that_is_held_up_is_noticed() -> None:
    said: list[str] = []
    watch = LoopWatch(said.append, WatchLimits(interval_s=0.01, lag_s=0.1))
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0.05)
    time.sleep(0.3)
    await asyncio.sleep(0.05)
    watching.cancel()
    assert watch.lag.worst_ms >= 100
    assert said


def test_the_figures_are_served(engine: EmbeddedEngine, http: httpx.Client) -> None:
    figures = http.get("/api/lmstrix/loop").json()
    assert set(figures) == {"last_ms", "worst_ms", "late_count", "looks"}
    assert figures["worst_ms"] >= figures["last_ms"] >= 0
