"""What traffic a model is to serve and what came of it, down to each request. JSON both ways through pydantic.

A *stage* is one stretch of traffic: requests one at a time, or arriving at a rate for a span of time whether or not
earlier ones are answered. Moments of a stage are seconds from its beginning. None means not measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - pydantic resolves the annotations at run time

from lmstrix.core.benchmark.goodput import LatencyTargets
from lmstrix.core.benchmark.records import BenchRequest, Cell

TRAFFIC_SCHEMA = "lmstrix.traffic/1"
UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRequest:
    """What traffic to send.

    `rates_per_s` are requests per second, one stage each; with `sweep` they are found, from below what one at a time
    comes to up to saturation. `span_s` is how long a stage sends; None sends about thirty requests, for half a minute
    at least. `bench` says what to ask and how to load; it has one tier and one concurrency, the slots of the load.
    """

    rates_per_s: tuple[float, ...] = ()
    sweep: bool = False
    span_s: float | None = None
    targets: LatencyTargets = field(default_factory=LatencyTargets)
    bench: BenchRequest = field(default_factory=lambda: BenchRequest(concurrency=(4,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRequest:
    """One request. `due_s` is when it was to be sent, `sent_s` when it was, `ended_s` when it ended however it did.

    `outcome` is "ok", "unfinished" (cut off when the stage stopped waiting) or the name of a failure. `tokens_in_span`
    counts the output tokens that came before the span of its stage was over.
    """

    due_s: float
    sent_s: float
    ended_s: float
    ttft_s: float | None = None
    itl_s: float | None = None
    e2e_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens_in_span: int | None = None
    outcome: str = "ok"
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficStage:
    """One stage as it happened. `rate_per_s` None: one request at a time. `cut` says why sending ended early.

    `not_sent` counts the requests that were due while so many were open that one more would measure the client. An
    `interrupted` stage ended when the user ended it: what was open then says nothing of the server.
    """

    rate_per_s: float | None
    started_at: datetime
    span_s: float
    requests: tuple[ServedRequest, ...]
    cut: str | None = None
    not_sent: int = 0
    interrupted: bool = False

    @property
    def name(self) -> str:
        return "one at a time" if self.rate_per_s is None else f"{self.rate_per_s:.3g} per second"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficResult:
    """All of one model. `outcome` is "ok", "skipped", "not reached", "interrupted" or the name of a failure."""

    cell: Cell
    outcome: str
    reason: str = ""
    load_s: float | None = None
    context_length: int | None = None
    stages: tuple[TrafficStage, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficReport:
    """One test of traffic."""

    session: str
    started_at: datetime
    request: TrafficRequest
    results: tuple[TrafficResult, ...]
    server: str
    server_version: str | None = None
    host: str | None = None
    interrupted: bool = False
