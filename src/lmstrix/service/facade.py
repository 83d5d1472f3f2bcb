"""LMStrixService: every use case by name, one line each. What waits for a server is asynchronous; the rest returns.

The command line and the Python API call it, and nothing else does. Imports stand inside the methods, so that a command
starts up with what it needs and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.callbacks import in_caller
from lmstrix.service.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from lmstrix.core.answers.acting import Approve, Transcript
    from lmstrix.core.answers.answer_schema import AnswerSchema
    from lmstrix.core.answers.batch import BatchProgress, BatchReport
    from lmstrix.core.answers.chat import ChatSession
    from lmstrix.core.answers.conversations import ConversationSummary
    from lmstrix.core.answers.inference import Prepared
    from lmstrix.core.answers.recommend import Advice, Wish
    from lmstrix.core.answers.request import DryRun, Embedded, InferRequest
    from lmstrix.core.benchmark.compare import BenchComparison
    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.benchmark.records import BenchReport
    from lmstrix.core.benchmark.traffic_events import TrafficEvent
    from lmstrix.core.benchmark.traffic_records import TrafficReport
    from lmstrix.core.context.eta import TimeLeft
    from lmstrix.core.context.report import PlannedTest, Step
    from lmstrix.core.health import DoctorReport
    from lmstrix.core.history import BenchRun
    from lmstrix.core.history.calls import CallStatistics, LoggedCall
    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.registry.defaults import SavedDefaults
    from lmstrix.core.registry.listing import Listing, ScanReport
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.ground.backend import LoadProgress
    from lmstrix.ground.choices import SortKey, TestOrder
    from lmstrix.ground.downloads import Download
    from lmstrix.ground.errors import SettingsError
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import InstanceMemory, LoadedModel, StreamEvent
    from lmstrix.service.batch_words import BatchRequest
    from lmstrix.service.bench_targets import BenchTargetsOptions, TargetsBenching
    from lmstrix.service.benching import Benchmarking, BenchOptions
    from lmstrix.service.collecting import Collections
    from lmstrix.service.due_tests import ContextTestRequest
    from lmstrix.service.getting import GotModel
    from lmstrix.service.histories import ModelHistory
    from lmstrix.service.inferring import Inferring, InferWords
    from lmstrix.service.monitoring import Monitoring
    from lmstrix.service.powering import PowerReport
    from lmstrix.service.registry_files import RegistryFiles
    from lmstrix.service.scanning import Forget
    from lmstrix.service.testing import ContextTesting
    from lmstrix.service.traffic_testing import TrafficTesting, TrafficTestOptions


class LMStrixService(Workspace):
    """Everything LMStrix does, for the command line and the Python API alike; all of it on one event loop."""

    # Models

    def list_models(self, *, wanted: str | None = None, sort: SortKey = "id", reverse: bool = False) -> Listing:
        """The registry's records, filtered by text in key or path, sorted."""
        from lmstrix.service.listing import list_models

        return list_models(self, wanted=wanted, sort=sort, reverse=reverse)

    async def scan(
        self, *, models_dir: Path | None = None, refresh: bool = False, write: bool = True, forget: Forget = None
    ) -> ScanReport:
        """Find models on disk and on the server and merge them into the registry."""
        from lmstrix.service.scanning import scan

        return await scan(self, models_dir=models_dir, refresh=refresh, write=write, forget=forget)

    async def known_models(self) -> ModelRegistry:
        """The registry, filled by a scan when it is empty."""
        from lmstrix.service.finding import known_models

        return await known_models(self)

    async def get_model(
        self,
        model: str | None,
        *,
        quantization: str | None = None,
        job_id: str | None = None,
        on_progress: Callable[[Download], None] | None = None,
    ) -> GotModel:
        """Have LM Studio download a model, or follow a download; returns when the model is in the registry."""
        from lmstrix.service.getting import get_model

        return await get_model(self, model, quantization=quantization, job_id=job_id, on_progress=on_progress)

    async def load(
        self,
        model: str,
        config: LoadConfig,
        *,
        ttl_s: float | None = None,
        instance_id: str | None = None,
        on_progress: LoadProgress | None = None,
    ) -> LoadedModel:
        """Load a model and keep it, at its tested context unless told otherwise."""
        from lmstrix.service.loading import load

        progress = on_progress and in_caller(on_progress)
        return await load(self, model, config, ttl_s=ttl_s, instance_id=instance_id, on_progress=progress)

    async def unload(self, instance: str | None) -> list[LoadedModel]:
        """Unload one instance by identifier or key, or everything for None; returns what was unloaded."""
        from lmstrix.service.loading import unload

        return await unload(self, instance)

    async def ps(self) -> list[LoadedModel]:
        """The loaded models."""
        from lmstrix.service.loading import ps

        return await ps(self)

    async def memory_of(self, loaded: Sequence[LoadedModel]) -> dict[str, InstanceMemory]:
        """What loaded models take, by their instances' names, where the server tells."""
        from lmstrix.service.loading import memory_of

        return await memory_of(self, loaded)

    async def loads_of(self, loaded: Sequence[LoadedModel]) -> dict[str, LoadConfig]:
        """How loaded models were loaded, by their instances' names, where the server tells."""
        from lmstrix.service.loading import loads_of

        return await loads_of(self, loaded)

    async def estimate(self, model: str, load: LoadConfig) -> EstimateReport:
        """What a load takes and which context fits, by arithmetic; nothing is loaded."""
        from lmstrix.service.estimating import estimate

        return await estimate(self, model, load)

    async def recommend(self, wish: Wish) -> Advice:
        """The best models for a wish, by tested limits, predicted memory and logged speeds."""
        from lmstrix.service.recommending import advise

        return await advise(self, wish)

    def save(
        self,
        model: str | None,
        *,
        limit: float | None = None,
        flash_attention: bool | None = None,
        parallel_slots: int = 1,
        dry_run: bool = False,
        restore: bool = False,
    ) -> list[SavedDefaults]:
        """Write tested contexts into LM Studio's own per-model defaults, or put the originals back."""
        from lmstrix.service.saving import save

        return save(
            self,
            model,
            limit=limit,
            flash_attention=flash_attention,
            parallel_slots=parallel_slots,
            dry_run=dry_run,
            restore=restore,
        )

    async def check_saved(self, saved: Sequence[SavedDefaults], check: bool | None = None) -> list[SavedDefaults]:
        """What LM Studio makes of what was saved, by one load of each that is to be checked."""
        from lmstrix.service.checking_saved import check_saved, wants_check

        return await check_saved(self, saved, check) if wants_check(saved, check) else list(saved)

    def reset(self, model: str | None) -> list[ModelRecord]:
        """Forget the test results of one model, or with None of all; returns those that had any."""
        from lmstrix.service.resetting import reset

        return reset(self, model)

    @property
    def registry_files(self) -> RegistryFiles:
        """The registry itself: tags, copies, merging, models taken in and out."""
        from lmstrix.service.registry_files import RegistryFiles

        return RegistryFiles(self)

    def choose_default_model(self, model: str | None) -> str | None:
        """Let this model be asked where none is named, or with None no model by choice; returns its key."""
        from lmstrix.service.choosing_default import choose_default_model

        return choose_default_model(self, model)

    # Answers

    def stream(
        self,
        request: InferRequest,
        *,
        on_prepared: Callable[[Prepared], None] | None = None,
        on_progress: LoadProgress | None = None,
        transcript: Transcript | None = None,
        approve: Approve | None = None,
        schema: AnswerSchema | None = None,
    ) -> AsyncGenerator[StreamEvent]:
        """The events of one answer; the last is Finished. `transcript` takes the turns of a call with tools, of which
        `approve` is asked. What is not of the `schema` is not cached.
        """
        from lmstrix.service.answering import Watch, answer

        watch = Watch(
            on_prepared=on_prepared and in_caller(on_prepared),
            on_progress=on_progress and in_caller(on_progress),
            transcript=transcript,
            approve=approve,
            schema=schema,
        )
        return answer(self, request, watch)

    async def dry_run(self, request: InferRequest) -> DryRun:
        """What would be sent, and its tokens; nothing is loaded."""
        from lmstrix.service.dry_run import dry_run

        return await dry_run(self, request)

    def infer(self, words: InferWords) -> Inferring:
        """One `infer` of the command line, from its words to what is kept of it."""
        from lmstrix.service.inferring import Inferring

        return Inferring(self, words)

    async def chat(
        self,
        request: InferRequest,
        *,
        model: str | None = None,
        system_prompt: str | None = None,
        name: str | None = None,
        latest: bool = False,
    ) -> ChatSession:
        """A chat: new, or going on with the conversation `name`, or with the latest one."""
        from lmstrix.service.chatting import chat

        return await chat(self, request, model=model, system_prompt=system_prompt, name=name, latest=latest)

    async def batch(
        self, request: BatchRequest, *, on_progress: Callable[[BatchProgress], None] | None = None
    ) -> BatchReport:
        """Prompts by models by inputs to files, one model loaded at a time."""
        from lmstrix.service.batching import run_batch

        return await run_batch(self, request, on_progress=on_progress and in_caller(on_progress))

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        load: LoadConfig | None = None,
        ttl_s: float | None = 300.0,
    ) -> Embedded:
        """One vector per text."""
        from lmstrix.service.embedding import embed

        return await embed(self, texts, model=model, load=load, ttl_s=ttl_s)

    def logged_calls(self, *, search: str | None = None, model: str | None = None, last: int = 20) -> list[LoggedCall]:
        """The calls in the log, newest first, or the best matches of `search` first."""
        from lmstrix.service.logs import logged_calls

        return logged_calls(self, search=search, model=model, last=last)

    def logged_call(self, call_id: int) -> LoggedCall:
        """One call of the log, by its number."""
        from lmstrix.service.logs import logged_call

        return logged_call(self, call_id)

    def call_statistics(self, *, model: str | None = None) -> list[CallStatistics]:
        """What the log says of each model: calls, failures, tokens, mean speed."""
        from lmstrix.service.logs import call_statistics

        return call_statistics(self, model=model)

    @property
    def collections(self) -> Collections:
        """Texts kept as vectors: added, searched, deleted."""
        from lmstrix.service.collecting import Collections

        return Collections(self)

    def list_conversations(self, *, search: str | None = None, last: int | None = None) -> list[ConversationSummary]:
        """The conversations kept here, the one written last first; with `search` those that hold all its words."""
        from lmstrix.service.conversations import list_conversations

        return list_conversations(self, search=search, last=last)

    # Context limits

    def test(
        self,
        model: str | None,
        options: ContextTestRequest,
        *,
        order: TestOrder = "risk",
        on_step: Callable[[Step], None] | None = None,
        on_model: Callable[[ModelRecord, int, int], None] | None = None,
        on_time_left: Callable[[TimeLeft], None] | None = None,
    ) -> ContextTesting:
        """A search for the real context limit of one model, or with None of all without a result; ready to be run."""
        from lmstrix.service.testing import ContextTesting

        return ContextTesting(
            self,
            model,
            options,
            order=order,
            on_step=on_step and in_caller(on_step),
            on_model=on_model and in_caller(on_model),
            on_time_left=on_time_left and in_caller(on_time_left),
        )

    async def plan_tests(
        self, model: str | None, options: ContextTestRequest, *, order: TestOrder = "risk"
    ) -> list[PlannedTest]:
        """What `test` would try, by arithmetic and what a running server says of its memory; loads nothing."""
        from lmstrix.service.planning import plan

        return await plan(self, model, options, order=order)

    def test_history(self, model: str, *, all_runs: bool = False) -> ModelHistory:
        """What was tried with a model in its newest test, or in all; asks no server."""
        from lmstrix.service.histories import test_history

        return test_history(self, model, all_runs=all_runs)

    # Benchmarks

    def bench(self, options: BenchOptions, *, on_event: Callable[[BenchEvent], None] | None = None) -> Benchmarking:
        """A benchmark, ready to be run; interrupted, it reports what was measured until then."""
        from lmstrix.service.benching import Benchmarking

        return Benchmarking(self, options, on_event=on_event and in_caller(on_event))

    def bench_targets(
        self, options: BenchTargetsOptions, *, on_event: Callable[[str, BenchEvent], None] | None = None
    ) -> TargetsBenching:
        """A benchmark of several servers, ready to be run; interrupted, it reports what was measured until then."""
        from lmstrix.service.bench_targets import TargetsBenching

        return TargetsBenching(self, options, on_event=on_event and in_caller(on_event))

    def bench_traffic(
        self, options: TrafficTestOptions, *, on_event: Callable[[TrafficEvent], None] | None = None
    ) -> TrafficTesting:
        """Traffic at request rates, ready to be sent; interrupted, it reports what was measured until then."""
        from lmstrix.service.traffic_testing import TrafficTesting

        return TrafficTesting(self, options, on_event=on_event and in_caller(on_event))

    def find_traffic(self, name: str) -> TrafficReport | None:
        """A test of traffic by its folder or its file; None where the name is of anything else."""
        from lmstrix.service.bench_reports import find_traffic

        return find_traffic(name)

    def find_bench(self, name: str) -> BenchReport:
        """A benchmark by its folder, its file, its session or `last`."""
        from lmstrix.service.bench_reports import find_report

        return find_report(self, name)

    def compare_benches(self, first: str, second: str | None = None) -> BenchComparison:
        """Two benchmarks against each other, or the two sides of one."""
        from lmstrix.service.bench_reports import compare_reports

        return compare_reports(self, first, second)

    def rewrite_bench(self, name: str, folder: Path | None = None) -> Path:
        """Write a benchmark's files again; returns its page."""
        from lmstrix.service.bench_reports import rewrite

        return rewrite(self, name, folder)

    def bench_history(self, *, model: str | None = None, last: int = 20) -> list[BenchRun]:
        """The benchmarks made here, newest first, one entry per cell."""
        from lmstrix.service.bench_reports import history_runs

        return history_runs(self, model=model, last=last)

    # This machine

    async def power(self, watch_s: float) -> PowerReport:
        """What this machine tells of its power, measured for a while."""
        from lmstrix.service.powering import measure_power

        return await measure_power(watch_s)

    def monitor(self, interval_s: float = 1.0) -> Monitoring:
        """The server in use, to be looked at every `interval_s`: what it holds, does and takes."""
        from lmstrix.service.monitoring import Monitoring

        return Monitoring(self, interval_s)

    async def doctor(self, invalid: SettingsError | None = None, *, model: str | None = None) -> DoctorReport:
        """What works here, with remedies for what does not. `invalid` says why the settings are the default ones.

        With a `model` all about that one, as a ModelReport.
        """
        if model is not None:
            from lmstrix.service.doctor.model import examine_model

            return await examine_model(self, model)
        from lmstrix.service.doctor.examination import examine

        return await examine(self, invalid)
