"""Two benchmark reports against each other: for each figure the difference, its interval, and whether it is real. Pure.

A figure has regressed when it is worse by more than a limit *and* the U test finds the two series different at 5 %.
Each load counts with its time and each run with its median, as in the summaries. Cells are paired by model, tier and
concurrency; where each report is of a single model, its name does not matter, so engines that name models differently
can be compared.

Many figures are compared at once: one in twenty that differs by chance will look real.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from lmstrix.core.benchmark.records import series_of
from lmstrix.core.benchmark.stats import Interval, difference, mann_whitney_u

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.records import BenchReport, CellResult

SIGNIFICANT = 0.05
Verdict = Literal["better", "worse", "no difference", "too few runs"]
LOWER_IS_BETTER = {
    "cold_load_s": True,
    "warm_load_s": True,
    "ttfr_s": True,
    "ttft_s": True,
    "ttfo_s": True,
    "itl_s": True,
    "itl_p99_s": True,
    "prefill_tokens_per_second": False,
    "decode_tokens_per_second": False,
    "output_tokens_per_second": False,
    "e2e_s": True,
    "net_j_per_output_token": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure of one cell in both reports. Ratios are of the first report's median: 0.05 is 5 % more."""

    cell: str
    figure: str
    first: float
    second: float
    first_count: int
    second_count: int
    change_ratio: float | None
    interval_ratio: Interval | None
    p_value: float
    verdict: Verdict

    @property
    def worsening_ratio(self) -> float:
        """By how much it is worse, as a share; negative when it is better."""
        change = self.change_ratio or 0.0
        return change if LOWER_IS_BETTER[self.figure] else -change


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchComparison:
    """Both reports against each other. `only_first` and `only_second` are cells without a partner that was measured."""

    comparisons: tuple[Comparison, ...]
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()

    def regressions(self, fail_on_ratio: float) -> tuple[Comparison, ...]:
        """What became worse by more than `fail_on_ratio` (0.05 is 5 %), and not by chance."""
        return tuple(
            each for each in self.comparisons if each.verdict == "worse" and each.worsening_ratio > fail_on_ratio
        )


def compare(first: BenchReport, second: BenchReport, *, figures: Sequence[str] | None = None) -> BenchComparison:
    """Compare the cells that both reports have measured; `figures` None takes all that have a direction."""
    one_model = len(_models(first)) == 1 == len(_models(second))
    left, right = _by_place(first, one_model=one_model), _by_place(second, one_model=one_model)
    shared = [place for place in left if place in right]
    return BenchComparison(
        comparisons=tuple(
            comparison
            for place in shared
            for comparison in _compare_cells(left[place], right[place], figures or tuple(LOWER_IS_BETTER))
        ),
        only_first=tuple(cell.cell.name for place, cell in left.items() if place not in right),
        only_second=tuple(cell.cell.name for place, cell in right.items() if place not in left),
    )


def _models(report: BenchReport) -> set[str]:
    return {cell.cell.target.model_key for cell in report.cells}


def _by_place(report: BenchReport, *, one_model: bool) -> dict[tuple[str, int, int], CellResult]:
    return {
        ("" if one_model else cell.cell.target.model_key, cell.cell.tier_tokens, cell.cell.concurrency): cell
        for cell in report.cells
        if cell.runs
    }


def _compare_cells(first: CellResult, second: CellResult, figures: Sequence[str]) -> list[Comparison]:
    left, right = series_of(first.runs, first.loads), series_of(second.runs, second.loads)
    return [
        _compare_series(first.cell.name, figure, left[figure], right[figure])
        for figure in figures
        if figure in left and figure in right
    ]


def _compare_series(cell: str, figure: str, left: Sequence[float], right: Sequence[float]) -> Comparison:
    base = median(left)
    shift, interval = difference(left, right)
    test = mann_whitney_u(left, right)
    assert test is not None  # both series have values
    # As shares of the first median: a limit such as 5 % must mean the same for seconds and for tokens per second.
    scaled = None
    if interval is not None and base:
        scaled = Interval(low=interval.low / base, high=interval.high / base, coverage_ratio=interval.coverage_ratio)
    verdict: Verdict = "no difference"
    if interval is None:
        verdict = "too few runs"
    elif test.p_value < SIGNIFICANT and shift:
        verdict = "worse" if (shift > 0) == LOWER_IS_BETTER[figure] else "better"
    return Comparison(
        cell=cell,
        figure=figure,
        first=base,
        second=median(right),
        first_count=len(left),
        second_count=len(right),
        change_ratio=shift / base if base else None,
        interval_ratio=scaled,
        p_value=test.p_value,
        verdict=verdict,
    )
