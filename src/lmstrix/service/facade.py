"""LMStrixService: wires registry, scanner, backend and managers; one method a use case.

The connection to a server is made by the first use case that needs one, and closed by `close()`; a service that only
lists models never imports the SDK.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmstrix.core.registry.listing import Listing, ScanReport
from lmstrix.core.registry.store import RegistryStore
from lmstrix.service.call_log import LogFile

if TYPE_CHECKING:
    from types import TracebackType

    from lmstrix.core.answers.acting import Transcript
    from lmstrix.core.answers.batch import BatchProgress, BatchReport
    from lmstrix.core.answers.chat import ChatSession
    from lmstrix.core.answers.conversations import ConversationStore
    from lmstrix.core.answers.inference import Prepared
    from lmstrix.core.answers.recommend import Advice, Wish
    from lmstrix.core.answers.request import Embedded, InferRequest, Rehearsal
    from lmstrix.core.benchmark.compare import BenchComparison
    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.benchmark.records import BenchReport
    from lmstrix.core.context.report import ContextReport, PlannedTest
    from lmstrix.core.context.tester import Step
    from lmstrix.core.health import DoctorReport
    from lmstrix.core.history import BenchRun
    from lmstrix.core.history.calls import CallStatistics, LoggedCall
    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.registry.defaults import SavedDefaults
    from lmstrix.core.registry.registry import ModelRecord, ModelRegistry
    from lmstrix.ground.backend import LoadProgress, ModelBackend
    from lmstrix.ground.choices import SortKey, TestOrder
    from lmstrix.ground.paths import Paths
    from lmstrix.ground.settings import Settings
    from lmstrix.ground.types import LoadConfig, LoadedModel, StreamEvent
    from lmstrix.service.batching import BatchRequest
    from lmstrix.service.benching import BenchOptions, BenchOutcome
    from lmstrix.service.connection import Connection
    from lmstrix.service.powering import PowerReport
    from lmstrix.service.testing import ContextTestRequest

Notify = Callable[[str], None]
SORT_KEYS: dict[SortKey, Callable[[ModelRecord], Any]] = {
    "id": lambda record: record.model_key.lower(),
    "name": lambda record: record.display_name.lower(),
    "ctx": lambda record: record.max_context_length or 0,
    "tested": lambda record: record.tested_context_length or 0,
    "size": lambda record: record.size_bytes or 0,
    "status": lambda record: (record.is_missing, record.test_status),
    "date": lambda record: record.tested_at.timestamp() if record.tested_at else 0.0,
}


def _free_name(model_key: str, loaded: Sequence[LoadedModel]) -> str:
    """The model's key, or key:2, key:3 where it is loaded already."""
    taken = {model.instance_id for model in loaded}
    names = chain([model_key], (f"{model_key}:{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def _say_nothing(line: str) -> None:
    """For callers that want no remarks."""


class LMStrixService:
    """Everything LMStrix does, for the command line and the Python API alike.

    `notify` receives one-line remarks for the user (which server was chosen, what was assumed).
    """

    def __init__(self, *, paths: Paths, settings: Settings, notify: Notify | None = None) -> None:
        self.paths = paths
        self.settings = settings
        self.notify: Notify = notify or _say_nothing
        self.log_file = LogFile(paths.history_file)
        self._connection: Connection | None = None

    def __enter__(self) -> LMStrixService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the server; stop an engine that was started for this service alone."""
        self.log_file.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Registry

    @property
    def store(self) -> RegistryStore:
        return RegistryStore(self.paths.registry_file)

    def list_models(
        self,
        *,
        filter: str | None = None,  # noqa: A002 - FILTER on the CLI
        sort: SortKey = "id",
        reverse: bool = False,
    ) -> Listing:
        """The registry's records, filtered by text in key or path, sorted."""
        records = list(self.store.load())
        total = len(records)
        if filter:
            wanted = filter.lower()
            records = [r for r in records if wanted in r.model_key.lower() or wanted in r.path.lower()]
        records.sort(key=SORT_KEYS[sort], reverse=reverse)
        return Listing(records=tuple(records), total=total)

    def scan(
        self,
        *,
        models_dir: Path | None = None,
        refresh: bool = False,
        write: bool = True,
        forget: Literal["all", "failed"] | None = None,
    ) -> ScanReport:
        """Find models on disk and on the server and merge them into the registry."""
        from lmstrix.service.scanning import scan

        return scan(
            self.paths,
            self.settings,
            store=self.store,
            models_dir=models_dir,
            refresh=refresh,
            write=write,
            forget=forget,
            notify=self.notify,
        )

    def find(self, query: str) -> ModelRecord:
        """The registry's record of a model; an empty registry is filled by a scan first."""
        return self.known_models().find(query)

    def known_models(self) -> ModelRegistry:
        """The registry, filled by a scan when it is empty."""
        registry = self.store.load()
        if not len(registry):
            self.notify("the registry is empty; scanning")
            self.scan()
            registry = self.store.load()
        return registry

    def registry(self) -> ModelRegistry:
        """The registry as it is on disk."""
        return self.store.load()

    # Server

    @property
    def connection(self) -> Connection:
        """The server in use; connects at first use. Raises BackendUnavailableError."""
        if self._connection is None:
            from lmstrix.service.connection import connect

            self._connection = connect(self.paths, self.settings, notify=self.notify)
        return self._connection

    @property
    def models_dir(self) -> Path:
        """Where model files lie: what our engine serves, else the settings, else LM Studio's folder."""
        if self._connection is not None and self._connection.models_dir is not None:
            return self._connection.models_dir
        if self.settings.models_dir:
            return Path(self.settings.models_dir)
        from lmstrix.engine.daemon import engine_status

        return engine_status(self.paths.home).models_dir or self.paths.models_dir

    def running_connection(self) -> Connection:
        """The server in use, or one that runs already: what is loaded there stays. Raises BackendUnavailableError."""
        if self._connection is None:
            from lmstrix.service.connection import connect_running

            self._connection = connect_running(self.paths, self.settings)
        return self._connection

    def load(
        self,
        model: str,
        config: LoadConfig,
        *,
        ttl_s: float | None = None,
        instance_id: str | None = None,
        on_progress: LoadProgress | None = None,
    ) -> LoadedModel:
        """Load a model and keep it. Without a context length: the tested one, or a modest one when untested."""
        from dataclasses import replace

        from lmstrix.core.answers.load_policy import choose_context
        from lmstrix.ground.errors import UsageError
        from lmstrix.ground.types import Deadlines

        record = self.find(model)
        declared = record.max_context_length
        if declared and config.context_length and config.context_length > declared:
            raise UsageError(
                f"{record.model_key} declares {declared:,} tokens; --ctx {config.context_length:,} is beyond that"
            )
        backend = self.running_connection().backend
        if config.context_length is None:
            choice = choose_context(None, declared=declared or 4096, tested=record.tested_context_length)
            config = replace(config, context_length=choice.context_length)
            self.notify(f"{record.model_key}: loading {choice.context_length:,} tokens ({choice.source})")
        return backend.load(
            record.model_key,
            config,
            instance_id=instance_id or _free_name(record.model_key, backend.list_loaded()),
            kind=record.kind,
            ttl_s=ttl_s,
            deadlines=Deadlines(),
            on_progress=on_progress,
        )

    def unload(self, instance: str | None) -> list[LoadedModel]:
        """Unload one instance by identifier or key, or everything for None; returns what was unloaded."""
        from lmstrix.ground.errors import ModelNotFoundError

        backend = self.running_connection().backend
        loaded = backend.list_loaded()
        chosen = [m for m in loaded if instance is None or instance == m.instance_id]
        if instance is not None and not chosen:
            chosen = [m for m in loaded if instance == m.model_key]
        if instance is not None and len(chosen) != 1:
            names = ", ".join(m.instance_id for m in (chosen or loaded)) or "nothing is loaded"
            what = "is loaded more than once" if chosen else "is not loaded"
            raise ModelNotFoundError(f"{instance!r} {what}; loaded: {names}", model_key=instance)
        for model in chosen:
            backend.unload(model.instance_id, kind=model.kind)
        return chosen

    def ps(self) -> list[LoadedModel]:
        """The loaded models."""
        return self.running_connection().backend.list_loaded()

    # Inference

    def stream(
        self,
        request: InferRequest,
        *,
        on_prepared: Callable[[Prepared], None] | None = None,
        on_progress: LoadProgress | None = None,
        transcript: Transcript | None = None,
    ) -> Iterator[StreamEvent]:
        """The events of one answer; the last is Finished. `transcript` takes the turns of a call with tools."""
        from lmstrix.service.answering import Watch, stream

        return stream(self, request, Watch(on_prepared=on_prepared, on_progress=on_progress, transcript=transcript))

    def chat(
        self,
        request: InferRequest,
        *,
        model: str | None = None,
        system_prompt: str | None = None,
        name: str | None = None,
        latest: bool = False,
    ) -> ChatSession:
        """A chat: new, or going on with the conversation `name`, or with the latest one."""
        from lmstrix.core.answers.chat import ChatSession, ChatTools
        from lmstrix.core.answers.conversations import Conversation

        store = self.conversations
        if latest:
            conversation = store.latest()
        else:
            conversation = store.load(name) if name is not None else Conversation(name=store.new_name())
        if system_prompt is not None:
            conversation = conversation.with_system_prompt(system_prompt)
        tools = ChatTools(
            ask=self.stream, find_model=lambda query: self.find(query).model_key, store=store, keep=self.keeps_texts
        )
        session = ChatSession(tools, request, conversation)
        if model is not None:
            session.command(f"/model {model}")
        return session

    @property
    def keeps_texts(self) -> bool:
        """Whether prompts and answers may be written down."""
        return self.settings.log_inference and self.settings.log_texts

    def rehearse(self, request: InferRequest) -> Rehearsal:
        """What a request would send and what it counts; sends nothing and needs no server."""
        from lmstrix.service.rehearsing import rehearse

        return rehearse(self, request)

    @property
    def conversations(self) -> ConversationStore:
        """The conversations kept on disk."""
        from lmstrix.core.answers.conversations import ConversationStore

        return ConversationStore(self.paths.home / "conversations")

    def batch(
        self, request: BatchRequest, *, on_progress: Callable[[BatchProgress], None] | None = None
    ) -> BatchReport:
        """Prompts by models by inputs to files, one model loaded at a time."""
        from lmstrix.api.alone import run_alone
        from lmstrix.api.client import AsyncLMStudioBackend
        from lmstrix.service.batching import run_batch

        server = self.connection.server

        async def run() -> BatchReport:
            backend = AsyncLMStudioBackend(server, api_token=self.settings.api_token)
            try:
                return await run_batch(self, backend, request, on_progress=on_progress)
            finally:
                await backend.close()

        return run_alone(run())

    def embed(self, texts: Sequence[str], *, model: str | None = None, ttl_s: float | None = 300.0) -> Embedded:
        """One vector a text."""
        from lmstrix.core.unsuspended import Unsuspended, here, run_unsuspended
        from lmstrix.service.embedding import embed

        def connect() -> ModelBackend:
            return Unsuspended(self.connection.backend)

        return run_unsuspended(embed(self, connect, texts, model, ttl_s=ttl_s, aside=here))

    def recommend(self, wish: Wish) -> Advice:
        """The best models for a wish, by tested limits, predicted memory and logged speeds."""
        from lmstrix.service.recommending import advise

        return advise(self, wish)

    def logged_calls(self, *, search: str | None = None, model: str | None = None, last: int = 20) -> list[LoggedCall]:
        """The calls in the log, newest first, or the best matches of `search` first."""
        from lmstrix.core.history import History

        path = self.find(model).path if model is not None else None
        if not self.paths.history_file.exists():
            return []
        with History(self.paths.history_file) as history:
            if search is None:
                return history.calls.latest(model_path=path, limit=last)
            found = history.calls.search(search, limit=last if path is None else 10 * last)
            return [entry for entry in found if path is None or entry.call.model_path == path][:last]

    def call_statistics(self, *, model: str | None = None) -> list[CallStatistics]:
        """What the log says of each model: calls, failures, tokens, mean speed."""
        from lmstrix.core.history import History

        path = self.find(model).path if model is not None else None
        if not self.paths.history_file.exists():
            return []
        with History(self.paths.history_file) as history:
            return history.calls.statistics(model_path=path)

    # Context limits

    def test(
        self,
        model: str | None,
        options: ContextTestRequest,
        *,
        order: TestOrder = "risk",
        on_step: Callable[[Step], None] | None = None,
        on_model: Callable[[ModelRecord, int, int], None] | None = None,
    ) -> ContextReport:
        """Find the real context limit of one model, or with None of all that have no result yet."""
        from lmstrix.service.testing import run_tests

        return run_tests(self, model, options, order=order, on_step=on_step, on_model=on_model)

    def plan_tests(
        self, model: str | None, options: ContextTestRequest, *, order: TestOrder = "risk"
    ) -> list[PlannedTest]:
        """What `test` would try, by arithmetic; touches nothing."""
        from lmstrix.service.testing import plan

        return plan(self, model, options, order=order)

    def estimate(self, model: str, load: LoadConfig) -> EstimateReport:
        """What a load takes and which context fits, by arithmetic; nothing is loaded."""
        from lmstrix.service.estimating import estimate

        return estimate(self, model, load)

    def save(
        self,
        model: str | None,
        *,
        limit: float | None = None,
        flash_attention: bool | None = None,
        dry_run: bool = False,
        restore: bool = False,
    ) -> list[SavedDefaults]:
        """Write tested contexts into LM Studio's own per-model defaults, or put the originals back."""
        from lmstrix.service.saving import save

        return save(self, model, limit=limit, flash_attention=flash_attention, dry_run=dry_run, restore=restore)

    def reset(self, model: str | None) -> list[ModelRecord]:
        """Forget the test results of one model, or with None of all; returns those that had any."""
        from lmstrix.core.history import History

        records = [self.find(model)] if model is not None else list(self.registry())
        paths = [record.path for record in records]
        done = set(self.store.update(lambda registry: [path for path in paths if registry.reset(path)]))
        if self.paths.history_file.exists():
            with History(self.paths.history_file) as history:
                for path in paths:
                    history.journal.forget_tests(path)
        return [record for record in records if record.path in done]

    # Benchmarks

    def bench(self, options: BenchOptions, *, on_event: Callable[[BenchEvent], None] | None = None) -> BenchOutcome:
        """Measure models and write a report; on Ctrl-C, of what was measured until then."""
        from lmstrix.service.benching import bench

        return bench(self, options, on_event=on_event)

    def find_bench(self, name: str) -> BenchReport:
        """A benchmark by its folder, its file, its session or `last`."""
        from lmstrix.service.benching import find_report

        return find_report(self, name)

    def compare_benches(self, first: str, second: str) -> BenchComparison:
        """Two benchmarks against each other."""
        from lmstrix.core.benchmark.compare import compare

        return compare(self.find_bench(first), self.find_bench(second))

    def rewrite_bench(self, name: str, folder: Path | None = None) -> Path:
        """Write a benchmark's files anew; returns its page."""
        from lmstrix.service.benching import rewrite

        return rewrite(self, name, folder)

    def bench_history(self, *, model: str | None = None, last: int = 20) -> list[BenchRun]:
        """The benchmarks made here, newest first, an entry a cell."""
        from lmstrix.service.benching import history_runs

        return history_runs(self, model=model, last=last)

    # This machine

    def power(self, watch_s: float) -> PowerReport:
        """What this machine tells of its power, measured for a while."""
        from lmstrix.service.powering import measure_power

        return measure_power(watch_s)

    def doctor(self) -> DoctorReport:
        """What works here, with remedies for what does not."""
        from lmstrix.service.doctor import examine

        return examine(self)

    @staticmethod
    def new_run_id() -> str:
        """A short name for one run, unique enough to tell its instances from others'."""
        import secrets

        return f"{int(time.time()) % 10**6:06d}{secrets.token_hex(2)}"
