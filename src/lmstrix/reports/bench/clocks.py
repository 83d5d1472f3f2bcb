"""Our figures beside those of the server's own clock, a row per cell, for every format. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lmstrix.reports.bench.view import DECODE, PREFILL, TTFT

if TYPE_CHECKING:
    from lmstrix.core.benchmark.records import Agreement
    from lmstrix.reports.bench.view import BenchView, CellView, Metric

_FIGURES = (TTFT, PREFILL, DECODE)
COLUMNS = ("Model", "Context", "At a time", *(metric.title for metric in _FIGURES))
ABOUT = (
    "Ours / the server's own (difference), as medians. Requests whose two figures are more than 3 % and 1 ms apart, or "
    "than a remote server's way takes, are counted."
)
NO_CLOCK = "the server tells no times of its own"


class ClockCell(NamedTuple):
    """One figure by both clocks. `apart` says how many requests do not agree, "" where all do."""

    text: str
    apart: str = ""

    @property
    def whole(self) -> str:
        """All in one text."""
        return f"{self.text}, {self.apart}" if self.apart else self.text


class ClockRow(NamedTuple):
    """One cell of the benchmark by both clocks."""

    cell: CellView
    figures: tuple[ClockCell, ...]


def clock_rows(view: BenchView) -> list[ClockRow]:
    """Every cell for which the server has told a time of its own."""
    rows = []
    for cell in view.cells:
        known: dict[str, Agreement] = {one.figure: one for one in cell.result.agreements}
        if known:
            rows.append(ClockRow(cell, tuple(_cell(metric, known.get(metric.name)) for metric in _FIGURES)))
    return rows


def _cell(metric: Metric, one: Agreement | None) -> ClockCell:
    if one is None:
        return ClockCell("-")
    text = f"{metric.write(one.ours)} / {metric.write(one.server)} ({one.off_ratio:+.1%})"
    return ClockCell(text, "" if one.agrees else f"{one.apart} of {one.requests} apart")


def clocks_in_short(view: BenchView) -> str:
    """How well the two clocks agree, in one line."""
    found = [one for cell in view.cells for one in cell.result.agreements]
    if not found:
        return NO_CLOCK
    apart = [one for one in found if not one.agrees]
    if not apart:
        return f"beside the server's own clock: all {len(found)} figures agree"
    # By the shown medians, the farthest first: whoever reads on has the worst request in the marks.
    worst = max(apart, key=lambda one: abs(one.off_ratio))
    metric = next(metric for metric in _FIGURES if metric.name == worst.figure)
    shown = f"{metric.title} {metric.write(worst.ours)} against {metric.write(worst.server)} ({worst.off_ratio:+.1%})"
    counts = f"{len(apart)} of {len(found)} figures are apart in some requests"
    return f"beside the server's own clock: {counts}, such as {shown}"
