"""What each visit of a cell measured, and the visits of two sides in blocks. Pure.

Loads, warm-ups and runs of a cell are numbered in one sequence, and a visit begins with a load, or with a warm-up where
the server loads by itself: so the runs of one visit are told from those of the next. A block is a visit of one side and
the visit of the other that was made right after it; one that has lost its partner belongs to none. Runs of a visit are
not independent; visits are.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.records import series_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from lmstrix.core.benchmark.records import CellResult


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitRecord:
    """One visit: when it began, and the median of the logarithms of every figure.

    Of logarithms, so that a rate and the time it is the reciprocal of stay that where two values lie in the middle.
    """

    began_at: datetime
    log_medians: Mapping[str, float]


def visits_of(result: CellResult) -> tuple[VisitRecord, ...]:
    """The visits of a cell that measured anything, in order."""
    begins = result.loads or result.warmups
    starts = sorted(record.number for record in begins)
    at = {record.number: record.measured_at for record in begins}
    visits = []
    for place, start in enumerate(starts, 1):
        runs = tuple(run for run in result.runs if bisect_right(starts, run.number) == place)
        loads = tuple(load for load in result.loads if load.number == start)
        if any(not run.failed for run in runs):
            logs = {name: logarithms(values) for name, values in series_of(runs, loads).items()}
            medians = {name: median(values) for name, values in logs.items() if values}
            visits.append(VisitRecord(began_at=at[start], log_medians=medians))
    return tuple(visits)


def block_log_ratios(first: CellResult, second: CellResult) -> dict[str, tuple[float, ...]]:
    """For every figure the logarithm of second / first in each block that has it on both sides."""
    found: dict[str, list[float]] = {}
    for left, right in blocks_of(first, second):
        for name in left.log_medians.keys() & right.log_medians.keys():
            found.setdefault(name, []).append(right.log_medians[name] - left.log_medians[name])
    return {name: tuple(values) for name, values in found.items()}


def logarithms(values: Iterable[float]) -> list[float]:
    """Those of the values that have one: net energy may be zero or less, and a report may hold anything."""
    return [math.log(value) for value in values if 0 < value < math.inf]


def blocks_of(first: CellResult, second: CellResult) -> list[tuple[VisitRecord, VisitRecord]]:
    """The blocks, each with the visit of `first` before that of `second`, whichever was made first."""
    visits = [(visit, False) for visit in visits_of(first)] + [(visit, True) for visit in visits_of(second)]
    visits.sort(key=lambda one: one[0].began_at)
    blocks, waiting = [], None
    for visit, is_second in visits:
        if waiting is None or waiting[1] == is_second:
            # Two of one side in a row: the earlier one's partner failed, or an interrupt came between.
            waiting = visit, is_second
            continue
        blocks.append((waiting[0], visit) if is_second else (visit, waiting[0]))
        waiting = None
    return blocks
