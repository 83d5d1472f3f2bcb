"""What models may take on a server, chosen from what was read of it: one place for every engine and platform. Pure.

Whose word counts, first to last:
- the server's own, where it says what one more model may take: it knows what its build can use, wherever it runs;
- for an engine that does not say it, main memory, where no card is there that it might use instead;
- for LM Studio on this machine, the cards' free memory as read here, no more than its runtime has found; else what its
  runtime has found, a capacity; else main memory, of which graphics that share it may use their working set;
- for LM Studio elsewhere, the memory of the graphics that its runtime has found.

Where none of these says anything the budget is unknown, which the context search copes with. So it is of a machine
elsewhere without graphics: its main memory is known, but not how much of it is free.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from lmstrix.core.memory.prediction import breakdown, predicted_limit
from lmstrix.core.memory.runtime import EMBEDDED, EMBEDDED_ADDRESS_SPACE, LM_STUDIO, Runtime
from lmstrix.ground.headroom import NAME
from lmstrix.ground.units import counted, format_bytes

if TYPE_CHECKING:
    from lmstrix.core.memory.host import HostMemory
    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.ground.headroom import Headroom
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import HardwareSurvey, MemoryLimit, ServerMemory

__all__ = ["Budget", "BudgetSource", "Readings", "assumed_budget", "choose_budget"]

BudgetSource = Literal["server", "cards", "survey", "working set", "main memory", "unknown"]
"""Whose word a budget is."""
_TOLD: dict[MemoryLimit, str] = {
    "host": "told by the engine: what its machine has free",
    "control group": "told by the engine: the limit of its control group",
    "address space": "told by the engine: its limit of the address space",
    "memory limit": "told by the engine: its own limit",
    "graphics card": "told by the engine: what the graphics that it can use have free",
}
_MAIN_MEMORY = "the main memory that is free"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What models may take: `available_bytes`, None where nobody knows; `limited_by` is the server's word for why.

    `beside_checkpoints`: a server's context checkpoints, which lie in main memory, take from the same memory. `source`
    and `why` say where it comes from, and make no other budget. `headroom_bytes` are left out of it because the user
    wants them free, `server_headroom_bytes` of them at least, because the server's own guardrail keeps these free.
    """

    available_bytes: int | None
    runtime: Runtime
    limited_by: MemoryLimit | None = None
    beside_checkpoints: bool = True
    source: BudgetSource = field(default="unknown", compare=False)
    why: str = field(default="", compare=False)
    headroom_bytes: int = 0
    server_headroom_bytes: int = 0

    @property
    def explained(self) -> str:
        """Where it comes from, and what of that is kept free by whom."""
        if not self.headroom_bytes:
            return self.why
        whose = f"the engine's own {NAME}" if self.headroom_bytes == self.server_headroom_bytes else NAME
        return f"{self.why}, less {format_bytes(self.headroom_bytes)} that {whose} keeps free"

    @property
    def whole(self) -> Budget:
        """The same, with nothing kept free."""
        if self.available_bytes is None:
            return self
        return replace(self, available_bytes=self.available_bytes + self.headroom_bytes, headroom_bytes=0)

    def keeping(self, headroom: Headroom) -> Budget:
        """The same, without what is to stay free: the larger of what the server and the user want, not their sum."""
        available = self.whole.available_bytes
        if available is None:
            return self
        kept = max(headroom.of(available), self.server_headroom_bytes)
        if kept == self.headroom_bytes:
            return self
        return replace(self, available_bytes=available - kept, headroom_bytes=kept)

    def cost(self, shape: ModelShape, context_length: int, load: LoadConfig) -> int:
        """What loading takes. Readings after a load compare with it: checkpoints come later."""
        return breakdown(shape, context_length, load, runtime=self.runtime).loaded_bytes

    def touched_later(self, shape: ModelShape, context_length: int, load: LoadConfig) -> int:
        """How much of that a load has not taken before a long prompt is read."""
        # A card's buffers are taken as they are made.
        if self.limited_by == "graphics card":
            return 0
        return breakdown(shape, context_length, load, runtime=self.runtime).touched_later_bytes

    def use(self, shape: ModelShape, context_length: int, load: LoadConfig) -> int:
        """What the model takes in use, in the memory this budget is of."""
        return self.cost(shape, context_length, load) + self._checkpoint_bytes(shape, load)

    def for_loading(self, shape: ModelShape, load: LoadConfig) -> int | None:
        """What a load of this model may take, so that its checkpoints fit too."""
        if self.available_bytes is None:
            return None
        return max(0, self.available_bytes - self._checkpoint_bytes(shape, load))

    def limit(self, shape: ModelShape, ceiling: int, load: LoadConfig) -> int:
        """The longest context up to `ceiling` that fits; `ceiling` where nobody knows."""
        room = self.for_loading(shape, load)
        return ceiling if room is None else predicted_limit(shape, room, ceiling, load, runtime=self.runtime)

    def _checkpoint_bytes(self, shape: ModelShape, load: LoadConfig) -> int:
        parts = breakdown(shape, 1, load, runtime=self.runtime)  # they are of one size at any length
        return parts.checkpoint_bytes if self.beside_checkpoints else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What was read of a server. `told` is its own word on memory, `host` this machine's memory where the server is on
    it, `survey` what its runtime has found; each None where there is none.
    """

    engine: Literal["lmstudio", "embedded"]
    told: ServerMemory | None = None
    host: HostMemory | None = None
    survey: HardwareSurvey | None = None


def choose_budget(readings: Readings, *, with_own_limit: bool = False) -> Budget:
    """The budget these readings give; `with_own_limit` for those who do not ask the server's guardrail as well."""
    if readings.told is not None:
        return _told(readings.told, with_own_limit=with_own_limit)
    if readings.engine == "embedded":
        return _silent_engine(readings.host)
    return _elsewhere(readings.survey) if readings.host is None else _here(readings.host, readings.survey)


def assumed_budget(host: HostMemory, runtime: Runtime, *, platform: str) -> Budget:
    """What to reckon with before any server is asked."""
    # The engine's package for Windows computes on the processor alone.
    if runtime is EMBEDDED and platform == "win32":
        return _main_memory(host, runtime)
    return _of_host(host, runtime)


def _told(told: ServerMemory, *, with_own_limit: bool) -> Budget:
    available, limited_by = (
        (told.available_bytes, told.limited_by) if with_own_limit else (told.machine_bytes, told.machine_limited_by)
    )
    return Budget(
        available_bytes=available,
        runtime=EMBEDDED_ADDRESS_SPACE if told.machine_limited_by == "address space" else EMBEDDED,
        limited_by=limited_by,
        server_headroom_bytes=told.headroom_bytes if with_own_limit else 0,
        source="server",
        why=_TOLD[limited_by],
    )


def _silent_engine(host: HostMemory | None) -> Budget:
    if host is None:
        return _unknown(EMBEDDED, "the engine does not say what it may take, and is on another machine")
    if host.gpus or host.unreadable_gpus:
        return _unknown(EMBEDDED, "the engine does not say whether it can use the graphics cards")
    return _of_host(host, EMBEDDED)


def _here(host: HostMemory, survey: HardwareSurvey | None) -> Budget:
    if survey is not None and not survey.graphics:
        return _main_memory(host, LM_STUDIO, "LM Studio's runtime uses no graphics")
    found = 0 if survey is None else sum(card.memory_bytes for card in survey.cards)
    if host.gpus and not host.unreadable_gpus:
        free = _of_host(host, LM_STUDIO)
        return free if not 0 < found < sum(card.free_bytes for card in host.gpus) else _surveyed(survey, found)
    if found:
        return _surveyed(survey, found)
    if host.unreadable_gpus and (survey is None or not survey.graphics):
        return _unknown(LM_STUDIO, f"nothing tells the memory of {', '.join(host.unreadable_gpus)}")
    shared = 0 if survey is None else survey.working_set_bytes
    if shared and host.working_set_bytes is None:
        return _working_set(min(host.available_bytes, shared))
    return _of_host(host, LM_STUDIO)


def _elsewhere(survey: HardwareSurvey | None) -> Budget:
    if survey is None:
        return _unknown(LM_STUDIO, "LM Studio is on another machine, and does not say what graphics it has")
    if found := sum(card.memory_bytes for card in survey.cards):
        return _surveyed(survey, found)
    if survey.working_set_bytes:
        return _working_set(survey.working_set_bytes)
    return _unknown(LM_STUDIO, "LM Studio is on another machine, and does not say how much of its main memory is free")


def _surveyed(survey: HardwareSurvey | None, found_bytes: int) -> Budget:
    cards = 0 if survey is None else len(survey.cards)
    return Budget(
        available_bytes=found_bytes,
        runtime=LM_STUDIO,
        beside_checkpoints=False,
        source="survey",
        why=f"all the memory of {counted(cards, 'graphics card')} that LM Studio's runtime has found, free or not",
    )


def _working_set(available_bytes: int) -> Budget:
    return Budget(
        available_bytes=available_bytes,
        runtime=LM_STUDIO,
        source="working set",
        why="what graphics may use of main memory, as found by LM Studio's runtime",
    )


def _of_host(host: HostMemory, runtime: Runtime) -> Budget:
    """What this machine has for whatever runs models best on it."""
    if host.gpus:
        return Budget(
            available_bytes=host.model_budget_bytes,
            runtime=runtime,
            beside_checkpoints=False,
            source="cards",
            why=f"the free memory of {counted(len(host.gpus), 'graphics card')} of this machine",
        )
    if host.working_set_bytes is not None and host.working_set_bytes < host.available_bytes:
        why = "what graphics may use of main memory"
        return Budget(available_bytes=host.model_budget_bytes, runtime=runtime, source="working set", why=why)
    return _main_memory(host, runtime)


def _main_memory(host: HostMemory, runtime: Runtime, because: str = "") -> Budget:
    return Budget(
        available_bytes=host.available_bytes,
        runtime=runtime,
        source="main memory",
        why=f"{_MAIN_MEMORY}: {because}" if because else _MAIN_MEMORY,
    )


def _unknown(runtime: Runtime, why: str) -> Budget:
    return Budget(available_bytes=None, runtime=runtime, why=why)
