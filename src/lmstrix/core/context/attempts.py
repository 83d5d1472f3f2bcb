"""Loads our own instances for the test, one at a time; the journal announces each load before it is tried."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.core.context.verdict import Ending, EndOfTest, Outcome, outcome_of
from lmstrix.ground.context_lengths import ALIGNMENT_TOKENS, FLOOR_TOKENS
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.context.logbook import Logbook
    from lmstrix.core.context.report import ContextTestOptions, Subject
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import InstanceMemory, LoadedModel

LEAST_READABLE_BYTES = 2 * 2**30  # below this, what other programs take and free drowns a difference of free memory


class TimeBudget:
    """The time one model's test may take, from now on; None is without limit."""

    def __init__(self, budget_s: float | None) -> None:
        self._budget_s = budget_s
        self._started_at_s = time.perf_counter()

    @property
    def spent_s(self) -> float:
        return time.perf_counter() - self._started_at_s

    def check(self) -> None:
        """Raises EndOfTest once it is spent."""
        if self._budget_s is not None and self.spent_s > self._budget_s:
            raise EndOfTest(Outcome.TIMED_OUT, f"the time budget of {self._budget_s:g} s for this model is spent")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLoad:
    """A load that held: what was asked, what was given, what it was seen to take, and how long it took.

    `memory_bytes` is None where nothing was seen; `exact` when it is the server's own figure and not a difference of
    free memory. `free_bytes` is what one more model could have taken after the load; None where nobody knows.
    """

    asked: int
    given: int
    memory_bytes: int | None
    exact: bool
    free_bytes: int | None
    seconds: float

    @property
    def ending(self) -> Ending:
        """OK, or reduced or raised silently. Up to one step more is how servers round."""
        if self.given == self.asked or 0 <= self.given - self.asked < ALIGNMENT_TOKENS:
            outcome = Outcome.OK
        else:
            outcome = Outcome.REDUCED if self.given < self.asked else Outcome.RAISED
        return Ending(outcome, "" if self.given == self.asked else f"asked {self.asked:,}, loaded {self.given:,}")


class LoadAttempts:
    """The instance in hand (`instance`), how the latest load that held went (`latest`), and how many were tried."""

    def __init__(
        self,
        backend: ModelBackend,
        logbook: Logbook,
        subject: Subject,
        options: ContextTestOptions,
        *,
        time_budget: TimeBudget,
        new_instance_id: Callable[[], str],
        read_memory: Callable[[], int | None],
    ) -> None:
        self._backend = backend
        self._logbook = logbook
        self._subject = subject
        self._options = options
        self._time_budget = time_budget
        self._new_instance_id = new_instance_id
        self._read_memory = read_memory
        self.instance: LoadedModel | None = None
        self.latest: HeldLoad | None = None
        self.loads = 0
        self.failing = 0

    def serves(self, length: int, *, lazy: bool) -> bool:
        """Whether the instance in hand is for `length`: it has that context, or was asked for it and has more.

        On a lazy backend one instance serves all shorter lengths: it takes no more than the prompt needs.
        """
        if self.instance is None or self.latest is None:
            return False
        given = self.instance.context_length
        return given >= length if lazy else given == length or (self.latest.asked == length and given > length)

    async def load(self, length: int) -> Ending:
        """Load `length` in an instance of our own. Returns OK or memory evidence; anything else ends the test."""
        await self.release()  # two of ours at once would measure neither
        self._time_budget.check()
        self.loads += 1
        instance_id = self._new_instance_id()
        self._logbook.step("load", length)
        # Asking a driver for its cards' memory may take longer than a small load.
        telling = self._subject.cost(length) >= LEAST_READABLE_BYTES
        free_before = self._read_memory() if telling else None
        started_at_s = time.perf_counter()
        with self._logbook.intent("load", length) as intent:
            try:
                instance = await self._backend.load(
                    self._subject.model_key,
                    replace(self._options.load, context_length=length),
                    instance_id=instance_id,
                    deadlines=self._options.deadlines,
                    on_progress=lambda ratio: self._logbook.step("load", length, ratio=ratio),
                )
            except LMStrixError as exc:
                ending = Ending(outcome_of(exc, "load"), one_line(exc))
                intent.settle(ending.outcome, detail=ending.detail)
                self.failing += 1
                self._logbook.step("load", length, outcome=ending.outcome, detail=ending.detail)
                if not ending.outcome.is_memory_evidence:
                    raise EndOfTest(*ending) from exc
                return ending
            self.instance = instance
            intent.settle(Outcome.OK, detail=f"effective context {instance.context_length}")
        seconds = time.perf_counter() - started_at_s
        exact, server = await self.read_instance(), await self._backend.memory()
        free_after = self._read_memory() if server is None else server.machine_bytes
        taken = self._difference(free_before, free_after) if exact is None else exact.memory_bytes
        self.latest = HeldLoad(
            asked=length,
            given=instance.context_length,
            memory_bytes=taken,
            exact=exact is not None,
            free_bytes=free_after,
            seconds=seconds,
        )
        self._logbook.step("load", length, outcome=self.latest.ending.outcome, detail=self.latest.ending.detail)
        return Ending(Outcome.OK)

    async def read_instance(self) -> InstanceMemory | None:
        """What the instance in hand takes now, by its server's own figures; None where it does not say.

        After a prefill that is what the prefill has shown: figures are of the most that was held so far.
        """
        return None if self.instance is None else await self._backend.instance_memory(self.instance.instance_id)

    def _difference(self, free_before: int | None, free_after: int | None) -> int | None:
        """What a load took of the free memory, where that means something."""
        if free_before is None or free_after is None:
            return None
        taken = free_before - free_after
        # Where weights are mapped from the file they count as free memory: such a reading says nothing.
        return taken if taken >= self._subject.cost(FLOOR_TOKENS) / 2 else None

    async def release(self) -> None:
        """Unload our instance, if there is one."""
        if self.instance is not None:
            # A server that does not answer must not hide what the test found; `unload_strays` looks again at the end.
            with suppress(LMStrixError):
                await self._backend.unload(self.instance.instance_id, kind=self.instance.kind)
            # Forgotten only now: cancelled while it unloads, the instance is still known to whoever cleans up.
            self.instance = None
