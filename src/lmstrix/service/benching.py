"""`bench`: which models on which server, measured into a report in a folder of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lmstrix.core.benchmark import plan
from lmstrix.core.benchmark.measuring import BenchServer
from lmstrix.core.benchmark.records import BenchReport, BenchRequest, BenchTarget
from lmstrix.core.benchmark.runner import Bench
from lmstrix.core.benchmark.saved import find_unfinished
from lmstrix.core.registry.places import place_of
from lmstrix.ground.addresses import host_name, is_local
from lmstrix.ground.errors import GgufError, ModelNotFoundError, UsageError
from lmstrix.ground.model_names import parse_shard
from lmstrix.ground.ranges import check_numbers
from lmstrix.ground.wording import call
from lmstrix.loaders.gguf import read_header
from lmstrix.reports.bench.files import write_report
from lmstrix.service.bench_reports import new_folder
from lmstrix.service.finding import known_models

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.history import History
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.service.workspace import Workspace

OPENAI = "openai:"
_WEIGHTS = ("*.safetensors", "*.gguf")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What `lmstrix bench` can be told. No `models` means all; `out` is the report's folder, made up when None."""

    models: tuple[str, ...] = ()
    request: BenchRequest = field(default_factory=BenchRequest)
    out: Path | None = None
    power: bool = True
    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOutcome:
    """A finished (or interrupted) benchmark and its page."""

    report: BenchReport
    index: Path

    @property
    def failed(self) -> tuple[str, ...]:
        """What failed, a line per cell."""
        fine = ("ok", "skipped", "not reached", "interrupted")
        return tuple(
            f"{one.cell.name}: {one.reason or one.outcome}" for one in self.report.cells if one.outcome not in fine
        )


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
        async with AsyncExitStack() as stack:
            history = stack.enter_context(workspace.open_history())
            # Two measurements at once would measure each other.
            stack.enter_context(history.journal.tester_lock("lmstrix bench"))
            server, targets = await _server(workspace, options.models, stack)
            plan.plan_cells(targets, options.request, loads=server.loads is not None)  # refuses what makes no sense
            self._bench = Bench(
                server,
                targets,
                options.request,
                session=self._session(history, targets) if options.resume else None,
                history=history.benches,
                power_sources=None if options.power else (),
                host=host_name(),
                on_event=self._on_event,
            )
            report = await self._bench.run()
        return self._written(report)

    def measure(self, run: Callable[[Coroutine[Any, Any, BenchOutcome]], BenchOutcome]) -> BenchOutcome:
        """For blocking callers, whose portal's `run` this takes: an interrupt ends in a report, if there is one."""
        try:
            return run(self.run())
        except KeyboardInterrupt:
            outcome = self.so_far()
            if outcome is None:
                raise
            return outcome

    def so_far(self) -> BenchOutcome | None:
        """After an interrupt: what was measured, in a report; None when nothing had begun."""
        return self._written(self._bench.report()) if self._bench is not None else None

    def _session(self, history: History, targets: Sequence[BenchTarget]) -> str | None:
        session = find_unfinished(history.benches, self._options.request, [target.path for target in targets])
        notify = self._workspace.notify
        notify(f"going on with {session}" if session else "nothing like it was interrupted; beginning anew")
        return session

    def _written(self, report: BenchReport) -> BenchOutcome:
        folder = self._options.out or new_folder(self._workspace, report)
        return BenchOutcome(report=report, index=write_report(report, folder))


async def _server(
    workspace: Workspace, models: Sequence[str], stack: AsyncExitStack
) -> tuple[BenchServer, list[BenchTarget]]:
    if workspace.settings.server.startswith(OPENAI):
        return await _openai(workspace, models, stack)
    registry = await known_models(workspace)
    if models:
        records = [registry.find(model) for model in dict.fromkeys(models)]
        embedding = next((record for record in records if record.kind == "embedding"), None)
        if embedding is not None:
            raise UsageError(f"{embedding.model_key} is an embedding model; it generates nothing to measure")
    else:
        records = [r for r in registry if r.kind != "embedding" and not r.is_missing]
        if not records:
            raise ModelNotFoundError(f"there are no models to measure; {call('scan')} finds them", model_key="")
    connection = await workspace.connect()
    # Another machine's files cannot be looked at: what depends on them stays unknown.
    models_dir = workspace.models_dir if is_local(connection.server.address) else None
    place = place_of(connection.server)
    return BenchServer.of(connection.backend), [_target(record.seen_from(place), models_dir) for record in records]


async def _openai(
    workspace: Workspace, models: Sequence[str], stack: AsyncExitStack
) -> tuple[BenchServer, list[BenchTarget]]:
    """A server that loads its models by itself, which are named as it names them."""
    from lmstrix.api.openai import AsyncOpenAIBackend

    backend = AsyncOpenAIBackend(workspace.settings.server, api_key=workspace.settings.api_token)
    stack.push_async_callback(backend.close)
    names = await backend.list_models()
    unknown = [model for model in models if model not in names]
    if unknown:
        raise ModelNotFoundError(
            f"{workspace.settings.server} does not offer {unknown[0]!r}; it has: {', '.join(names) or 'no model'}",
            model_key=unknown[0],
        )
    server = BenchServer(streams=backend, loads=None, engine="openai", address=backend.address)
    return server, [BenchTarget(model_key=name, path=name) for name in models or names]


def _target(record: ModelRecord, models_dir: Path | None) -> BenchTarget:
    files = _files(models_dir, record) if models_dir is not None else []
    known = record.best_result
    return BenchTarget(
        model_key=record.model_key,
        path=record.path,
        size_bytes=record.size_bytes,
        max_context_length=record.max_context_length,
        tested_context_length=record.tested_context_length,
        tested_is_limit=known is None or known.is_limit,
        # Only a dense model reads all its weights for each token; for mixtures of experts the figure would mislead.
        bytes_per_token=record.size_bytes if files and _is_dense(files[0]) else None,
        files=tuple(map(str, files)),
    )


def _files(models_dir: Path, record: ModelRecord) -> list[Path]:
    """The model's files on this machine."""
    first = models_dir / record.file
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


def _is_dense(file: Path) -> bool:
    """Whether every token reads all weights: no experts, as far as the file tells."""
    if file.suffix != ".gguf":
        return False
    try:
        metadata = read_header(file).metadata
    except GgufError:
        return False
    return not any(key.endswith(".expert_count") and value for key, value in metadata.items())
