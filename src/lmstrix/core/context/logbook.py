"""What is written down while one model is tested: intents and probes in the journal, steps for a progress display."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmstrix.core.context.report import Step
from lmstrix.core.context.verdict import Outcome, outcome_of
from lmstrix.core.history.conditions import UNKNOWN
from lmstrix.core.history.journal import Probe
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.core.context.probe import Measured
    from lmstrix.core.context.report import StepKind, Subject
    from lmstrix.core.history.journal import Journal, Proves
    from lmstrix.ground.types import AttemptKind


class OpenIntent:
    """An attempt that is on the disk and whose outcome is not. A failure counts only against a model that is alone."""

    def __init__(self, journal: Journal, intent_id: int, *, alone: bool) -> None:
        self._journal = journal
        self._intent_id = intent_id
        self._alone = alone
        self.settled = False

    def settle(self, outcome: Outcome, *, detail: str = "", filled: bool = False) -> None:
        """Write down how it ended; `filled`: the context held, whatever was answered."""
        # Beside other models a lack of memory is theirs as much as this one's: remembered, it would cap later tests.
        proves: Proves = "nothing"
        if outcome is Outcome.OK or filled:
            proves = "good"
        elif outcome.is_memory_evidence and self._alone:
            proves = "bad" if outcome.is_certain else "doubt"
        self._journal.settle(self._intent_id, str(outcome), proves=proves, details={"detail": detail})
        self.settled = True

    def settle_interrupted(self) -> None:
        self._journal.settle(self._intent_id, str(Outcome.INTERRUPTED), proves="nothing")


class Logbook:
    """The records of one model's test. Journal rows are on the disk when a call returns."""

    def __init__(self, journal: Journal, run_id: str, subject: Subject, on_step: Callable[[Step], None]) -> None:
        self._journal = journal
        self._run_id = run_id
        self._subject = subject
        self._on_step = on_step
        self.conditions = UNKNOWN
        self.steps: list[Step] = []

    @contextmanager
    def intent(self, kind: AttemptKind, length: int) -> Iterator[OpenIntent]:
        """An attempt, on disk before it is made. Cancelled, it proves nothing; a crash leaves it open.

        Its `conditions` are those before the load, for a prefill too: what the load took is no longer free.
        """
        # The journal is written synchronously, between awaits, on purpose: a task is cancelled only where it awaits, so
        # nothing can come between the row and the step it announces, and rows keep the order of what was done.
        subject = self._subject
        intent_id = self._journal.intend(
            self._run_id,
            subject.path,
            subject.configuration.key,
            kind=kind,
            context_length=length,
            predicted_bytes=subject.cost(length),
            conditions=self.conditions,
        )
        intent = OpenIntent(self._journal, intent_id, alone=subject.alone)
        try:
            yield intent
        except LMStrixError as exc:
            if not intent.settled:
                intent.settle(outcome_of(exc, kind), detail=one_line(exc))
            raise
        finally:
            # Left open, the row would cast doubt on its size: only a process that died leaves one so.
            if not intent.settled:
                intent.settle_interrupted()

    def probe(self, measured: Measured, *, text: int) -> None:
        """Keep what one prompt came to, and which of the two texts it was of."""
        probe = Probe(
            model_path=self._subject.path,
            configuration=self._subject.configuration.key,
            context_length=measured.target_tokens,
            passed=measured.passed,
            prompt_tokens=measured.prompt_tokens,
            score_ratio=measured.ratio,
            details={
                "outcome": str(measured.outcome),
                "reason": measured.reason,
                "answer": measured.answer,
                "text": text,
            },
        )
        self._journal.add_probe(probe, run_id=self._run_id)

    def step(
        self,
        kind: StepKind,
        length: int,
        *,
        ratio: float | None = None,
        outcome: Outcome | None = None,
        detail: str = "",
    ) -> None:
        """Tell the progress display; a step with an outcome is part of the report too."""
        step = Step(
            model_key=self._subject.model_key,
            kind=kind,
            context_length=length,
            ratio=ratio,
            outcome=outcome,
            detail=detail,
        )
        if outcome is not None:
            self.steps.append(step)
        self._on_step(step)

    def answering(self, length: int, answered_tokens: int, max_tokens: int) -> None:
        """Tell the progress display how far the answer to a prompt of `length` tokens is."""
        self._on_step(
            Step(
                model_key=self._subject.model_key,
                kind="answer",
                context_length=length,
                ratio=answered_tokens / max_tokens,
                answered_tokens=answered_tokens,
                max_tokens=max_tokens,
            )
        )
