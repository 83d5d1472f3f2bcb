"""Reports of several servers that were measured side by side -> one report. Pure.

What a first token takes on a server is told apart from the way to it: beside the time to first token stands the same
less one round trip of the network, which is what a request and its first answer need on the wire at least.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.records import series_of
from lmstrix.core.benchmark.stats import summarize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.benched_servers import BenchedServer
    from lmstrix.core.benchmark.records import BenchReport, CellResult

LESS_NETWORK = "ttft_less_round_trip_s"


def one_report(session: str, reports: Sequence[tuple[BenchedServer, BenchReport]]) -> BenchReport:
    """All cells in one report, in the order of the servers."""
    servers = tuple(server for server, _ in reports)
    cells = tuple(_less_network(cell, server.round_trip_s) for server, report in reports for cell in report.cells)
    return replace(
        reports[0][1],
        session=session,
        started_at=min(report.started_at for _, report in reports),
        cells=cells,
        server="; ".join(_told(server) for server in servers),
        server_version=None,
        power="several servers were measured at once, whose energy cannot be told apart",
        power_sources=(),
        interrupted=any(report.interrupted for _, report in reports),
        notes=tuple(f"{server.name}: {note}" for server, report in reports for note in report.notes),
        servers=servers,
    )


def _told(server: BenchedServer) -> str:
    version = f" {server.version}" if server.version else ""
    trip = "not measured" if server.round_trip_s is None else f"{server.round_trip_s * 1000:.3g} ms"
    left_out = f", without {', '.join(server.left_out)}" if server.left_out else ""
    return f"{server.name}: {server.engine}{version} at {server.address}, round trip {trip}{left_out}"


def _less_network(cell: CellResult, round_trip_s: float | None) -> CellResult:
    ttft_s = series_of(cell.runs).get("ttft_s", [])
    if round_trip_s is None or not ttft_s:
        return cell
    # Round trips vary; one that was shorter than the measured one leaves nothing, and no server answers before it.
    summary = summarize([max(0.0, seconds - round_trip_s) for seconds in ttft_s])
    assert summary is not None
    return replace(cell, summaries={**cell.summaries, LESS_NETWORK: summary})
