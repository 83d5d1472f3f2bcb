"""The context tester on the terminal: what it does now on stderr, what it found on stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lmstrix.core.context.verdict import Outcome
from lmstrix.core.registry.ended_words import ended_line
from lmstrix.ground.units import counted, format_about, format_bytes, format_seconds, format_tokens
from lmstrix.reports.json_form import json_form
from lmstrix.reports.progress import ProgressLine
from lmstrix.reports.recalled import recalled_text
from lmstrix.reports.results import ended_cell
from lmstrix.reports.table import Column, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.context.eta import TimeLeft
    from lmstrix.core.context.report import ContextReport, ModelTest, PlannedTest, Step
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import RecallPoint
    from lmstrix.reports.console import Console

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = ".:-=+*#@"
_STEPS = {"load": "loading", "prefill": "filling", "answer": "answering", "recall": "recall at"}
_NOT_OF_A_FINISHED_STEP = ("model_key", "ratio", "answered_tokens", "max_tokens")
_REPORT_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="DECLARED", right=True, drop=3),
    Column(title="LOADS", right=True, drop=1),
    Column(title="RECALLS", right=True, drop=2),
    Column(title="USE", right=True),
    Column(title="TRIES", right=True, drop=5),
    Column(title="TIME", right=True, drop=4),
    Column(title="ENDED BY", drop=6),
    Column(title="OUTCOME", shrink=True, keep=21),
)
_PLAN_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="AT MOST", right=True, drop=1),
    Column(title="NEEDS", right=True, drop=2),
    Column(title="AVAILABLE", right=True, drop=3),
    Column(title="EXPECTED", right=True),
    Column(title="FIRST LOAD", right=True),
    Column(title="RISK", right=True, drop=4),
)


class ContextTestProgressLine(ProgressLine):
    """What a test does now; where no line is drawn, a note for each model and, with --verbose, each finished step."""

    _label = ""
    _shown_left = ""

    def model(self, record: ModelRecord, place: int, count: int) -> None:
        """A model's turn has come."""
        of_many = f" ({place}/{count})" if count > 1 else ""
        # The key gives way: what is done with it, and how long that takes, stands behind it.
        key = shorten(record.model_key, max(8, self.width // 5)) if self.live else record.model_key
        self._label = key if self.narrow and self.live else key + of_many
        self._shown_left = ""
        self.begin(f"{self._label}: planning")
        if not self.live and count > 1:
            self._console.note(f"testing {self._label}")

    def time_left(self, left: TimeLeft) -> None:
        """How long it will still take, to be shown with the next step."""
        self._shown_left = ""
        if left.model_s is None:
            return
        model = format_about(left.model_s)
        if self.narrow:
            self._shown_left = model
        elif left.all_s is None or left.all_s == left.model_s:
            self._shown_left = f"{model} left"
        else:
            self._shown_left = f"{model} left ({format_about(left.all_s).removeprefix('about ')} for all)"

    def step(self, step: Step) -> None:
        """Something began, went on, or ended."""
        if step.kind == "answer":
            so_far = f"{step.answered_tokens:,} of at most {step.max_tokens:,} tokens"
            self.update(f"{self._label}: {_STEPS[step.kind]}, {so_far}", step.ratio, tail=self._shown_left)
            return
        doing = f"{self._label}: {_STEPS[step.kind]} {step.context_length:,}"
        self.update(doing, step.ratio or 0.0, tail=self._shown_left)
        if step.outcome is not None and self._console.verbose:
            # "recall lost at the beginning" says itself how it ended.
            own_words = step.detail.startswith(step.outcome)
            detail = f" ({step.detail})" if step.detail and not own_words else ""
            self._console.note(f"{doing}: {step.detail if own_words else step.outcome}{detail}")


def show_test_report(console: Console, report: ContextReport) -> None:
    """The table of a `test`, or its JSON."""
    if console.json:
        console.result("test", {"models": [_tested_json(model) for model in report.models]})
        return
    tested = [model for model in report.models if model.outcome is not None]
    if tested:
        console.table(_REPORT_COLUMNS, [_row(model) for model in tested])
    for model in tested:
        alone = len(report.models) == 1
        _explain(console, model, told=alone and model in report.failed, alone=alone)
    skipped = [model for model in report.models if model.outcome is None]
    if skipped and console.verbose:
        for model in skipped:
            console.note(f"skipped {model.record.model_key}: {model.skipped}")
    elif skipped:
        # Of forty models most are skipped for the same reason; a line for each would bury the results above.
        reasons = sorted({str(model.skipped) for model in skipped})
        console.note(f"{counted(len(skipped), 'model')} skipped: {', '.join(reasons)}")
    if not report.models:
        console.note("no models to test: lmstrix scan finds them; lmstrix demo needs none")


def _explain(console: Console, model: ModelTest, *, told: bool, alone: bool) -> None:
    """Why a model got what it got, unless it is `told` as the command's failure; what ended its test; its recall."""
    assert model.outcome is not None
    result = model.outcome.result
    # A command's failure is told on its last line; told here too it would stand there twice.
    if not told and (result.outcome != Outcome.OK or model.outcome.refused):
        console.note(model.why)
    line = ended_line(result) if result.tested_context_length else None
    # Of many models the column says it; what is no limit is worth a line even so.
    if line is not None and (alone or not result.is_limit):
        console.note(f"{model.record.model_key}: {line}")
    if (cap := result.capped_by) is not None:
        capped = f"capped below {cap.context_length:,}, which {cap.what} {cap.when}"
        console.note(f"{model.record.model_key}: {capped}; --force tries again")
    if result.recall_curve and len(result.recall_curve) > 1:
        unicode = "utf" in (sys.stderr.encoding or "").lower()
        console.note(recall_chart(result.recall_curve, unicode=unicode))


def recall_chart(curve: Sequence[RecallPoint], *, unicode: bool = True) -> str:
    """One line: recall over length, one block per point, and each point's share in figures.

    A point's figures have no space between them: a line is broken at spaces where a terminal is narrow.
    """
    blocks = _BLOCKS if unicode else _ASCII_BLOCKS
    bars = "".join(blocks[round(point.score_ratio * (len(blocks) - 1))] for point in curve)
    points = "  ".join(f"{point.context_length:,}:{point.score_ratio:.0%}" for point in curve)
    return f"recall by length  {bars}  {points}"


def show_test_plan(console: Console, planned: Sequence[PlannedTest]) -> None:
    """What a dry run says."""
    if console.json:
        console.result("test-plan", {"models": [_plan_json(plan) for plan in planned]})
        return
    rows = [
        (
            plan.record.model_key,
            format_tokens(plan.ceiling),
            format_bytes(plan.predicted_bytes),
            format_bytes(plan.budget_bytes),
            format_tokens(plan.predicted_limit) + (" (guess)" if plan.approximate else ""),
            "none" if plan.first_load is None else format_tokens(plan.first_load),
            "-" if plan.first_load_risk_ratio is None else f"{plan.first_load_risk_ratio:.0%}",
        )
        for plan in planned
    ]
    console.table(_PLAN_COLUMNS, rows)
    console.note(f"{counted(len(planned), 'model')}; nothing was loaded")


def _tested_json(model: ModelTest) -> dict[str, Any]:
    """One model of `test --json`."""
    value: dict[str, Any] = {"model_key": model.record.model_key, "path": model.record.path, "skipped": model.skipped}
    if model.outcome is None:
        return value
    result, guardrail = model.outcome.result, model.outcome.guardrail
    return value | {
        "configuration": result.configuration.key,
        "max_context_length": model.record.max_context_length,
        "tested_context_length": result.tested_context_length,
        "loadable_context_length": result.loadable_context_length,
        "effective_context_length": result.effective_context_length,
        "effective_range": result.effective_range,
        "last_known_bad": result.last_known_bad,
        "capped_by": None if result.capped_by is None else json_form(result.capped_by),
        "outcome": result.outcome,
        "ended_by": result.ended_by,
        "ended_detail": result.ended_detail,
        "guardrail_limit": guardrail.limit if guardrail else None,
        "predicted_limit_without_guardrail": guardrail.predicted_limit if guardrail else None,
        "error": result.error,
        "refused": model.outcome.refused,
        "loads": model.outcome.loads,
        "failing_loads": model.outcome.failing_loads,
        "failing_prefills": model.outcome.failing_prefills,
        "elapsed_s": round(model.outcome.elapsed_s, 3),
        "ttft_s": result.ttft_s,
        "prefill_tokens_per_second": result.prefill_tokens_per_second,
        "decode_tokens_per_second": result.decode_tokens_per_second,
        "recall_curve": [list(point) for point in result.recall_curve],
        "steps": [json_form(step, without=_NOT_OF_A_FINISHED_STEP) for step in model.outcome.steps],
    }


def _plan_json(plan: PlannedTest) -> dict[str, Any]:
    return {"model_key": plan.record.model_key, **json_form(plan, without=("record",))}


def _row(model: ModelTest) -> tuple[str, ...]:
    assert model.outcome is not None
    result, outcome = model.outcome.result, model.outcome
    tries = str(outcome.loads) if not outcome.failing else f"{outcome.loads} ({outcome.failing} failed)"
    return (
        model.record.model_key,
        format_tokens(model.record.max_context_length),
        format_tokens(result.loadable_context_length),
        recalled_text(result),
        format_tokens(result.tested_context_length),
        tries,
        format_seconds(outcome.elapsed_s),
        ended_cell(result),
        result.outcome,
    )
