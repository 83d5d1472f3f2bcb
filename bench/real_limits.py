"""The context test against real memory limits: how close to the truth it comes, and what that costs.

    python -m bench.real_limits [--quick] [--classes dense,MLA] [--lengths 2560,5120] [--limit cgroup|address-space]
                                [--truth-runs 3] [--json FILE] [--markdown] [--write docs]

The embedded engine runs models of five architecture classes whose processes are limited by the system; its own
guardrail says yes to all of them. The truth is exhaustive: one load and one fill per 256 tokens, each in a fresh
process, until the first failure. Then `ContextTester` tests each model over the SDK while it believes 0.7 to 10 times
the true budget, or the whole machine: once with a server that tells this budget and what each load takes, as the
embedded engine does, once fed only what held and what failed. Beside it stand three searches that are told no more than
the latter; they ask the same real loads, each length tried once and remembered.

Columns: loads, failing loads and prefills, gap (how far below the truth), unsafe (above it), and time over that of one
load and one fill at the length found. `--truth-runs` measures the truth that many times and nothing else. `--quick` is
two classes, one limit and three beliefs. Exit code 1: over a budget below; 2: no limit can be set here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING

from bench.real_peers import bisection, multi_step, shrink_and_bisect
from tests.support.limited_engine import LimitedEngine, RealLoads, backend_of
from tests.support.limited_models import CLASSES, DECLARED, LOAD, put_models
from tests.support.limited_tests import find_limit
from tests.support.memory_limits import MIB, NoLimitError, best_limit, limit_of_kind

from lmstrix.core.memory.host import read_host_memory
from lmstrix.core.memory.prediction import predicted_limit
from lmstrix.core.memory.runtime import EMBEDDED
from lmstrix.ground.context_lengths import FLOOR_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.real_peers import Asking
    from tests.support.limited_engine import Truth
    from tests.support.limited_models import LimitedModel
    from tests.support.memory_limits import MemoryLimit


LENGTHS: tuple[int, ...] = (2560, 5120)
"""Where the two true limits are put: not where halving 1,024 to 8,192 lands, which would flatter that."""
RATIOS: tuple[float | None, ...] = (0.7, 1.0, 1.3, 3.0, 10.0, None)
"""The budget believed over the true one; None is the whole machine."""
QUICK_CLASSES: tuple[str, ...] = ("dense", "MLA")
QUICK_LENGTHS, QUICK_RATIOS = LENGTHS[:1], (1.0, 3.0, None)
OURS, BLIND = "LMStrix", "LMStrix, no memory reading"
MULTI_STEP, BISECTION, SHRINKING = "multi-step, 1.0.84", "bisection", "0.4 x, then log bisection"
MARKERS = ("<!-- real limits -->", "<!-- end of real limits -->")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a search may cost where its belief is this far off: gaps and times as ratios; None is no demand."""

    title: str
    ratios: tuple[float | None, ...]
    worst_gap: float
    median_gap: float | None = None
    mean_failing: float | None = None
    most_failing: int | None = None
    median_loads: float | None = None
    median_time: float | None = None


BUDGETS = (
    Budget(title="0.7 x", ratios=(0.7,), worst_gap=0.20),
    Budget(
        title="right", ratios=(1.0,), worst_gap=0.20, median_gap=0.08, most_failing=0, median_loads=3, median_time=1.5
    ),
    Budget(title="1.3 x", ratios=(1.3,), worst_gap=0.20, median_gap=0.10, mean_failing=1, most_failing=2),
    Budget(title="3 x, 10 x, the machine", ratios=(3.0, 10.0, None), worst_gap=0.15, mean_failing=3, most_failing=4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One search in one cell. `ratio` is that of its belief, 0 for searches that believe nothing."""

    search: str
    ratio: float | None
    found: int
    loads: int
    failing: int
    gap_ratio: float
    unsafe: bool
    time_s: float
    time_ratio: float | None
    ended: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One class under one true limit."""

    model_class: str
    limit_kind: str
    truth: Truth
    predicted_bytes: int
    seconds: float = 0.0
    rows: tuple[Row, ...] = ()

    @property
    def title(self) -> str:
        """What it is about, in one line."""
        truth = self.truth
        return (
            f"{self.model_class}, true limit {truth.length:,} tokens "
            f"({self.limit_kind} {truth.limit_bytes / MIB:.1f} MiB; "
            f"resident at most {truth.budget_bytes / MIB:.0f} MiB, predicted {self.predicted_bytes / MIB:.0f} MiB)"
        )


class CellRun:
    """Measures one cell: `rows` grows with each search."""

    def __init__(self, truth: Truth, loads: RealLoads, engine: LimitedEngine, model: LimitedModel, home: Path) -> None:
        self.rows: list[Row] = []
        self._truth = truth
        self._loads = loads
        self._engine = engine
        self._model = model
        self._home = home

    async def run(self, ratios: Sequence[float | None]) -> None:
        """Every search, the peers first: what they ask is remembered from the truth."""
        await self._ask(MULTI_STEP, 0.0, multi_step(DECLARED))
        await self._ask(BISECTION, 0.0, bisection(DECLARED))
        for ratio in ratios:
            budget_bytes = self._believed_bytes(ratio)
            start = max(
                FLOOR_TOKENS, predicted_limit(self._model.shape, budget_bytes, DECLARED, LOAD, runtime=EMBEDDED)
            )
            await self._ask(SHRINKING, ratio, shrink_and_bisect(start))
            for name, reading in ((OURS, True), (BLIND, False)):
                await self._test(name, ratio, budget_bytes, reading=reading)

    def _believed_bytes(self, ratio: float | None) -> int:
        if ratio is None:
            return read_host_memory().model_budget_bytes
        return int(ratio * self._truth.budget_bytes)

    async def _ask(self, name: str, ratio: float | None, asking: Asking) -> None:
        loads = failing = 0
        seconds = 0.0
        try:
            length = next(asking)
            while True:
                tried = await self._loads.try_length(length)
                loads, failing, seconds = loads + 1, failing + (not tried.held), seconds + tried.seconds
                length = asking.send(tried.held)
        except StopIteration as done:
            await self._keep(name, ratio, found=done.value, loads=loads, failing=failing, time_s=seconds)

    async def _test(self, name: str, ratio: float | None, budget_bytes: int, *, reading: bool) -> None:
        async with backend_of(self._engine, silent=not reading, budget_bytes=budget_bytes) as backend:
            tested = await find_limit(
                backend,
                self._model,
                budget_bytes=budget_bytes,
                reading=reading,
                history_file=self._home / "history.db",
            )
        await self._keep(
            name,
            ratio,
            found=tested.result.loadable_context_length or 0,
            loads=tested.loads,
            failing=sum(
                step.outcome is not None and step.outcome.is_memory_evidence
                for step in tested.steps
                if step.kind != "recall"
            ),
            time_s=tested.elapsed_s,
            ended=tested.refused or tested.result.outcome,
        )

    async def _keep(
        self, name: str, ratio: float | None, *, found: int, loads: int, failing: int, time_s: float, ended: str = ""
    ) -> None:
        truth = self._truth.length
        once = await self._loads.try_length(found) if found else None
        row = Row(
            search=name,
            ratio=ratio,
            found=found,
            loads=loads,
            failing=failing,
            gap_ratio=max(0.0, 1 - found / truth),
            unsafe=found > truth,
            time_s=time_s,
            time_ratio=time_s / once.seconds if once else None,
            ended=ended,
        )
        self.rows.append(row)
        print(_line(row), flush=True)


def _line(row: Row) -> str:
    """One row of a cell's table."""
    belief = "" if row.ratio == 0 else _ratio_text(row.ratio)
    times = "" if row.time_ratio is None else f"{row.time_ratio:.1f}"
    unsafe = "unsafe" if row.unsafe else ""
    return (
        f"| {row.search} | {belief} | {row.found:,} | {row.loads} | {row.failing} | {100 * row.gap_ratio:.0f} % "
        f"| {unsafe} | {row.time_s:.1f} s | {times} | {row.ended} |"
    )


def _ratio_text(ratio: float | None) -> str:
    return "machine" if ratio is None else f"{ratio:g} x"


HEADER = (
    "| search | belief | found | loads | failing | gap | unsafe | time | / one load and fill | ended |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)
SUMMARY_HEADER = (
    "| belief | search | tests | nothing | unsafe | gap median / worst | loads median / most | failing mean / most "
    "| time / one load and fill, median | |\n|---|---|---|---|---|---|---|---|---|---|"
)


def summary(cells: Sequence[Cell]) -> str:
    """The table over all cells, by how far off the belief is."""
    lines = [SUMMARY_HEADER]
    rows = [row for cell in cells for row in cell.rows]
    for budget in BUDGETS:
        for search in (OURS, BLIND, SHRINKING):
            chosen = [row for row in rows if row.search == search and row.ratio in budget.ratios]
            if chosen:
                lines.append(_summary_line(budget.title, search, chosen, judged=search != SHRINKING))
    for search in (MULTI_STEP, BISECTION):
        chosen = [row for row in rows if row.search == search]
        lines.append(_summary_line("none", search, chosen, judged=False))
    return "\n".join(lines)


def _summary_line(title: str, search: str, rows: Sequence[Row], *, judged: bool) -> str:
    gaps = [100 * row.gap_ratio for row in rows]
    loads, failing = [row.loads for row in rows], [row.failing for row in rows]
    times = [row.time_ratio for row in rows if row.time_ratio is not None]
    verdict = "; ".join(over_budget(title, rows)) or "within budget" if judged else ""
    nothing, unsafe = sum(not row.found for row in rows), sum(row.unsafe for row in rows)
    return (
        f"| {title} | {search} | {len(rows)} | {nothing} | {unsafe} "
        f"| {median(gaps):.0f} / {max(gaps):.0f} % | {median(loads):.0f} / {max(loads)} "
        f"| {mean(failing):.1f} / {max(failing)} | {f'{median(times):.1f}' if times else ''} | {verdict} |"
    )


def over_budget(title: str, rows: Sequence[Row]) -> list[str]:
    """What these rows, of one search and all of the belief `title`, exceed."""
    (budget,) = (budget for budget in BUDGETS if budget.title == title)
    gaps, failing = [row.gap_ratio for row in rows], [row.failing for row in rows]
    times = [row.time_ratio for row in rows if row.time_ratio is not None]
    measured: list[tuple[str, float, float | None]] = [
        ("nothing found", sum(not row.found for row in rows), 0),
        ("unsafe", sum(row.unsafe for row in rows), 0),
        ("median gap", median(gaps), budget.median_gap),
        ("worst gap", max(gaps), budget.worst_gap),
        ("mean failing", mean(failing), budget.mean_failing),
        ("most failing", max(failing), budget.most_failing),
        ("median loads", median(row.loads for row in rows), budget.median_loads),
        ("median time", median(times) if times else 0.0, budget.median_time),
    ]
    return [f"{what} over {most:g}" for what, value, most in measured if most is not None and value > most]


def is_within_budget(cells: Sequence[Cell]) -> bool:
    """Whether our searches keep to every budget."""
    rows = [row for cell in cells for row in cell.rows]
    for budget in BUDGETS:
        for search in (OURS, BLIND):
            chosen = [row for row in rows if row.search == search and row.ratio in budget.ratios]
            if chosen and over_budget(budget.title, chosen):
                return False
    return True


def write_figures(page: Path, figures: str) -> None:
    """Put the table between the page's markers."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    page.write_text(f"{before}{MARKERS[0]}\n\n{figures}\n\n{MARKERS[1]}{after}", encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    classes: tuple[str, ...]
    lengths: tuple[int, ...]
    ratios: tuple[float | None, ...]
    truth_runs: int | None = None


class Matrix:
    """All cells of a plan, measured one after the other; `cells` grows with each."""

    def __init__(self, plan: Plan, limit: MemoryLimit, folder: Path) -> None:
        self.cells: list[Cell] = []
        self._plan = plan
        self._limit = limit
        self._folder = folder

    def run(self, json_file: Path | None) -> None:
        """Measure; what is measured so far is in `json_file` after every cell."""
        models_dir = self._folder / "models"
        models = put_models(models_dir, self._plan.classes)
        with LimitedEngine(models_dir, self._limit) as engine:
            asyncio.run(self._measure(engine, models, json_file))

    async def _measure(self, engine: LimitedEngine, models: dict[str, LimitedModel], json_file: Path | None) -> None:
        async with backend_of(engine) as backend:
            for model_class, model in models.items():
                await engine.hold_files(backend, model)
                loads = RealLoads(engine, backend, model)
                for length in self._plan.lengths:
                    limit_bytes = await loads.limit_at(length)
                    if self._plan.truth_runs is not None:
                        await self._repeat_truth(model_class, loads, limit_bytes, self._plan.truth_runs)
                        continue
                    await self._measure_cell(model_class, model, loads, engine, limit_bytes)
                    if json_file is not None:
                        json_file.write_text(json.dumps([asdict(cell) for cell in self.cells], indent=1) + "\n")

    async def _repeat_truth(self, model_class: str, loads: RealLoads, limit_bytes: int, runs: int) -> None:
        found = [(await loads.truth(limit_bytes)).length for _ in range(runs)]
        print(f"{model_class}, {limit_bytes / MIB:.1f} MiB: {', '.join(f'{length:,}' for length in found)}", flush=True)

    async def _measure_cell(
        self,
        model_class: str,
        model: LimitedModel,
        loads: RealLoads,
        engine: LimitedEngine,
        limit_bytes: int,
    ) -> None:
        started_at_s = time.perf_counter()
        truth = await loads.truth(limit_bytes)
        cell = Cell(
            model_class=model_class,
            limit_kind=self._limit.kind,
            truth=truth,
            predicted_bytes=model.predicted_bytes(truth.length),
        )
        print(f"\n### {cell.title}\n\n{HEADER}", flush=True)
        run = CellRun(truth, loads, engine, model, self._folder)
        await run.run(self._plan.ratios)
        self.cells.append(replace(cell, rows=tuple(run.rows), seconds=time.perf_counter() - started_at_s))


def _plan(options: argparse.Namespace) -> Plan:
    classes = QUICK_CLASSES if options.quick else tuple(CLASSES)
    lengths, ratios = (QUICK_LENGTHS, QUICK_RATIOS) if options.quick else (LENGTHS, RATIOS)
    if options.classes:
        classes = tuple(options.classes.split(","))
        unknown = [name for name in classes if name not in CLASSES]
        if unknown:
            raise SystemExit(f"no class {unknown[0]!r}: choose of {', '.join(CLASSES)}")
    if options.lengths:
        lengths = tuple(int(word) for word in options.lengths.split(","))
    return Plan(classes=classes, lengths=lengths, ratios=ratios, truth_runs=options.truth_runs)


def main() -> int:
    """Measure the matrix and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--classes")
    parser.add_argument("--lengths")
    parser.add_argument("--limit", choices=("cgroup", "address-space"))
    parser.add_argument("--truth-runs", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true", help="print the summary alone once more, for a page")
    parser.add_argument("--write", type=Path, help="put the summary into optimizer.md of this folder")
    options = parser.parse_args()
    plan = _plan(options)
    page: Path | None = options.write / "optimizer.md" if options.write else None
    # Said now, and not after many minutes of measuring.
    if page is not None and not (page.is_file() and MARKERS[0] in page.read_text(encoding="utf-8")):
        parser.error(f"{page} has no line {MARKERS[0]} to put the table after")
    # Ended at once, as TERM does by default, we would leave an engine and a control group behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        limit = limit_of_kind(options.limit) if options.limit else best_limit()
    except NoLimitError as exc:
        print(f"no memory limit can be set here: {exc}", file=sys.stderr)
        return 2
    started_at_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lmstrix-limits-") as folder, limit:
        matrix = Matrix(plan, limit, Path(folder))
        matrix.run(options.json)
    if plan.truth_runs is not None:
        return 0
    table = summary(matrix.cells)
    print(f"\n### All {len(matrix.cells)} cells\n\n{table}")
    print(f"\n{time.perf_counter() - started_at_s:.0f} s in all, load average {os.getloadavg()[0]:.1f}")
    if options.markdown:
        print(f"\n{table}")
    if page is not None:
        write_figures(page, table)
    return 0 if is_within_budget(matrix.cells) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
