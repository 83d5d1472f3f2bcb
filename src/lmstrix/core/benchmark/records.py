"""What a benchmark is asked for and what it finds, down to the raw moments. JSON both ways through pydantic.

A *cell* is one model at one context tier and one concurrency. It is visited once or more: each visit loads the model,
warms it up and makes some *runs*. A run is one request, or as many at a time as the concurrency says. Times are
seconds; "at" in a request counts from sending it. None means not measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping  # noqa: TC003 - pydantic resolves the annotations at run time
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - likewise
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lmstrix.core.benchmark.benched_servers import BenchedServer  # noqa: TC001 - likewise
from lmstrix.core.benchmark.energy import Energy  # noqa: TC001 - likewise
from lmstrix.core.benchmark.environment import Environment  # noqa: TC001 - likewise
from lmstrix.core.benchmark.machine_load import CpuUse  # noqa: TC001 - likewise
from lmstrix.core.benchmark.memory_sampler import MemoryUse  # noqa: TC001 - likewise
from lmstrix.core.benchmark.stats import Summary, summarize
from lmstrix.ground.choices import BenchTask
from lmstrix.ground.loads import DEFAULT_LOAD, LoadConfig
from lmstrix.ground.types import Deadlines, StopReason

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA = "lmstrix.bench/1"
Task = Literal[BenchTask, "custom"]
Side = Literal["A", "B"]
FileCache = Literal["cold", "partly cached", "warm"]
ClockedFigure = Literal["ttft_s", "prefill_tokens_per_second", "decode_tokens_per_second"]
DEFAULT_BLOCKS = 12
"""Of an A/B comparison. By simulation a slowdown of 10 % is found 19 times in 20 where visits scatter by 3 %, after the
correction for seven figures; ten blocks are the fewest that can find any difference then."""

R = TypeVar("R")
# Made once per kind: building an adapter costs far more than reading a record with it.
_ADAPTERS: dict[object, TypeAdapter[Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchTarget:
    """A model to measure. `files` are its files on this machine, where known, to tell a cold load from a warm one.

    `bytes_per_token` is how much of the weights one generated token reads: all of a dense model's, None when unknown.
    `server` names the one it is on, in a benchmark of several; `side` is the one it has in an A/B comparison.
    """

    model_key: str
    path: str
    size_bytes: int | None = None
    quantization: str | None = None
    max_context_length: int | None = None
    tested_context_length: int | None = None
    tested_is_limit: bool = True
    bytes_per_token: int | None = None
    files: tuple[str, ...] = ()
    server: str | None = None
    side: Side | None = None

    @property
    def name(self) -> str:
        """The model's key, with server or side where there are several: both may have models of one name."""
        side = f" ({self.side})" if self.side is not None else ""
        return self.model_key + side + (f" on {self.server}" if self.server is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What to measure.

    `tiers` are context lengths in tokens to fill, 0 for the bare prompt. At most `runs` runs per cell; fewer when the
    interval of every rate is at most `settled_ratio` of its median wide, which takes six. `passes` None visits every
    cell twice, the second time in reverse order, where there are several. `cold` drops a model's files from the file
    cache before loading it, where the system can. `prompt` replaces the task's.

    `against` names the model of side B, which may be that of side A: both are measured in turns, in so many `blocks` of
    one visit each, with at least one run per visit and without ending early. `against_load` None loads B as A.
    """

    runs: int = 6
    tiers: tuple[int, ...] = (0,)
    concurrency: tuple[int, ...] = (1,)
    task: Task = "story"
    prompt: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    budget_s: float | None = None
    settled_ratio: float | None = 0.05
    passes: int | None = None
    cold: bool = False
    idle_s: float = 3.0
    load: LoadConfig = DEFAULT_LOAD
    deadlines: Deadlines = field(default_factory=lambda: Deadlines(silence_s=180.0))
    against: str | None = None
    against_load: LoadConfig | None = None
    blocks: int = DEFAULT_BLOCKS

    @property
    def runs_per_cell(self) -> int:
        """`runs`, or one for each visit where those are more."""
        return self.runs if self.against is None else max(self.runs, self.blocks)

    @property
    def stops_at_ratio(self) -> float | None:
        """`settled_ratio`, but not in blocks: one side must not end before the other."""
        return self.settled_ratio if self.against is None else None

    def load_of(self, target: BenchTarget) -> LoadConfig:
        """How this target is loaded."""
        return self.against_load if target.side == "B" and self.against_load is not None else self.load


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell as planned. `context_length` and `prompt_tokens` None: whatever it takes. `skipped` says why it is."""

    target: BenchTarget
    tier_tokens: int
    concurrency: int
    max_tokens: int
    context_length: int | None = None
    prompt_tokens: int | None = None
    skipped: str | None = None

    @property
    def name(self) -> str:
        """A stable name within a session: "qwen3-4b, 4096 tokens, 2 at a time"; with its side, "qwen3-4b (B)"."""
        return f"{self.target.name}{self._circumstances}"

    @property
    def place(self) -> str:
        """The name without a side."""
        return f"{self.target.model_key}{self._circumstances}"

    @property
    def _circumstances(self) -> str:
        tier = f", {self.tier_tokens} tokens" if self.tier_tokens else ""
        return tier + (f", {self.concurrency} at a time" if self.concurrency > 1 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Why a measurement is to be doubted. `kind` is stable, `text` is for people."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFigures:
    """One request. Token counts are the server's, and so are the times and rates called `server_…`.

    `chunk_at_s` and `chunk_tokens` are raw: when each piece came, and with how many tokens (0 unknown). `failure` is
    one line, and what was measured before it stays.
    """

    requested_tokens: int
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    stop_reason: StopReason | None = None
    ttfr_s: float | None = None
    ttft_s: float | None = None
    ttfo_s: float | None = None
    itl_s: float | None = None
    itl_p50_s: float | None = None
    itl_p90_s: float | None = None
    itl_p99_s: float | None = None
    prefill_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    e2e_s: float | None = None
    server_ttft_s: float | None = None
    server_total_s: float | None = None
    server_prefill_tokens_per_second: float | None = None
    server_decode_tokens_per_second: float | None = None
    chunks: int = 0
    chunk_at_s: tuple[float, ...] = ()
    chunk_tokens: tuple[int, ...] = ()
    answer: str = ""
    reasoning: str = ""
    answer_cut: bool = False
    outcome: str = "ok"
    failure: str | None = None
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run. `latency_s` is the idle latency of one token so far; `span_s` runs from first sending to last byte.

    `latency_scatter_s` is what one measurement of that latency is off by; None while there are too few of them.
    """

    number: int
    measured_at: datetime
    requests: tuple[RequestFigures, ...]
    span_s: float
    latency_s: float | None = None
    latency_scatter_s: float | None = None
    output_tokens_per_second: float | None = None
    energy: Energy | None = None
    cpu: CpuUse | None = None
    warmup: bool = False

    @property
    def failed(self) -> bool:
        return any(request.failure is not None for request in self.requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRecord:
    """One load. `cached_ratio` is how much of the files lay in memory before it; `load_s` None: the server loads."""

    number: int
    measured_at: datetime
    load_s: float | None
    context_length: int | None
    file_cache: FileCache | None = None
    cached_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One figure by our clock and the server's, as medians of the requests with both.

    `off_ratio` 0.05: ours is 5 % more. `apart` counts the requests whose two figures differ by more than the way
    between client and server costs; `worst_ours` and `worst_server` are those of the one farthest apart.
    """

    figure: ClockedFigure
    ours: float
    server: float
    off_ratio: float
    requests: int
    apart: int
    worst_ours: float
    worst_server: float

    @property
    def agrees(self) -> bool:
        return self.apart == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """All of one cell. `outcome` is "ok", "skipped", "not reached", "interrupted" or the name of a failure.

    `summaries` are over the runs that worked, by the name of the figure; of several requests at a time each run counts
    with their median. `agreements` hold them against the server's own clock. `prompt` is the newest prompt as it
    was sent, or its beginning. `out_of_time`: the time budget was spent before it had all its runs.
    """

    cell: Cell
    outcome: str
    reason: str = ""
    loads: tuple[LoadRecord, ...] = ()
    warmups: tuple[RunRecord, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    memory: MemoryUse | None = None
    summaries: Mapping[str, Summary] = field(default_factory=dict)
    agreements: tuple[Agreement, ...] = ()
    prompt: str = ""
    marks: tuple[Mark, ...] = ()
    out_of_time: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """One benchmark session. `power` says what was measured by, or that nothing was. `servers` are there where it had
    several; `environment` is None in reports of versions that did not look.
    """

    session: str
    started_at: datetime
    request: BenchRequest
    cells: tuple[CellResult, ...]
    server: str
    server_version: str | None = None
    host: str | None = None
    environment: Environment | None = None
    power: str = ""
    power_sources: tuple[str, ...] = ()
    memory_bandwidth_bytes_per_s: float | None = None
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    servers: tuple[BenchedServer, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The whole report as a JSON object."""
        return {"schema": SCHEMA, **to_json(self)}


def to_json(record: object) -> dict[str, Any]:
    """A record as JSON values; numbers that are none become null."""
    dumped: dict[str, Any] = _finite(_adapter(type(record)).dump_python(record, mode="json"))
    return dumped


def from_json(kind: type[R], raw: Mapping[str, Any]) -> R:
    """The record `to_json` made this of; unknown fields are left out. Raises ValueError for what is none."""
    return _adapter(kind).validate_python(raw)


def _adapter(kind: type[R]) -> TypeAdapter[R]:
    """What reads and writes records of one kind."""
    from pydantic import TypeAdapter

    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    # JSON has no NaN and no infinity, and readers refuse a file that holds one.
    return None if isinstance(value, float) and not math.isfinite(value) else value


REQUEST_FIGURES = (
    "ttfr_s",
    "ttft_s",
    "ttfo_s",
    "itl_s",
    "itl_p50_s",
    "itl_p90_s",
    "itl_p99_s",
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "e2e_s",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
)
SERVER_FIGURES = (
    "server_ttft_s",
    "server_total_s",
    "server_prefill_tokens_per_second",
    "server_decode_tokens_per_second",
)
ENERGY_FIGURES = (
    "gross_j",
    "net_j",
    "prefill_net_j",
    "decode_net_j",
    "net_j_per_prompt_token",
    "net_j_per_decode_token",
    "net_j_per_output_token",
    "average_power_w",
    "minimum_power_w",
    "maximum_power_w",
    "cpu_gross_j",
    "gpu_gross_j",
    "memory_gross_j",
    "accelerator_gross_j",
)


def series_of(runs: tuple[RunRecord, ...], loads: tuple[LoadRecord, ...] = ()) -> dict[str, list[float]]:
    """The values of every figure by name, one per run that worked (or per load); what nobody measured is left out."""
    worked = [run for run in runs if not run.failed and not run.warmup]
    series = {name: [load.load_s for load in chosen if load.load_s is not None] for name, chosen in _by_cache(loads)}
    for name in (*REQUEST_FIGURES, *SERVER_FIGURES):
        per_run = [[getattr(request, name) for request in run.requests] for run in worked]
        # One value per run: requests at the same time disturb each other, so they are not independent measurements.
        medians = [summarize([value for value in values if value is not None]) for values in per_run]
        series[name] = [summary.median for summary in medians if summary is not None]
    rates = [run.output_tokens_per_second for run in worked]
    series["output_tokens_per_second"] = [rate for rate in rates if rate is not None]
    energies = [run.energy for run in worked if run.energy is not None]
    for name in ENERGY_FIGURES:
        values = [getattr(energy, name) for energy in energies]
        series[name] = [value for value in values if value is not None]
    return {name: values for name, values in series.items() if values}


def _by_cache(loads: tuple[LoadRecord, ...]) -> list[tuple[str, list[LoadRecord]]]:
    """All loads, and those from the disk and from memory apart: they differ more than anything else."""
    return [
        ("load_s", list(loads)),
        ("cold_load_s", [load for load in loads if load.file_cache == "cold"]),
        ("warm_load_s", [load for load in loads if load.file_cache == "warm"]),
    ]


def summaries_of(runs: tuple[RunRecord, ...], loads: tuple[LoadRecord, ...] = ()) -> dict[str, Summary]:
    """Every figure of a cell in short."""
    summaries = {name: summarize(values) for name, values in series_of(runs, loads).items()}
    return {name: summary for name, summary in summaries.items() if summary is not None}
