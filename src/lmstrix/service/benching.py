"""`bench`: which models on which server, measured into a report in a folder of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from lmstrix.core.benchmark import plan
from lmstrix.core.benchmark.measuring import BenchServer
from lmstrix.core.benchmark.power import LEAST_PERIOD_S, MOST_PERIOD_S, PERIOD_S
from lmstrix.core.benchmark.records import BenchReport, BenchRequest, BenchTarget
from lmstrix.core.benchmark.runner import Bench
from lmstrix.core.benchmark.saved import find_unfinished
from lmstrix.core.registry.naming import CURRENT
from lmstrix.core.registry.places import place_of
from lmstrix.ground.access import access_to
from lmstrix.ground.addresses import host_of, is_local
from lmstrix.ground.awake import keep_awake
from lmstrix.ground.errors import GgufError, MlxError, ModelNotFoundError, UsageError
from lmstrix.ground.loads import DEFAULT_LOAD
from lmstrix.ground.model_names import parse_shard
from lmstrix.ground.ranges import check_numbers
from lmstrix.ground.wording import parameter
from lmstrix.loaders.model_header import read_model_header
from lmstrix.reports.bench.files import write_report
from lmstrix.reports.bench.power_csv import write_power
from lmstrix.service.bench_reports import new_folder, ready_folder
from lmstrix.service.finding import find_model, known_models
from lmstrix.service.making_room import room_to_measure
from lmstrix.service.measured_runs import failures, or_so_far, with_time_limit
from lmstrix.service.model_folders import check_served, folder_to_serve, foreign_format, model_file, why_not_served
from lmstrix.service.room import room_for_targets
from lmstrix.service.unheeded import check_settings, without_effect

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from lmstrix.api.openai import OfferedModel
    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.history import History
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.service.workspace import Workspace

OPENAI = "openai:"
_WEIGHTS = ("*.safetensors", "*.gguf")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What `lmstrix bench` can be told. No `models` means all; `out` is the report's folder, made up when None.

    `power_interval_s` is how often power is read. Without `save` neither a report nor the history is written.
    """

    models: tuple[str, ...] = ()
    request: BenchRequest = field(default_factory=BenchRequest)
    out: Path | None = None
    power: bool = True
    power_interval_s: float = PERIOD_S
    resume: bool = False
    save: bool = True

    def __post_init__(self) -> None:
        if not LEAST_PERIOD_S <= self.power_interval_s <= MOST_PERIOD_S:
            raise UsageError(
                f"power is read every {LEAST_PERIOD_S * 1000:g} ms to every {MOST_PERIOD_S:g} s "
                f"({parameter('power_interval_s')})"
            )
        if not self.save and (self.resume or self.out is not None):
            raise UsageError(
                f"{parameter('save', value=False)} writes nothing; "
                f"leave it out, or {parameter('resume')} and {parameter('out')}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOutcome:
    """A finished (or interrupted) benchmark and its page; no page where nothing was to be saved."""

    report: BenchReport
    index: Path | None

    @property
    def failed(self) -> tuple[str, ...]:
        """What failed, a line per cell."""
        return failures(self.report.cells)


class Benchmarking:
    """One `bench`. `run` measures it; after an interrupt `so_far` reports what was measured until then."""

    def __init__(
        self, workspace: Workspace, options: BenchOptions, *, on_event: Callable[[BenchEvent], None] | None = None
    ) -> None:
        # Not by the record itself: reports of earlier versions are read into it, whatever they were asked.
        check_numbers(options.request)
        self._workspace = workspace
        self._options = options
        self._on_event = on_event
        self._bench: Bench | None = None

    async def run(self) -> BenchOutcome:
        """Measure, and write the report. Raises what keeps it from beginning."""
        workspace, options = self._workspace, self._options
        request = with_time_limit(options.request, workspace.settings)
        async with AsyncExitStack() as stack:
            history = stack.enter_context(workspace.open_history())
            # Two measurements at once would measure each other.
            stack.enter_context(history.journal.tester_lock("lmstrix bench"))
            stack.enter_context(keep_awake())
            against = request.against
            if against is not None and len(options.models) != 1:
                raise UsageError(f"a comparison has one model on each side: one model, and {parameter('against')} one")
            sides = () if against is None else (against,)
            server, targets, backend = await find_server(
                workspace, (*options.models, *sides), stack, loads=loads_of(request)
            )
            if against is not None:
                # The same model on both sides is found once.
                targets = [replace(targets[0], side="A"), replace(targets[-1], side="B")]
            plan.plan_cells(targets, request, loads=server.loads is not None)  # refuses what makes no sense
            if options.out is not None:
                ready_folder(options.out)
            bench = self._bench = Bench(
                server,
                targets,
                request,
                session=self._session(history, targets, request) if options.resume else None,
                history=history.benches if options.save else None,
                power_sources=None if options.power else (),
                power_period_s=options.power_interval_s,
                host=host_of(server.address),
                on_event=self._on_event,
            )
            async with room_to_measure(workspace, backend, bench.instance_prefix):
                await bench.run()
        return self._written(bench)

    def measure(self, run: Callable[[Coroutine[Any, Any, BenchOutcome]], BenchOutcome]) -> BenchOutcome:
        """For blocking callers, whose portal's `run` this takes: an interrupt ends in a report, if there is one."""
        return or_so_far(run, self.run(), self.so_far)

    def so_far(self) -> BenchOutcome | None:
        """After an interrupt: what was measured, in a report; None when nothing had begun."""
        return self._written(self._bench) if self._bench is not None else None

    def _session(self, history: History, targets: Sequence[BenchTarget], request: BenchRequest) -> str | None:
        session = find_unfinished(history.benches, request, [target.path for target in targets])
        notify = self._workspace.notify
        notify(f"going on with {session}" if session else "nothing like it was interrupted; beginning anew")
        return session

    def _written(self, bench: Bench) -> BenchOutcome:
        report = bench.report()
        if not self._options.save:
            return BenchOutcome(report=report, index=None)
        folder = self._options.out or new_folder(self._workspace, report.started_at)
        index = write_report(report, folder)
        write_power(bench.power_readings, folder)
        return BenchOutcome(report=report, index=index)


class FoundServer(NamedTuple):
    """What to measure, on which server; `backend` is None for a server that loads its models by itself."""

    server: BenchServer
    targets: list[BenchTarget]
    backend: ModelBackend | None


async def find_server(
    workspace: Workspace,
    models: Sequence[str],
    stack: AsyncExitStack,
    *,
    loads: Sequence[LoadConfig] = (),
    leave_out: Sequence[str] = (),
) -> FoundServer:
    """The server in use, with the models named; the stack closes what was opened.

    `loads` are how they will be loaded: a model that would ignore a part of that is refused, or left out of all.
    `leave_out` names parameters that requests to an OpenAI-compatible server are not to carry.
    """
    if workspace.settings.server.startswith(OPENAI):
        if any(load != DEFAULT_LOAD for load in loads):
            raise UsageError(f"{workspace.settings.server} loads its models by itself; leave the settings of loads out")
        return FoundServer(*await _openai(workspace, models, stack, leave_out), None)
    if leave_out:
        raise UsageError("leave_out is for servers with openai: before their address; others are sent what they know")
    registry = await known_models(workspace)
    if models:
        named = [record for model in models for record in await _named(workspace, registry, model)]
        records = list({record.path: record for record in named}.values())
        embedding = next((record for record in records if record.kind == "embedding"), None)
        if embedding is not None:
            raise UsageError(f"{embedding.model_key} is an embedding model; it generates nothing to measure")
    else:
        records = [r for r in registry if r.kind != "embedding" and not r.is_missing]
        if not records:
            raise ModelNotFoundError("there are no models to measure yet", model_key="")
    connection = await workspace.connect(models_dir=folder_to_serve(workspace, records))
    for record in list(records):
        # What was named is to be measured; of all models, those that this server has.
        if models:
            check_served(workspace, connection, record)
            for load in loads:
                check_settings(record, load)
        elif (
            reason := foreign_format(connection, record)
            or why_not_served(workspace, connection, record)
            or _unheeded(record, loads)
        ) is not None:
            workspace.notify(f"left out: {reason}")
            records.remove(record)
    # Another machine's files cannot be looked at: what depends on them stays unknown.
    is_here, place = is_local(connection.server.address), place_of(connection.server)
    targets = [
        _target(record.seen_from(place), model_file(workspace, record) if is_here else None) for record in records
    ]
    server = replace(BenchServer.of(connection.backend), room=room_for_targets(workspace, connection.backend, records))
    return FoundServer(server, targets, connection.backend)


def loads_of(request: BenchRequest) -> tuple[LoadConfig, ...]:
    """How the models of a benchmark are loaded, on either side."""
    return (request.load,) if request.against_load is None else (request.load, request.against_load)


def _unheeded(record: ModelRecord, loads: Sequence[LoadConfig]) -> str | None:
    return next((reason for load in loads if (reason := without_effect(record, load)) is not None), None)


async def _named(workspace: Workspace, registry: ModelRegistry, name: str) -> list[ModelRecord]:
    """The model of this name, or all that have it as a tag."""
    return [await find_model(workspace, registry, name)] if name == CURRENT else registry.find_answering(name)


async def _openai(
    workspace: Workspace, models: Sequence[str], stack: AsyncExitStack, leave_out: Sequence[str]
) -> tuple[BenchServer, list[BenchTarget]]:
    """A server that loads its models by itself, which are named as it names them."""
    from lmstrix.api.openai import AsyncOpenAIBackend

    settings = workspace.settings
    backend = AsyncOpenAIBackend(
        settings.server, access=access_to(settings, settings.server.removeprefix(OPENAI)), leave_out=leave_out
    )
    stack.push_async_callback(backend.close)
    offered = {model.name: model for model in await backend.offered_models()}
    unknown = [model for model in models if model not in offered]
    if unknown:
        raise ModelNotFoundError(
            f"{workspace.settings.server} does not offer {unknown[0]!r}; it has: {', '.join(offered) or 'no model'}",
            model_key=unknown[0],
        )
    server = BenchServer(
        streams=backend, loads=None, engine="openai", address=backend.address, runtime=await backend.runtime()
    )
    return server, [_offered(offered[name]) for name in models or offered]


def _offered(model: OfferedModel) -> BenchTarget:
    return BenchTarget(
        model_key=model.name, path=model.name, size_bytes=model.size_bytes, quantization=model.quantization
    )


def _target(record: ModelRecord, file: Path | None) -> BenchTarget:
    files = _files(file) if file is not None else []
    dense = file is not None and bool(files) and _is_dense(file)
    known = record.best_result
    return BenchTarget(
        model_key=record.model_key,
        path=record.path,
        size_bytes=record.size_bytes,
        quantization=record.quantization,
        max_context_length=record.max_context_length,
        tested_context_length=record.tested_context_length,
        tested_is_limit=known is None or known.is_limit,
        # Only a dense model reads all its weights for each token; for mixtures of experts the figure would mislead.
        bytes_per_token=record.size_bytes if dense else None,
        files=tuple(map(str, files)),
    )


def _files(first: Path) -> list[Path]:
    """The files of a model on this machine, by its first one."""
    if first.is_dir():
        return sorted(file for pattern in _WEIGHTS for file in first.glob(pattern))
    if not first.is_file():
        return []
    shard = parse_shard(first.name)
    if shard is None:
        return [first]
    numbers = range(1, shard.total + 1)
    shards = [first.with_name(f"{shard.base}-{number:05d}-of-{shard.total:05d}.gguf") for number in numbers]
    return [file for file in shards if file.is_file()]


def _is_dense(path: Path) -> bool:
    """Whether every token reads all weights: no experts, as far as the file or folder tells."""
    try:
        metadata = read_model_header(path).metadata
    except (GgufError, MlxError):
        return False
    return not any(key.endswith(".expert_count") and value for key, value in metadata.items())
