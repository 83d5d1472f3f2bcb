"""A cell while it is measured: what its visits have found so far, and the result this gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.agreement import agreements_of
from lmstrix.core.benchmark.records import Cell, CellResult, LoadRecord, Mark, RunRecord, summaries_of
from lmstrix.core.benchmark.suspicion import marks_of_cell

if TYPE_CHECKING:
    from lmstrix.core.benchmark.events import CellTeller
    from lmstrix.core.benchmark.memory_sampler import MemoryUse
    from lmstrix.core.benchmark.prompts import PromptWriter

MOST_PROMPT_CHARS = 64 * 1024
"""Of a prompt kept as an example; its beginning and its kind of text show well before."""


@dataclass(slots=True)
class CellState:
    """A cell while it is measured, over all its visits. `closed`: it needs no more of them; `earlier_prompt` is
    from before the session was taken up again."""

    cell: Cell
    number: int
    writer: PromptWriter
    teller: CellTeller
    outcome: str | None = None
    reason: str = ""
    loads: list[LoadRecord] = field(default_factory=list)
    warmups: list[RunRecord] = field(default_factory=list)
    runs: list[RunRecord] = field(default_factory=list)
    memory: MemoryUse | None = None
    marks: list[Mark] = field(default_factory=list)
    closed: bool = False
    out_of_time: bool = False
    is_remote: bool = False
    earlier_prompt: str = ""
    records: int = 0

    def next_number(self) -> int:
        self.records += 1
        return self.records

    @property
    def worked(self) -> int:
        """How many runs worked."""
        return sum(not run.failed for run in self.runs)

    @property
    def last_failure(self) -> str:
        """Why the last run that failed did."""
        failures = [request.failure for run in self.runs for request in run.requests if request.failure is not None]
        return failures[-1] if failures else ""

    def take_up(self, earlier: CellResult) -> None:
        """Go on from what an earlier start of the session has measured."""
        self.loads, self.warmups, self.runs = list(earlier.loads), list(earlier.warmups), list(earlier.runs)
        self.memory, self.earlier_prompt = earlier.memory, earlier.prompt
        # Go on counting after the highest number: one given again would replace an earlier record in the history.
        loads = (record.number for record in self.loads)
        runs = (record.number for record in (*self.warmups, *self.runs))
        self.records = max((*loads, *runs), default=0)

    def result(self, default: str) -> CellResult:
        runs, loads = tuple(self.runs), tuple(self.loads)
        agreements = agreements_of(runs, is_remote=self.is_remote)
        return CellResult(
            cell=self.cell,
            outcome=self.outcome or default,
            reason=self.reason,
            loads=loads,
            warmups=tuple(self.warmups),
            runs=runs,
            memory=self.memory,
            summaries=summaries_of(runs, loads),
            agreements=agreements,
            prompt=(self.writer.last or self.earlier_prompt)[:MOST_PROMPT_CHARS],
            marks=(*self.marks, *_gathered(runs), *marks_of_cell(runs, agreements)),
            out_of_time=self.out_of_time,
        )


def _gathered(runs: tuple[RunRecord, ...]) -> tuple[Mark, ...]:
    """One mark per kind over all runs, with how many of them carry it."""
    found: dict[str, list[Mark]] = {}
    for run in runs:
        for kind, mark in {mark.kind: mark for request in run.requests for mark in request.marks}.items():
            found.setdefault(kind, []).append(mark)
    return tuple(
        Mark(kind=kind, text=f"{marks[0].text} ({len(marks)} of {len(runs)} runs)") for kind, marks in found.items()
    )
