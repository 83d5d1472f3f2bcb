"""The events of a running benchmark, for progress displays, and what sends the events of one cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.benchmark.records import Cell, CellResult, RunRecord

EventKind = Literal["load", "warmup", "idle", "prompt", "answer", "run", "cell", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchEvent:
    """One thing that happened, for progress displays. `cell_number` counts from 1 up to `cells`.

    "load" and "prompt" carry a growing `ratio`, "answer" the `tokens` so far and their rate, "run" and "warmup" the
    record, "cell" the result as it stands, "note" and "idle" a `text`.
    """

    kind: EventKind
    cell: Cell | None = None
    cell_number: int = 0
    cells: int = 0
    ratio: float | None = None
    tokens: int | None = None
    tokens_per_second: float | None = None
    run: RunRecord | None = None
    result: CellResult | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class CellTeller:
    """Sends the events of one cell; each carries the cell and its place among all."""

    on_event: Callable[[BenchEvent], None]
    cell: Cell
    number: int
    cells: int

    def tell(
        self,
        kind: EventKind,
        *,
        ratio: float | None = None,
        tokens: int | None = None,
        tokens_per_second: float | None = None,
        run: RunRecord | None = None,
        result: CellResult | None = None,
        text: str = "",
    ) -> None:
        """One event of the cell."""
        self.on_event(
            BenchEvent(
                kind=kind,
                cell=self.cell,
                cell_number=self.number,
                cells=self.cells,
                ratio=ratio,
                tokens=tokens,
                tokens_per_second=tokens_per_second,
                run=run,
                result=result,
                text=text,
            )
        )

    def progress(
        self, *, prompt_ratio: float | None = None, tokens: int | None = None, tokens_per_second: float | None = None
    ) -> None:
        """How far a request is; see `measuring.Progress`."""
        kind: EventKind = "prompt" if tokens is None else "answer"
        self.tell(kind, ratio=prompt_ratio, tokens=tokens, tokens_per_second=tokens_per_second)
