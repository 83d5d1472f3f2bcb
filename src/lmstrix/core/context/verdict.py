"""What happened to one load or one prompt, told apart. Pure.

Only evidence about memory may move a limit: a guardrail's refusal, a broken chat template, an unknown error, somebody
else's unload, a lost connection, a timeout or an interrupt says nothing about how much context fits.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.ground import errors

if TYPE_CHECKING:
    from lmstrix.ground.types import AttemptKind


class Outcome(StrEnum):
    """How a step ended, in the words the user reads and the registry stores."""

    OK = "ok"
    REFUSED = "refused by guardrail"
    KEPT_FREE = "refused for headroom"
    OUT_OF_MEMORY = "out of memory at load"
    DIED_AT_LOAD = "engine died at load"
    LOAD_FAILED = "load failed"
    OUT_OF_MEMORY_AT_PREFILL = "out of memory at prefill"
    DIED_AT_PREFILL = "engine died at prefill"
    PREFILL_FAILED = "prefill failed"
    SPILLED = "memory spilled"
    TEMPLATE_FAILED = "chat template failed"
    UNLOADED = "unloaded meanwhile"
    REDUCED = "context reduced silently"
    RAISED = "context raised silently"
    CONTEXT_IGNORED = "runtime ignores the asked context"
    OVERFLOW_REJECTED = "prompt rejected as too long"
    TRUNCATED = "prompt truncated silently"
    EMPTY = "empty answer"
    GARBAGE = "garbage answer"
    RECALL_LOST = "recall lost"
    TIMED_OUT = "timed out"
    CONNECTION_LOST = "connection lost"
    UNREACHABLE = "server unreachable"
    NOT_FOUND = "model not found"
    INTERRUPTED = "interrupted"

    @property
    def is_memory_evidence(self) -> bool:
        """Whether it says that this size does not fit."""
        return self.is_certain or self in (Outcome.DIED_AT_LOAD, Outcome.DIED_AT_PREFILL, Outcome.SPILLED)

    @property
    def is_certain(self) -> bool:
        """Whether the engine itself says that memory ran out; a death may have other causes, such as a stray kill."""
        return self in (Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY_AT_PREFILL)

    @property
    def rules_out_the_length(self) -> bool:
        """Whether a shorter length may do where this one did not. A refusal is of today's settings: not remembered."""
        return self.is_memory_evidence or self is Outcome.REFUSED

    @property
    def has_loaded(self) -> bool:
        """Whether a load that ended so left an instance, with the context asked for or another."""
        return self in (Outcome.OK, Outcome.REDUCED, Outcome.RAISED, Outcome.CONTEXT_IGNORED)

    @property
    def ends_the_run(self) -> bool:
        """Whether trying other models makes no sense either."""
        return self in (Outcome.UNREACHABLE, Outcome.CONNECTION_LOST, Outcome.INTERRUPTED)


class Ending(NamedTuple):
    """How a load, a prompt or a whole test ended, with what the server said."""

    outcome: Outcome
    detail: str = ""


class EndOfTest(Exception):  # noqa: N818 - no error: what is known so far is the result
    """Ends a model's test before its search does: nothing that could still be tried would say more about memory."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.ending = Ending(outcome, detail)


def outcome_of(failure: BaseException, stage: AttemptKind) -> Outcome:
    """The outcome an exception of `lmstrix.ground.errors` stands for, at the stage it was raised."""
    for kind, outcome in _OUTCOMES[stage]:
        if isinstance(failure, kind):
            return outcome
    return Outcome.LOAD_FAILED if stage == "load" else Outcome.PREFILL_FAILED


# The first that fits counts: the errors are a family tree, and what is told apart stands before what it is a kind of.
_ANYWHERE: list[tuple[type[BaseException], Outcome]] = [
    (errors.BackendTimeoutError, Outcome.TIMED_OUT),
    (errors.BackendUnavailableError, Outcome.CONNECTION_LOST),
    (errors.ModelNotFoundError, Outcome.NOT_FOUND),
    (errors.ChatTemplateError, Outcome.TEMPLATE_FAILED),
]
_OUTCOMES: dict[AttemptKind, list[tuple[type[BaseException], Outcome]]] = {
    "load": [
        *_ANYWHERE,
        (errors.HeadroomError, Outcome.KEPT_FREE),
        (errors.LoadRefusedError, Outcome.REFUSED),
        (errors.OutOfMemoryError, Outcome.OUT_OF_MEMORY),
        (errors.EngineDiedError, Outcome.DIED_AT_LOAD),
        (errors.LoadTimeoutError, Outcome.TIMED_OUT),
    ],
    "prefill": [
        *_ANYWHERE,
        (errors.ContextOverflowError, Outcome.OVERFLOW_REJECTED),
        (errors.OutOfMemoryError, Outcome.OUT_OF_MEMORY_AT_PREFILL),
        (errors.EngineCrashedError, Outcome.DIED_AT_PREFILL),
        (errors.StreamStalledError, Outcome.TIMED_OUT),
        (errors.EmptyAnswerError, Outcome.EMPTY),
        (errors.ModelUnloadedError, Outcome.UNLOADED),
    ],
}
