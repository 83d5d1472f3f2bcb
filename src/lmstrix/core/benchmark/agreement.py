"""Our figures of a cell beside those of the server's own clock, and whether the two agree. Pure.

Both clocks time the same work, so they may differ only by the way between client and server, and by how the server
counts. Some servers count the first token into their decode rate and some do not: anything between the two ways of
counting agrees. Requests at the same time wait for each other in ways that each server books differently, so there the
decode rates alone are held against each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.benchmark.records import Agreement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.benchmark.records import ClockedFigure, RequestFigures, RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementLimits:
    """How far two clocks may be apart: by a share of the server's time, or by an amount, whichever is more."""

    ratio: float = 0.03  # bench/bench_agreement.py stays below it on a quiet machine
    seconds: float = 0.001  # what the way costs between two processes of one machine


LIMITS = AgreementLimits()


class _Clocked(NamedTuple):
    """One request by both clocks. `least_s` and `most_s` are the server's time by either way of counting."""

    ours: float
    server: float
    ours_s: float
    least_s: float
    most_s: float

    @property
    def apart_s(self) -> float:
        return max(self.ours_s - self.most_s, self.least_s - self.ours_s, 0.0)


def agreements_of(runs: Sequence[RunRecord], *, is_remote: bool) -> tuple[Agreement, ...]:
    """Every figure that both clocks have measured. From a remote server the idle latency is the way's by right."""
    worked = [run for run in runs if not run.failed and not run.warmup]
    readers: tuple[tuple[ClockedFigure, Callable[[RequestFigures], _Clocked | None]], ...] = (
        ("ttft_s", _first_token),
        ("prefill_tokens_per_second", _prefill),
        ("decode_tokens_per_second", _decode),
    )
    latencies = [run.latency_s for run in worked if run.latency_s is not None] if is_remote else []
    way_s = max(LIMITS.seconds, median(latencies)) if latencies else LIMITS.seconds
    found = []
    for figure, read in readers:
        fit = worked if figure == "decode_tokens_per_second" else [run for run in worked if len(run.requests) == 1]
        pairs = [pair for run in fit for request in run.requests if (pair := read(request)) is not None]
        if pairs:
            found.append(_agreement(figure, pairs, way_s))
    return tuple(found)


def _agreement(figure: ClockedFigure, pairs: Sequence[_Clocked], way_s: float) -> Agreement:
    ours, server = median(pair.ours for pair in pairs), median(pair.server for pair in pairs)
    worst = max(pairs, key=lambda pair: pair.apart_s / pair.most_s)
    return Agreement(
        figure=figure,
        ours=ours,
        server=server,
        off_ratio=ours / server - 1,
        requests=len(pairs),
        # One by one: where a client is starved for a moment, a median hides it and an interval does not.
        apart=sum(pair.apart_s > max(LIMITS.ratio * pair.most_s, way_s) for pair in pairs),
        worst_ours=worst.ours,
        worst_server=worst.server,
    )


def _first_token(request: RequestFigures) -> _Clocked | None:
    ours, server = request.ttft_s, request.server_ttft_s
    if ours is None or server is None or not _is_usable(server):
        return None
    return _Clocked(ours, server, ours, server, server)


def _prefill(request: RequestFigures) -> _Clocked | None:
    ours, server = request.prefill_tokens_per_second, request.server_prefill_tokens_per_second
    if ours is None or server is None or request.prompt_tokens is None or not _is_usable(server):
        return None
    fresh = request.prompt_tokens - (request.cached_tokens or 0)
    return _Clocked(ours, server, fresh / ours, fresh / server, fresh / server)


def _decode(request: RequestFigures) -> _Clocked | None:
    ours, server = request.decode_tokens_per_second, request.server_decode_tokens_per_second
    tokens = request.completion_tokens
    if ours is None or server is None or tokens is None or tokens < 2 or not _is_usable(server):
        return None
    return _Clocked(ours, server, (tokens - 1) / ours, (tokens - 1) / server, tokens / server)


def _is_usable(value: float) -> bool:
    """A server without a figure may say zero, and some divide by it."""
    return math.isfinite(value) and value > 0
