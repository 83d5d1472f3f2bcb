"""What kept a test from finding a longer context, told from what really happened. Pure.

First comes what broke the test off, then what the model itself does not do (recall), then the shortest failure above
the length found, then the end of what was to be tried. Where none of these was met, the search stopped because it
believes that more does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.context.verdict import Outcome
from lmstrix.core.registry.results import NO_LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.context.report import Step
    from lmstrix.core.registry.results import ContextResult
    from lmstrix.ground.choices import EndedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTest:
    """A test that has ended. `loadable` and `effective` are the lengths it found, `ceiling` the longest it was to try,
    and `ceiling_by` what set that; `given` is the context its server loaded, where that is known; `lazy` says that
    loads prove nothing; `steps` are its loads and prompts.
    """

    outcome: Outcome
    loadable: int | None
    effective: int | None
    ceiling: int
    ceiling_by: EndedBy | None
    steps: Sequence[Step] = ()
    given: int | None = None
    lazy: bool = False
    budget_spent: bool = False


def what_ended(end: FinishedTest) -> EndedBy | None:
    """What ended a test; None where its outcome says it (a lost connection, a server that gave less than asked)."""
    if end.budget_spent and end.outcome is Outcome.TIMED_OUT:
        return "time_budget"
    failed = _shortest_failure(end)
    if end.loadable is None:
        return (_failure(failed) or _belief(end)) if end.outcome.rules_out_the_length else None
    if end.outcome is Outcome.RECALL_LOST or (end.effective is not None and end.effective < end.loadable):
        return "recall"
    if end.outcome in (Outcome.TRUNCATED, Outcome.REDUCED):
        return None
    if failed is not None:
        return _failure(failed)
    if end.loadable >= end.ceiling:
        return end.ceiling_by
    # The runtime's own choice ended it, which is no limit of the model; below that choice memory did.
    chosen = end.outcome is Outcome.CONTEXT_IGNORED and end.given is not None and end.loadable >= end.given
    return None if chosen else _belief(end)


def leaves_more(result: ContextResult, ceiling: int) -> bool:
    """Whether a test up to `ceiling` may find a longer context than an earlier one, which did not meet a limit."""
    return result.ended_by in NO_LIMITS and (result.tested_context_length or 0) < ceiling


def _shortest_failure(end: FinishedTest) -> Step | None:
    """The shortest length above the one found that failed for lack of memory."""
    failed = [
        step
        for step in end.steps
        if step.kind != "recall"
        and step.outcome is not None
        and step.outcome.rules_out_the_length
        and step.context_length > (end.loadable or 0)
    ]
    return min(failed, key=lambda step: step.context_length, default=None)


def _failure(step: Step | None) -> EndedBy | None:
    if step is None:
        return None
    if step.outcome is Outcome.REFUSED:
        return "guardrail"
    if step.outcome is Outcome.SPILLED:
        return "memory_spilled"
    return "memory_at_load" if step.kind == "load" else "memory_at_prefill"


def _belief(end: FinishedTest) -> EndedBy:
    return "memory_at_prefill" if end.lazy else "memory_at_load"
