"""What differs between two measurements of the same cells, figure by figure, and whether it is real. Pure.

`compare` holds two sessions against each other, `against.compare_sides` the two sides that one session measured in
turns. Both end here: figures that say the same count once, the rest share one chance of a false alarm (correction.py),
and intervals are wide enough to hold all at once.

Two sessions differ by what the machine did meanwhile, which their runs cannot tell. A difference between them is real
when the U test finds it in the runs, which alone proves nothing, *and* it lies beyond what sessions of the same thing
differ by (session_spread.py). Where the history has too few of those, a difference that the U test finds is called one
that cannot be told. Cells are paired by model, tier and concurrency; where each report is of a single model,
its name does not matter, so engines that name models differently can be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Literal

from lmstrix.core.benchmark.correction import holm
from lmstrix.core.benchmark.records import series_of
from lmstrix.core.benchmark.session_spread import LIMITS, Spread, spread_of
from lmstrix.core.benchmark.stats import CONFIDENCE, Interval, difference, mann_whitney_u
from lmstrix.core.benchmark.visit_records import logarithms
from lmstrix.ground.units import counted
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lmstrix.core.benchmark.records import BenchReport, CellResult

SIGNIFICANT = 0.02
"""The chance of any false alarm in a whole comparison. Not the usual 5 %: of twenty comparisons of equal things, which
a week of continuous integration makes, two false alarms would then be nothing unusual (26 %); so they are (6 %)."""
RECIPROCALS = ("decode_tokens_per_second", "itl_s")
SAME_RATIO = 1e-3
"""Figures this close in all their measurements say the same: clocks are read microseconds apart."""
Verdict = Literal["better", "worse", "no difference", "cannot tell", "too few runs", "too few blocks"]
# The first of those that say the same stands for them: what most people look at goes before its relatives.
LOWER_IS_BETTER = {
    "cold_load_s": True,
    "warm_load_s": True,
    "ttft_s": True,
    "prefill_tokens_per_second": False,
    "decode_tokens_per_second": False,
    "e2e_s": True,
    "net_j_per_output_token": True,
    "ttfr_s": True,
    "ttfo_s": True,
    "itl_s": True,
    "itl_p99_s": True,
    "output_tokens_per_second": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure of one cell on both sides. Ratios are of the first: 0.05 is 5 % more.

    `first` and `second` are the medians of all runs. `change_ratio` is their quotient less one, or, of `blocks`, the
    typical change within one. `interval_ratio` holds together with those of all other figures. `p_value` is corrected
    for their number. `same_as` names the figure that says the same and was counted in this one's place.
    """

    cell: str
    figure: str
    first: float
    second: float
    first_count: int
    second_count: int
    blocks: int | None = None
    change_ratio: float | None = None
    interval_ratio: Interval | None = None
    p_value: float | None = None
    verdict: Verdict
    same_as: str | None = None

    @property
    def least_worsening_ratio(self) -> float:
        """By how much it is worse at least, as a share: the near end of the interval; below zero it may be better."""
        if self.interval_ratio is None:
            return -math.inf
        return self.interval_ratio.low if LOWER_IS_BETTER[self.figure] else -self.interval_ratio.high


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchComparison:
    """Both against each other. `only_first` and `only_second` are cells without a partner that was measured.

    `method` "blocks": measured in turns. `confidence_ratio` is that of all intervals together. `notes` say in plain
    words what the verdicts rest on.
    """

    comparisons: tuple[Comparison, ...]
    method: Literal["blocks", "sessions"] = "sessions"
    confidence_ratio: float = 1 - SIGNIFICANT
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def regressions(self, fail_on_ratio: float) -> tuple[Comparison, ...]:
        """What is worse by more than `fail_on_ratio` (0.05 is 5 %) at the near end of its interval."""
        return tuple(
            each
            for each in self.comparisons
            if each.verdict == "worse" and each.same_as is None and each.least_worsening_ratio > fail_on_ratio
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of one figure before it is judged among all. `comparison` has the verdict for want of a difference.

    `logs` are the measurements it rests on, by which figures that say the same are told. `shift` is the difference.
    `least_p_value` is the smallest that so many measurements can give. `interval` takes a confidence, and like `shift`
    is of logarithms.
    """

    comparison: Comparison
    logs: tuple[float, ...]
    shift: float
    p_value: float
    least_p_value: float
    interval: Callable[[float], Interval | None]
    too_few: Verdict


def judge(evidence: Sequence[Evidence]) -> tuple[Comparison, ...]:
    """Every figure judged among all of them."""
    stands_for = _duplicates(evidence)
    family = [
        place
        for place, one in enumerate(evidence)
        # What could not be found even if it were the only figure must not take a share from the others.
        if place not in stands_for and one.least_p_value <= SIGNIFICANT
    ]
    corrected = dict(zip(family, holm([evidence[place].p_value for place in family]), strict=True))
    return tuple(
        _judged(one, corrected.get(stands_for.get(place, place)), len(family), same_as)
        for place, one in enumerate(evidence)
        for same_as in [evidence[stands_for[place]].comparison.figure if place in stands_for else None]
    )


def _duplicates(evidence: Sequence[Evidence]) -> dict[int, int]:
    """Which figures say the same as an earlier one of their cell, and as which."""
    found: dict[int, int] = {}
    for place, one in enumerate(evidence):
        for earlier in range(place):
            if earlier not in found and _say_the_same(evidence[earlier], one):
                found[place] = earlier
                break
    return found


def _say_the_same(left: Evidence, right: Evidence) -> bool:
    """Equal, as first tokens are without reasoning, or each the other's reciprocal."""
    if left.comparison.cell != right.comparison.cell or len(left.logs) != len(right.logs):
        return False
    # Of several requests at a time each has its median, and then they are only nearly reciprocals.
    if (left.comparison.figure, right.comparison.figure) == RECIPROCALS:
        return True
    pairs = list(zip(left.logs, right.logs, strict=True))
    return any(all(abs(a - sign * b) <= SAME_RATIO for a, b in pairs) for sign in (1, -1))


def _judged(one: Evidence, p_value: float | None, figures: int, same_as: str | None) -> Comparison:
    if p_value is None:
        return replace(one.comparison, verdict=one.too_few, same_as=same_as)
    interval = one.interval(1 - SIGNIFICANT / figures)
    comparison = replace(
        one.comparison,
        p_value=p_value,
        interval_ratio=_of_ratios(interval) if interval is not None else None,
        same_as=same_as,
    )
    if p_value <= SIGNIFICANT and one.shift:
        lower_is_better = LOWER_IS_BETTER[comparison.figure]
        return replace(comparison, verdict="worse" if (one.shift > 0) == lower_is_better else "better")
    if one.least_p_value * figures > SIGNIFICANT:
        return replace(comparison, verdict=one.too_few)
    return comparison


def _of_ratios(interval: Interval) -> Interval:
    return replace(interval, low=change_of(interval.low), high=change_of(interval.high))


def change_of(log: float) -> float:
    """A difference of logarithms as a share: 0.05 is 5 % more. What a report holds may be any number."""
    return math.expm1(min(log, 700.0))


def compare(
    first: BenchReport,
    second: BenchReport,
    *,
    figures: Sequence[str] | None = None,
    earlier: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> BenchComparison:
    """Compare the cells that both sessions have measured; `figures` None takes all that have a direction.

    `earlier` has what other sessions of the same thing found: the name of a cell of `first`, the name of a figure, the
    median of each session.
    """
    one_model = len(_models(first)) == 1 == len(_models(second))
    left, right = _by_place(first, one_model=one_model), _by_place(second, one_model=one_model)
    shared = [place for place in left if place in right]
    spreads: list[Spread | None] = []
    evidence = []
    for place in shared:
        known = (earlier or {}).get(left[place].cell.name, {})
        for figure, values in _shared_series(left[place], right[place], figures or tuple(LOWER_IS_BETTER)).items():
            spreads.append(spread_of(known.get(figure, ())))
            evidence += evidence_of_sessions(left[place].cell.name, figure, *values, spreads[-1])
    comparisons = judge(evidence)
    return BenchComparison(
        comparisons=comparisons,
        only_first=tuple(cell.cell.name for place, cell in left.items() if place not in right),
        only_second=tuple(cell.cell.name for place, cell in right.items() if place not in left),
        notes=_notes(comparisons, spreads),
    )


def _models(report: BenchReport) -> set[str]:
    return {cell.cell.target.name for cell in report.cells}


def _by_place(report: BenchReport, *, one_model: bool) -> dict[tuple[str, int, int], CellResult]:
    return {
        ("" if one_model else cell.cell.target.name, cell.cell.tier_tokens, cell.cell.concurrency): cell
        for cell in report.cells
        if cell.runs
    }


def _shared_series(
    first: CellResult, second: CellResult, figures: Sequence[str]
) -> dict[str, tuple[list[float], list[float]]]:
    left, right = series_of(first.runs, first.loads), series_of(second.runs, second.loads)
    return {figure: (left[figure], right[figure]) for figure in figures if figure in left and figure in right}


def evidence_of_sessions(
    cell: str, figure: str, left: Sequence[float], right: Sequence[float], spread: Spread | None
) -> list[Evidence]:
    """What two sessions' series tell of one figure; nothing where a median has no logarithm."""
    middles = logarithms([median(left), median(right)])
    if len(middles) < 2:
        return []
    change = middles[1] - middles[0]
    enough = difference(left, right)[1] is not None
    test = mann_whitney_u(left, right)
    assert test is not None  # both series have values
    seen = test.p_value < 1 - CONFIDENCE
    comparison = Comparison(
        cell=cell,
        figure=figure,
        first=median(left),
        second=median(right),
        first_count=len(left),
        second_count=len(right),
        change_ratio=change_of(change),
        verdict="cannot tell" if seen and spread is None else "no difference",
    )
    return [
        Evidence(
            comparison=comparison,
            logs=_over_first(logarithms([*left, *right])),
            shift=change,
            # Where not even the runs differ, whatever sessions do, there is nothing to explain.
            p_value=spread.p_value(change) if seen and spread is not None else 1.0,
            least_p_value=0.0 if enough and spread is not None else 1.0,
            interval=lambda confidence: spread.interval(change, confidence) if spread is not None else None,
            too_few=comparison.verdict if enough else "too few runs",
        )
    ]


def _over_first(logs: Sequence[float]) -> tuple[float, ...]:
    """Each less the first, so that units are gone."""
    return tuple(one - logs[0] for one in logs)


def _notes(comparisons: Sequence[Comparison], spreads: Sequence[Spread | None]) -> tuple[str, ...]:
    """What the verdicts on two sessions rest on."""
    if not comparisons:
        return ()
    known = [spread.sessions for spread in spreads if spread is not None]
    notes = []
    if known:
        count = counted(min(known), "earlier session")
        notes.append(f"how far sessions of the same thing differ was taken from {count}")
    if any(one.verdict == "cannot tell" for one in comparisons):
        few = f"fewer than {LIMITS.least_sessions} earlier ones of the same thing are in the history"
        notes.append(f"one session each cannot tell a difference from what sessions differ by: {few}")
        notes.append(f"measure both in one run, with {parameter('against')}")
    return tuple(notes)
