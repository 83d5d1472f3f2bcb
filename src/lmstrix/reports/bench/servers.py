"""Several servers on the terminal: the present cell of each, and the network's part of a first token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.reports.bench.view import LESS_ROUND_TRIP, TTFT, BenchView, duration
from lmstrix.reports.progress import ProgressLine
from lmstrix.reports.table import Column

if TYPE_CHECKING:
    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.benchmark.records import BenchReport
    from lmstrix.reports.console import Console

_COLUMNS = (
    Column(title="SERVER", shrink=True, keep=10),
    Column(title="ADDRESS", shrink=True, keep=14),
    Column(title="ROUND TRIP", right=True),
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="FIRST TOKEN", right=True),
    Column(title="LESS ROUND TRIP", right=True),
)


class TargetsProgressLine(ProgressLine):
    """The line; where none is drawn a note for each cell."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._doing: dict[str, str] = {}

    def show(self, server: str, event: BenchEvent) -> None:
        """Something happened on a server."""
        if event.kind == "note":
            self._console.note(f"{server}: {event.text}")
            return
        if event.cell is None:
            return
        # The server is in the cell's name.
        self._doing[server] = f"{event.cell.name} ({event.cell_number}/{event.cells})"
        self.update("; ".join(self._doing.values()))
        if event.kind == "cell" and event.result is not None and (self._console.verbose or not self.live):
            self._console.note(f"{self._doing[server]}: {len(event.result.runs)} runs")


def show_servers(console: Console, report: BenchReport) -> None:
    """The time to first token of every cell beside the network's own round trip, which is part of it."""
    servers = {server.name: server for server in report.servers}
    rows = []
    for cell in BenchView(report).cells:
        server = servers[cell.result.cell.target.server or ""]
        first, less = cell.figure(TTFT), cell.figure(LESS_ROUND_TRIP)
        rows.append(
            (
                server.name,
                server.address,
                duration(server.round_trip_s) if server.round_trip_s is not None else "-",
                cell.result.cell.target.model_key,
                first.text if first is not None else "-",
                less.text if less is not None else "-",
            )
        )
    console.table(_COLUMNS, rows)
