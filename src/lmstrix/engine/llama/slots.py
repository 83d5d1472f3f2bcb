"""Which requests wait for a loaded model, which run in one of llama.cpp's slots, and when it was last used."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from lmstrix.engine.faults import unloaded_fault
from lmstrix.engine.llama.tally import Status, Tally, Turn
from lmstrix.engine.records import now_ms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager

_FURTHEST_FIRST: tuple[Status, ...] = ("generating", "processingPrompt", "computingEmbedding")


class Slots:
    """The `count` slots of one model. `on_idle` is called whenever its last request has been answered; `at_work` is
    entered while one is in a slot.
    """

    def __init__(
        self,
        count: int,
        *,
        on_idle: Callable[[], None],
        at_work: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.unloaded = False
        self.last_used_ms: int | None = None
        self.tally = Tally()
        self._turns: dict[Turn, None] = {}  # in the order of their coming
        self._on_idle = on_idle
        self._at_work = at_work
        # llama.cpp would queue as well, but nobody could tell then who waits and who runs.
        self._free = asyncio.Semaphore(count)
        self._running: set[Turn] = set()
        self._promised = 0
        self._promised_until = 0.0
        self._all_asked = asyncio.Event()

    @property
    def status(self) -> Status:
        """What the model does; with several requests, the furthest."""
        running = {turn.status for turn in self._running}
        return next((status for status in _FURTHEST_FIRST if status in running), "idle")

    @property
    def queued(self) -> int:
        """Requests not yet answered, the running ones included."""
        return len(self._turns)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The requests not yet answered, the oldest first."""
        return tuple(self._turns)

    def promise(self, *, within_s: float) -> None:
        """The model was handed to somebody who is to ask it something within that time."""
        self._promised += 1
        self._promised_until = asyncio.get_running_loop().time() + within_s
        self._all_asked.clear()

    async def promises_kept(self) -> None:
        """Wait until everybody has asked whom the model was handed to, or their time is over."""
        loop = asyncio.get_running_loop()
        # Again and again: while this waits it may be handed to others, who are given as long.
        while self._promised and loop.time() < self._promised_until:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._promised_until):
                    await self._all_asked.wait()
        self._promised = 0

    @contextmanager
    def request(self, on_unload: Callable[[], None] = lambda: None) -> Iterator[Turn]:
        """A request's turn; it counts as queued until the context is left."""
        if self.unloaded:
            raise unloaded_fault()
        self._promised = max(0, self._promised - 1)
        if not self._promised:
            self._all_asked.set()
        self.last_used_ms = now_ms()
        turn = Turn(on_unload=on_unload, tally=self.tally)
        self._turns[turn] = None
        try:
            yield turn
            self.tally.answered += 1
        finally:
            del self._turns[turn]
            self.last_used_ms = now_ms()
            if not self._turns:
                self._on_idle()

    @asynccontextmanager
    async def slot(self, turn: Turn, status: Status = "processingPrompt") -> AsyncIterator[None]:
        """One of the slots, in order of asking."""
        async with self._free:
            if self.unloaded:  # while it waited
                raise unloaded_fault()
            turn.status = status
            self._running.add(turn)
            try:
                with self._at_work():
                    yield
            finally:
                self._running.discard(turn)

    def close(self) -> None:
        """Turn newcomers away, and end what runs as unloaded."""
        self.unloaded = True
        self._promised = 0
        self._all_asked.set()
        for turn in self._running:
            turn.on_unload()
