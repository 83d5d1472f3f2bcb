"""What ended a test: every answer there is, and when none is given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import pytest

from lmstrix.core.context.ended import FinishedTest, leaves_more, what_ended
from lmstrix.core.context.report import Step, StepKind
from lmstrix.core.context.verdict import Outcome
from lmstrix.core.registry.ended_words import ended_line
from lmstrix.core.registry.results import NO_LIMITS, Configuration, ContextResult
from lmstrix.ground.choices import EndedBy
from lmstrix.reports.results import ended_cell

FOUND = FinishedTest(outcome=Outcome.OK, loadable=8192, effective=None, ceiling=16384, ceiling_by="declared", steps=())


def failed(kind: StepKind, length: int, outcome: Outcome) -> Step:
    return Step(model_key="m", kind=kind, context_length=length, outcome=outcome)


NO_LOAD = failed("load", 9216, Outcome.OUT_OF_MEMORY)
NO_FILL = failed("prefill", 8960, Outcome.DIED_AT_PREFILL)
NO_PASSAGE = failed("load", 8704, Outcome.REFUSED)
TOP = replace(FOUND, ceiling=8192)
NOTHING = replace(FOUND, loadable=None, outcome=Outcome.OUT_OF_MEMORY)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (TOP, "declared"),
        (replace(TOP, ceiling_by="threshold"), "threshold"),
        (replace(TOP, ceiling_by="guardrail"), "guardrail"),
        (replace(TOP, ceiling_by="asked_length"), "asked_length"),
        (replace(TOP, ceiling_by=None), None),
        (replace(TOP, outcome=Outcome.RAISED), "declared"),
        (replace(TOP, outcome=Outcome.GARBAGE), "declared"),
        (replace(FOUND, outcome=Outcome.REDUCED), None),
        (replace(FOUND, outcome=Outcome.TRUNCATED, effective=8192), None),
        (FOUND, "memory_at_load"),
        (replace(FOUND, lazy=True), "memory_at_prefill"),
        (replace(FOUND, steps=[NO_LOAD]), "memory_at_load"),
        (replace(FOUND, steps=[NO_LOAD, NO_FILL]), "memory_at_prefill"),
        (replace(FOUND, steps=[NO_LOAD, NO_FILL, NO_PASSAGE]), "guardrail"),
        (replace(FOUND, steps=[failed("load", 8192, Outcome.TIMED_OUT)]), "memory_at_load"),
        (replace(TOP, steps=[failed("prefill", 4096, Outcome.DIED_AT_PREFILL)]), "declared"),
        (replace(TOP, effective=3000, outcome=Outcome.RECALL_LOST), "recall"),
        (replace(TOP, effective=None, outcome=Outcome.RECALL_LOST), "recall"),
        (replace(TOP, effective=3000, outcome=Outcome.EMPTY), "recall"),
        (replace(TOP, effective=8192), "declared"),
        (replace(NOTHING, steps=[NO_LOAD]), "memory_at_load"),
        (replace(NOTHING, steps=[NO_FILL]), "memory_at_prefill"),
        (replace(NOTHING, steps=[NO_PASSAGE], outcome=Outcome.REFUSED), "guardrail"),
        (replace(NOTHING, outcome=Outcome.REFUSED), "memory_at_load"),
        (replace(NOTHING, outcome=Outcome.TIMED_OUT, budget_spent=True), "time_budget"),
        (replace(FOUND, outcome=Outcome.TIMED_OUT, budget_spent=True), "time_budget"),
        (replace(TOP, budget_spent=True), "declared"),
        (replace(NOTHING, outcome=Outcome.TIMED_OUT), None),
        (replace(NOTHING, outcome=Outcome.CONNECTION_LOST), None),
        (replace(NOTHING, outcome=Outcome.NOT_FOUND, steps=[NO_LOAD]), None),
    ],
)
def test_what_ended_it(end: FinishedTest, expected: EndedBy | None) -> None:
    assert what_ended(end) == expected


def result(ended_by: EndedBy | None, *, bad: int | None = None) -> ContextResult:
    return ContextResult(
        configuration=Configuration(),
        outcome="ok",
        tested_at=datetime.now(UTC),
        ended_by=ended_by,
        loadable_context_length=8192,
        effective_context_length=3000 if ended_by == "recall" else None,
        last_known_bad=bad,
    )


@pytest.mark.parametrize("ended_by", get_args(EndedBy))
def test_a_test_that_met_no_limit_leaves_more_to_find(ended_by: EndedBy) -> None:
    assert leaves_more(result(ended_by), 16384) is (ended_by in NO_LIMITS)
    assert not leaves_more(result(ended_by), 8192)


@pytest.mark.parametrize("ended_by", get_args(EndedBy))
def test_every_ending_has_its_words(ended_by: EndedBy) -> None:
    assert "_" not in ended_cell(result(ended_by))
    assert ended_cell(result(ended_by)) != "-"
    line = ended_line(result(ended_by))
    assert line is not None
    assert ("may be higher" in line) is (ended_by in NO_LIMITS)


def test_words_about_memory_are_true() -> None:
    assert ended_line(result("memory_at_load", bad=9216)) == "memory: 9,216 tokens did not load"
    assert ended_line(result("memory_at_load")) == "memory: more would probably not load"
    assert (ended_cell(result("memory_at_load", bad=9216)), ended_cell(result("memory_at_load"))) == (
        "memory at load",
        "memory (expected)",
    )
    assert ended_line(result("memory_at_prefill", bad=9216)) == "memory: 9,216 tokens could not be filled"
    assert ended_line(result("memory_at_prefill")) == "memory: more could probably not be filled"
    assert (ended_line(result(None)), ended_cell(result(None)), ended_cell(None)) == (None, "-", "-")
