"""What every benchmark shares, whichever way it measures: the limit of an answer, an interrupt, what failed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from lmstrix.core.benchmark.records import BenchRequest, Cell
    from lmstrix.ground.settings import Settings

T = TypeVar("T")
_FINE = ("ok", "skipped", "not reached", "interrupted")


class MeasuredCell(Protocol):
    """A cell, and how measuring it ended."""

    @property
    def cell(self) -> Cell: ...
    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str: ...


def with_time_limit(request: BenchRequest, settings: Settings) -> BenchRequest:
    """What was asked for, with the limit of one answer that holds for every command."""
    if settings.timeout_s is None or request.deadlines.total_s is not None:
        return request
    return replace(request, deadlines=replace(request.deadlines, total_s=settings.timeout_s))


def or_so_far(
    run: Callable[[Coroutine[Any, Any, T]], T], steps: Coroutine[Any, Any, T], so_far: Callable[[], T | None]
) -> T:
    """For blocking callers, whose portal's `run` this takes: an interrupt ends in what was measured, if anything."""
    try:
        return run(steps)
    except KeyboardInterrupt:
        outcome = so_far()
        if outcome is None:
            raise
        return outcome


def failures(cells: Iterable[MeasuredCell]) -> tuple[str, ...]:
    """What failed, a line per cell."""
    return tuple(f"{one.cell.name}: {one.reason or one.outcome}" for one in cells if one.outcome not in _FINE)
