"""Our figures beside those of the server's own clock, a row per cell, for every format. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lmstrix.reports.bench.view import DECODE, PREFILL, TTFT

if TYPE_CHECKING:
    from lmstrix.core.benchmark.records import Agreement
    from lmstrix.reports.bench.view import BenchView, CellView

_FIGURES = (TTFT, PREFILL, DECODE)
COLUMNS = ("Model", "Context", "At a time", *(metric.title for metric in _FIGURES))
ABOUT = "Ours / the server's own (difference). The two agree within 3 % or 1 ms, or what the way to the server takes."
NO_CLOCK = "the server tells no times of its own"


class ClockCell(NamedTuple):
    """One figure by both clocks. `value` is the share by which ours is off, None where the server has no figure."""

    text: str
    value: float | None = None
    agrees: bool = True


class ClockRow(NamedTuple):
    """One cell of the benchmark by both clocks."""

    cell: CellView
    figures: tuple[ClockCell, ...]


def clock_rows(view: BenchView) -> list[ClockRow]:
    """Every cell for which the server has told a time of its own."""
    rows = []
    for cell in view.cells:
        known = {one.figure: one for one in cell.result.agreements}
        if known:
            figures = tuple(
                ClockCell("-")
                if (one := known.get(metric.name)) is None
                else ClockCell(
                    f"{metric.write(one.ours)} / {metric.write(one.server)} ({one.off_ratio:+.1%})",
                    one.off_ratio,
                    one.agrees,
                )
                for metric in _FIGURES
            )
            rows.append(ClockRow(cell, figures))
    return rows


def clocks_in_short(view: BenchView) -> str:
    """How far the two clocks are apart at the most, in one line."""
    found = [one for cell in view.cells for one in cell.result.agreements]
    if not found:
        return NO_CLOCK
    apart = sum(not one.agrees for one in found)
    judged = f"{apart} of {len(found)} figures do not agree" if apart else f"all {len(found)} figures agree"
    return f"beside the server's own clock: {judged}; farthest apart: {_farthest(found)}"


def _farthest(found: list[Agreement]) -> str:
    # Of those that disagree, if any do: a millisecond of a short wait is a large share of it, and still in order.
    worst = max(found, key=lambda one: (not one.agrees, abs(one.off_ratio)))
    metric = next(metric for metric in _FIGURES if metric.name == worst.figure)
    return f"{metric.title}, {metric.write(worst.ours)} against {metric.write(worst.server)} ({worst.off_ratio:+.1%})"
