"""Under a time budget every cell has its first run before any has its second. Pure.

A budget too short for all is spent on as many models as it can: a model's first cell comes before anybody's second, and
small models before large ones, which may take all that is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.records import Cell, LoadRecord, RunRecord


def first_turn(cells: Sequence[Cell], waiting: Sequence[int]) -> list[int]:
    """The cells at these places that have no run yet, in the order of their first runs."""
    seen: dict[str, int] = {}
    ranks: dict[int, tuple[int, int]] = {}
    for place in waiting:
        target = cells[place].target
        number = seen[target.model_key] = seen.get(target.model_key, 0) + 1
        ranks[place] = (number, target.size_bytes or 0)
    return sorted(waiting, key=ranks.__getitem__)


def least_visit_s(
    loads: Sequence[LoadRecord], warmups: Sequence[RunRecord], runs: Sequence[RunRecord], *, idle_s: float
) -> float:
    """What a visit for one more run takes, going by the earlier ones: load, warm-up, idle spans and the run."""
    load_s = loads[-1].load_s or 0.0 if loads else 0.0
    warmup_s = warmups[-1].span_s if warmups else 0.0
    return load_s + warmup_s + idle_s + max((run.span_s for run in runs), default=0.0)
