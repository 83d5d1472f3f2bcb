"""An event loop in which time passes only while everybody waits: hours of deadlines and budgets in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise AssertionError("everybody waits, for nothing that has a time")
        self.now += 0.0 if found else timeout or 0.0
        return found


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Waiting takes no time, and what goes to a thread is done at once."""

    def __init__(self) -> None:
        self._simulated = _JumpingSelector()
        super().__init__(self._simulated)

    def time(self) -> float:
        return self._simulated.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001 - passed on, as a thread would
            done.set_exception(exc)
        return done


def run_simulated(loop: SimulatedLoop, steps: Coroutine[Any, Any, T]) -> T:
    """Run the steps on this loop, and close it."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(steps)
