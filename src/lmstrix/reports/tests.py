"""The context tester on the terminal: what it does now on stderr, what it found on stdout."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from lmstrix.core.context.verdict import Outcome
from lmstrix.ground.units import format_bytes, format_seconds, format_tokens
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from lmstrix.core.context.report import ContextReport, ModelTest, PlannedTest, Step
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import RecallPoint
    from lmstrix.reports.console import Console

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = ".:-=+*#@"
_ALMOST_DONE = 0.999  # a task of Rich that reaches its total stops its clock

REPORT_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="DECLARED", right=True, drop=3),
    Column(title="LOADS", right=True, drop=1),
    Column(title="RECALLS", right=True, drop=2),
    Column(title="USE", right=True),
    Column(title="TRIES", right=True, drop=5),
    Column(title="TIME", right=True, drop=4),
    Column(title="OUTCOME", shrink=True, keep=21),
)


class LiveProgress:
    """A live line on a terminal; with --verbose, or where nothing can move, one line a finished step."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = live
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._doing = ""
        self._began_s = 0.0

    def __enter__(self) -> LiveProgress:
        if self._live:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                SpinnerColumn("line"),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("starting", total=1.0, left="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def model(self, record: ModelRecord, place: int, count: int) -> None:
        """A model's turn has come."""
        self._label = clean(record.model_key) + (f" ({place}/{count})" if count > 1 else "")
        if self._progress is not None and self._task is not None:
            self._progress.reset(self._task, description=f"{self._label}: planning", total=1.0, left="")
        elif count > 1:
            self._console.note(f"testing {self._label}")

    def step(self, step: Step) -> None:
        """Something began, went on, or ended."""
        doing = {"load": "loading", "prefill": "filling", "recall": "recall at"}[step.kind]
        if self._progress is not None and self._task is not None:
            text = f"{self._label}: {doing} {step.context_length:,}"
            ratio = min(step.ratio or 0.0, _ALMOST_DONE)
            self._progress.update(self._task, description=text, completed=ratio, left=self._left(text, ratio))
        if step.outcome is not None and self._console.verbose:
            detail = f" ({step.detail})" if step.detail and step.detail != step.outcome else ""
            self._console.note(f"{self._label}: {doing} {step.context_length:,}: {step.outcome}{detail}")

    def _left(self, doing: str, ratio: float) -> str:
        """What is left of the present step at its present pace; nothing before that can be told."""
        now_s = time.monotonic()
        if doing != self._doing or ratio == 0.0:
            self._doing, self._began_s = doing, now_s
        left_s = (now_s - self._began_s) / ratio * (1.0 - ratio) if ratio else 0.0
        return f"{format_seconds(left_s)} left" if left_s >= 1.0 else ""


def show_report(console: Console, report: ContextReport) -> None:
    """The table of a `test`, or its JSON."""
    if console.json:
        console.result("test", {"models": [tested_json(model) for model in report.models]})
        return
    tested = [model for model in report.models if model.outcome is not None]
    if tested:
        console.table(REPORT_COLUMNS, [_row(model) for model in tested])
    for model in tested:
        _explain(console, model, told=len(report.models) == 1 and model in report.failed)
    skipped = [model for model in report.models if model.outcome is None]
    if skipped and console.verbose:
        for model in skipped:
            console.note(f"skipped {model.record.model_key}: {model.skipped}")
    elif skipped:
        reasons = {model.skipped for model in skipped}
        console.note(f"{len(skipped)} model(s) skipped: {', '.join(sorted(str(reason) for reason in reasons))}")
    if not report.models:
        console.note("no models to test: lmstrix scan finds them")


def _explain(console: Console, model: ModelTest, *, told: bool) -> None:
    """Why a model got what it got, unless it is `told` as the command's failure; and its recall."""
    assert model.outcome is not None
    result = model.outcome.result
    if not told and (result.outcome != Outcome.OK or model.outcome.refused):
        console.note(model.why)
    if result.recall_curve and len(result.recall_curve) > 1:
        unicode = "utf" in (sys.stderr.encoding or "").lower()
        console.note(recall_chart(result.recall_curve, unicode=unicode))


def recall_chart(curve: Sequence[RecallPoint], *, unicode: bool = True) -> str:
    """One line: recall over length, a block a point and the length where it is first lost."""
    blocks = _BLOCKS if unicode else _ASCII_BLOCKS
    bars = "".join(blocks[round(point.score_ratio * (len(blocks) - 1))] for point in curve)
    points = "  ".join(f"{point.context_length:,}: {point.score_ratio:.0%}" for point in curve)
    return f"recall by length  {bars}  {points}"


def show_plan(console: Console, planned: Sequence[PlannedTest]) -> None:
    """What a dry run says."""
    if console.json:
        console.result("test-plan", {"models": [_plan_json(plan) for plan in planned]})
        return
    columns = (
        Column(title="MODEL", shrink=True, keep=12),
        Column(title="AT MOST", right=True, drop=1),
        Column(title="NEEDS", right=True, drop=2),
        Column(title="AVAILABLE", right=True, drop=3),
        Column(title="EXPECTED", right=True),
        Column(title="FIRST LOAD", right=True),
        Column(title="RISK", right=True, drop=4),
    )
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
    console.table(columns, rows)
    console.note(f"{len(planned)} model(s); nothing was loaded")


def tested_json(model: ModelTest) -> dict[str, Any]:
    """One model of `test --json`."""
    value: dict[str, Any] = {"model_key": model.record.model_key, "path": model.record.path, "skipped": model.skipped}
    if model.outcome is None:
        return value
    result = model.outcome.result
    return value | {
        "configuration": result.configuration.key,
        "max_context_length": model.record.max_context_length,
        "tested_context_length": result.tested_context_length,
        "loadable_context_length": result.loadable_context_length,
        "effective_context_length": result.effective_context_length,
        "last_known_bad": result.last_known_bad,
        "outcome": result.outcome,
        "error": result.error,
        "refused": model.outcome.refused,
        "loads": model.outcome.loads,
        "failing_loads": model.outcome.failing_loads,
        "seconds": round(model.outcome.seconds, 3),
        "ttft_s": result.ttft_s,
        "prefill_tokens_per_second": result.prefill_tokens_per_second,
        "decode_tokens_per_second": result.decode_tokens_per_second,
        "recall_curve": [list(point) for point in result.recall_curve],
        "steps": [
            {"kind": s.kind, "context_length": s.context_length, "outcome": s.outcome, "detail": s.detail}
            for s in model.outcome.steps
        ],
    }


def _plan_json(plan: PlannedTest) -> dict[str, Any]:
    return {
        "model_key": plan.record.model_key,
        "ceiling": plan.ceiling,
        "predicted_bytes": plan.predicted_bytes,
        "budget_bytes": plan.budget_bytes,
        "predicted_limit": plan.predicted_limit,
        "approximate": plan.approximate,
        "first_load": plan.first_load,
        "first_load_bytes": plan.first_load_bytes,
        "first_load_risk_ratio": plan.first_load_risk_ratio,
    }


def _row(model: ModelTest) -> tuple[str, ...]:
    assert model.outcome is not None
    result, outcome = model.outcome.result, model.outcome
    tries = str(outcome.loads) if not outcome.failing_loads else f"{outcome.loads} ({outcome.failing_loads} failed)"
    return (
        model.record.model_key,
        format_tokens(model.record.max_context_length),
        format_tokens(result.loadable_context_length),
        format_tokens(result.effective_context_length),
        format_tokens(result.tested_context_length),
        tries,
        format_seconds(outcome.seconds),
        result.outcome,
    )
