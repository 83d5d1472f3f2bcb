"""The two sides of a session that measured them in turns, held against each other. Pure.

What makes the machine slower for a while hits both visits of a block, so each block gives one difference that is
nearly free of it: the logarithm of the quotient of the visits' medians. Runs of one visit share a load and are not
independent; blocks are what is counted (paired.py). Which side goes first alternates, so that a steady drift cancels
out.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.compare import (
    LOWER_IS_BETTER,
    BenchComparison,
    Comparison,
    Evidence,
    change_of,
    judge,
)
from lmstrix.core.benchmark.paired import centre, centre_interval, least_p_value, signed_rank_p
from lmstrix.core.benchmark.records import series_of
from lmstrix.core.benchmark.visit_records import block_log_ratios
from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.records import BenchReport, CellResult

_EXPLAINED = (
    "change is the typical one within a block of two visits, which what slows both down does not touch; "
    "the quotient of the two medians may differ from it"
)


def compare_sides(report: BenchReport) -> BenchComparison:
    """Side A is the first, B the second. Raises UsageError for a report that has no two sides."""
    if report.request.against is None:
        raise UsageError(
            f"this report has one side only: compare it with a second one, or measure both with {parameter('against')}"
        )
    first, second = _of_side(report, "A"), _of_side(report, "B")
    shared = [place for place in first if place in second]
    evidence = [one for place in shared for one in _evidence(first[place], second[place])]
    return BenchComparison(
        comparisons=judge(evidence),
        method="blocks",
        only_first=tuple(cell.cell.name for place, cell in first.items() if place not in second),
        only_second=tuple(cell.cell.name for place, cell in second.items() if place not in first),
        notes=(_EXPLAINED,) if evidence else (),
    )


def _of_side(report: BenchReport, side: str) -> dict[tuple[int, int], CellResult]:
    return {
        (one.cell.tier_tokens, one.cell.concurrency): one
        for one in report.cells
        if one.cell.target.side == side and one.runs
    }


def _evidence(first: CellResult, second: CellResult) -> list[Evidence]:
    left, right = series_of(first.runs, first.loads), series_of(second.runs, second.loads)
    blocks = block_log_ratios(first, second)
    return [
        evidence_of_blocks(_name(first, second), figure, left[figure], right[figure], blocks[figure])
        for figure in LOWER_IS_BETTER
        if figure in blocks
    ]


def _name(first: CellResult, second: CellResult) -> str:
    """The cell without its side, and both models where there are two."""
    cell, other = first.cell, second.cell.target.model_key
    key = cell.target.model_key
    return cell.place if key == other else f"{key} against {other}{cell.place.removeprefix(key)}"


def evidence_of_blocks(
    cell: str, figure: str, left: Sequence[float], right: Sequence[float], log_ratios: tuple[float, ...]
) -> Evidence:
    """What both sides' runs and the differences within their blocks tell of one figure."""
    shift = centre(log_ratios)
    comparison = Comparison(
        cell=cell,
        figure=figure,
        first=median(left),
        second=median(right),
        first_count=len(left),
        second_count=len(right),
        blocks=len(log_ratios),
        change_ratio=change_of(shift),
        verdict="no difference",
    )
    return Evidence(
        comparison=comparison,
        logs=log_ratios,
        shift=shift,
        p_value=signed_rank_p(log_ratios),
        least_p_value=least_p_value(len(log_ratios)),
        interval=lambda confidence: centre_interval(log_ratios, confidence),
        too_few="too few blocks",
    )
