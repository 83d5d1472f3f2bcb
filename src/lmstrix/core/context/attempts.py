"""Loads our own instances for the test, one at a time; the journal announces each load before it is tried."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.context.mlx_runtimes import ignored_words
from lmstrix.core.context.verdict import Ending, EndOfTest, Outcome, outcome_of
from lmstrix.core.memory.context_fit import ContextFit, context_fits
from lmstrix.ground.context_lengths import FLOOR_TOKENS, keeps_asked
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.text import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from lmstrix.core.context.logbook import Logbook
    from lmstrix.core.context.report import ContextTestOptions, Subject
    from lmstrix.core.history.conditions import Conditions
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import InstanceMemory, LoadedModel, MemoryShortage, ServerMemory

WatchLog = Callable[[], Callable[[], str]]
"""Called before a load; what it returns is called after it, and tells what the server has logged in between."""
# For a tester that is killed: what it leaves loaded goes by itself. Servers count idle time, but should one count from
# the beginning of a request, no prefill may take so long: a million tokens at 25 per second.
TIME_TO_LIVE_S = 12 * 3600.0
LEAST_READABLE_BYTES = 2 * 2**30  # below this, what other programs take and free drowns a difference of free memory


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLoad:
    """A load that held: what was asked, what was given, what it was seen to take, and how long it took.

    `memory_bytes` is None where nothing was seen; `exact` when it is the server's own figure and not a difference of
    free memory. `free_bytes` is what was left beside it; None where nobody knows. `fit` is what the server logged.
    """

    asked: int
    given: int
    memory_bytes: int | None
    exact: bool
    free_bytes: int | None
    seconds: float
    fit: ContextFit | None = None

    def ending(self, subject: Subject) -> Ending:
        """OK, or reduced or raised silently, or a runtime's own choice."""
        if keeps_asked(self.asked, self.given):
            return Ending(Outcome.OK, "" if self.given == self.asked else self._difference)
        if subject.lazy:
            runtime = (self.fit and self.fit.runtime) or subject.runtime
            return Ending(Outcome.CONTEXT_IGNORED, ignored_words(self.asked, self.given, runtime))
        return Ending(Outcome.REDUCED if self.given < self.asked else Outcome.RAISED, self._difference)

    @property
    def _difference(self) -> str:
        return f"asked {self.asked:,}, loaded {self.given:,}"


class FilledMemory(NamedTuple):
    """What an instance took with its context filled; None where nothing was seen. `exact` when its server says so."""

    memory_bytes: int | None
    exact: bool


class LoadAttempts:
    """The instance in hand (`instance`), how the latest load that held went (`latest`), and how many were tried."""

    def __init__(
        self,
        backend: ModelBackend,
        logbook: Logbook,
        subject: Subject,
        options: ContextTestOptions,
        *,
        new_instance_id: Callable[[], str],
        read_memory: Callable[[], int | None],
        read_conditions: Callable[[], Awaitable[Conditions]],
        watch_log: WatchLog | None = None,
    ) -> None:
        self._backend = backend
        self._logbook = logbook
        self._subject = subject
        self._options = options
        self._new_instance_id = new_instance_id
        self._read_memory = read_memory
        self._read_conditions = read_conditions
        self._watch_log = watch_log if subject.lazy else None
        self.instance: LoadedModel | None = None
        self.latest: HeldLoad | None = None
        self.loads = 0
        self.failing = 0
        self._instance_id = ""
        self._free_before: int | None = None
        self._least_free: int | None = None

    @property
    def free_bytes(self) -> int | None:
        """What was free before the latest load; None where nobody knows."""
        return self._logbook.conditions.free_bytes

    def serves(self, length: int, *, lazy: bool) -> bool:
        """Whether the instance in hand is for `length`: it has that context, or was asked for it and has more.

        On a lazy backend one instance serves all shorter lengths: it takes no more than the prompt needs.
        """
        if self.instance is None or self.latest is None:
            return False
        given = self.instance.context_length
        return given >= length if lazy else given == length or (self.latest.asked == length and given > length)

    async def load(self, length: int) -> Ending:
        """Load `length` in an instance of our own. Returns OK, or why a shorter one may do; all else ends the test."""
        await self.release()  # two of ours at once would measure neither
        self.loads += 1
        self._instance_id = instance_id = self._new_instance_id()
        self._logbook.step("load", length)
        # Asking a driver for its cards' memory may take longer than a small load.
        telling = self._subject.cost(length) >= LEAST_READABLE_BYTES
        self._free_before = free_before = self._read_memory() if telling else None
        self._least_free = None
        self._logbook.conditions = await self._read_conditions()
        logged = self._watch_log() if self._watch_log is not None else None
        started_at_s = time.perf_counter()
        with self._logbook.intent("load", length) as intent:
            try:
                instance = await self._backend.load(
                    self._subject.model_key,
                    replace(self._options.load, context_length=length),
                    instance_id=instance_id,
                    ttl_s=TIME_TO_LIVE_S,
                    deadlines=self._options.deadlines,
                    on_progress=lambda ratio: self._logbook.step("load", length, ratio=ratio),
                )
            except LMStrixError as exc:
                ending = Ending(outcome_of(exc, "load"), one_line(exc))
                intent.settle(ending.outcome, detail=ending.detail)
                # A broken chat template would fail at any length: that is none of the search's failures.
                self.failing += int(ending.outcome is not Outcome.TEMPLATE_FAILED)
                self._logbook.step("load", length, outcome=ending.outcome, detail=ending.detail)
                if not ending.outcome.rules_out_the_length:
                    raise EndOfTest(*ending) from exc
                return ending
            self.instance = instance
            fit = _fit_of(instance, logged() if logged is not None else "")
            also = f"; {fit.words}" if fit is not None else ""
            intent.settle(Outcome.OK, detail=f"effective context {instance.context_length}{also}")
        seconds = time.perf_counter() - started_at_s
        exact, server = await self.read_instance(), await self._backend.memory()
        free_after = self._read_memory() if server is None else _left_beside(server, exact)
        taken = self._difference(free_before, free_after) if exact is None else exact.memory_bytes
        self.latest = HeldLoad(
            asked=length,
            given=instance.context_length,
            memory_bytes=taken,
            exact=exact is not None,
            free_bytes=free_after,
            seconds=seconds,
            fit=fit,
        )
        ending = self.latest.ending(self._subject)
        self._logbook.step("load", length, outcome=ending.outcome, detail=ending.detail)
        return Ending(Outcome.OK)

    async def read_instance(self) -> InstanceMemory | None:
        """What the instance in hand takes now, by its server's own figures; None where it does not say.

        After a prefill that is what the prefill has shown: figures are of the most that was held so far.
        """
        return None if self.instance is None else await self._backend.instance_memory(self.instance.instance_id)

    async def shortage(self) -> MemoryShortage | None:
        """How the latest instance was ended for lack of memory, where its server says it."""
        return await self._backend.memory_shortage(self._instance_id)

    def watch_fill(self) -> None:
        """Look at what is free while a prompt is read: much of what a lazy runtime takes then is given back after."""
        if not self._subject.lazy or self._free_before is None:
            return
        free = self._read_memory()
        if free is not None:
            self._least_free = free if self._least_free is None else min(free, self._least_free)

    async def read_filled(self) -> FilledMemory:
        """What the instance in hand took at most while its context was filled."""
        told = await self.read_instance()
        if told is not None:
            return FilledMemory(told.memory_bytes, exact=True)
        self.watch_fill()
        return FilledMemory(self._difference(self._free_before, self._least_free), exact=False)

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


def _fit_of(instance: LoadedModel, logged: str) -> ContextFit | None:
    """What the server logged of this load: the fit that came to its context, as others may have loaded beside it."""
    fits = [fit for fit in context_fits(logged) if fit.fitted_tokens == instance.context_length]
    return fits[-1] if fits else None


def _left_beside(server: ServerMemory, taken: InstanceMemory | None) -> int:
    """What a load has left of its server's memory, once it has touched all that it is to touch."""
    if taken is None:
        return server.machine_bytes
    if taken.limited_by == "address space":
        return max(0, server.machine_bytes - taken.memory_bytes)  # every process has that limit for itself
    if taken.limited_by == "graphics card":
        return server.machine_bytes
    return max(0, server.machine_bytes - max(0, taken.memory_bytes - taken.resident_bytes))
