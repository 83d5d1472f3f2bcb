"""LMStrix: the Python API for scripts and notebooks. It runs AsyncLMStrix through a portal, and adds nothing to it.

    with LMStrix() as lms:
        lms.scan()
        print(lms.infer("Why is the sky blue?", model="qwen3-8b").text)

It knows the same settings, registry and servers as the command line, and raises the exceptions of `ground.errors`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self, Unpack

from lmstrix.api.portal import Portal
from lmstrix.python import requests
from lmstrix.python.aio import AsyncLMStrix
from lmstrix.python.chat import Chat

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from lmstrix.core.answers.batch import BatchProgress, BatchReport
    from lmstrix.core.answers.recommend import Advice, Wish
    from lmstrix.core.answers.request import DryRun
    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.benchmark.records import BenchReport, BenchRequest
    from lmstrix.core.context.eta import TimeLeft
    from lmstrix.core.context.report import ContextOutcome, ContextReport, PlannedTest, Step
    from lmstrix.core.health import DoctorReport
    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.monitoring import MonitorSnapshot
    from lmstrix.core.registry.defaults import SavedDefaults
    from lmstrix.core.registry.listing import ScanReport
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.choices import SortKey, TestOrder
    from lmstrix.ground.documents import Value
    from lmstrix.ground.downloads import Download
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import LoadedModel, StreamEvent, ToolCall
    from lmstrix.python.benches import Benches
    from lmstrix.python.collections import Collections
    from lmstrix.python.logs import Logs
    from lmstrix.python.options import (
        AnswerKeywords,
        BenchKeywords,
        ChatKeywords,
        ContextTestKeywords,
        LoadKeywords,
        PromptKeywords,
        WishKeywords,
    )
    from lmstrix.python.prompts import Prompts
    from lmstrix.python.results import ActResult, InferenceResult
    from lmstrix.python.trusted import Trusted
    from lmstrix.service.due_tests import ContextTestRequest
    from lmstrix.service.getting import GotModel
    from lmstrix.service.histories import ModelHistory
    from lmstrix.service.powering import PowerReport
    from lmstrix.service.scanning import Forget


class LMStrix:
    """LMStrix, blocking. Safe to use from several threads. Use as a context manager, or call `close()`.

    `server` is "auto", "lmstudio", "embedded" or an address; `home` is where the registry lives; what is not given
    comes from the configuration files and the environment. `notify` receives one-line remarks. Callbacks are called in
    the thread that waits.
    """

    def __init__(
        self,
        *,
        server: str | None = None,
        home: str | Path | None = None,
        models_dir: str | Path | None = None,
        api_token: str | None = None,
        timeout_s: float | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._portal = Portal()
        self._lms = AsyncLMStrix(
            server=server, home=home, models_dir=models_dir, api_token=api_token, timeout_s=timeout_s, notify=notify
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the server."""
        self._portal.close(last=self._lms.close())

    # Models

    def scan(
        self,
        models_dir: str | Path | None = None,
        *,
        refresh: bool = False,
        write: bool = True,
        forget: Forget = None,
    ) -> ScanReport:
        """Find models on disk and on the server; merge them into the registry.

        `refresh` reads the header of files that did not change too; without `write` nothing is kept. `forget` drops
        test results on the way: those that "failed", or "all".
        """
        return self._portal.run(self._lms.scan(models_dir, refresh=refresh, write=write, forget=forget))

    def list_models(
        self,
        filter: str | None = None,  # noqa: A002 - the command line's word
        *,
        sort: SortKey = "id",
        reverse: bool = False,
    ) -> list[ModelRecord]:
        """The registry's models with `filter` in their name or that meet its conditions ("status:tested,size:>5GB")."""
        return self._portal.run(self._lms.list_models(filter, sort=sort, reverse=reverse))

    def get_model(
        self,
        model: str,
        *,
        quantization: str | None = None,
        on_progress: Callable[[Download], None] | None = None,
    ) -> GotModel:
        """Have LM Studio download a model: a name of its catalogue, or a page of Hugging Face with a `quantization`.

        Returns when the model is there and in the registry. LM Studio downloads by itself, also when nobody waits.
        """
        return self._portal.run(self._lms.get_model(model, quantization=quantization, on_progress=on_progress))

    def estimate(self, model: str, context_length: int | None = None, **load: Unpack[LoadKeywords]) -> EstimateReport:
        """What a load takes and which context fits, by arithmetic."""
        return self._portal.run(self._lms.estimate(model, context_length, **load))

    def recommend(self, wish: Wish | None = None, **changes: Unpack[WishKeywords]) -> Advice:
        """The best models for a wish; `changes` are fields of Wish (task="code", min_context_length=…)."""
        return self._portal.run(self._lms.recommend(wish, **changes))

    def load(
        self,
        model: str,
        context_length: int | None = None,
        *,
        ttl_s: float | None = None,
        instance_id: str | None = None,
        on_progress: Callable[[float], None] | None = None,
        **load: Unpack[LoadKeywords],
    ) -> LoadedModel:
        """Load a model at its tested context, or the one given, and keep it.

        `on_progress` is told how much of the load is done, from 0 to 1.
        """
        return self._portal.run(
            self._lms.load(model, context_length, ttl_s=ttl_s, instance_id=instance_id, on_progress=on_progress, **load)
        )

    def unload(self, instance: str | None = None) -> list[LoadedModel]:
        """Unload one instance, by its identifier or the key of a model loaded once; with None everything."""
        return self._portal.run(self._lms.unload(instance))

    def ps(self) -> list[LoadedModel]:
        """The loaded models."""
        return self._portal.run(self._lms.ps())

    def save(
        self,
        model: str | None = None,
        *,
        limit: int | float | None = None,
        flash_attention: bool | None = None,
        parallel_slots: int = 1,
        dry_run: bool = False,
        restore: bool = False,
        check: bool | None = None,
    ) -> list[SavedDefaults]:
        """Write tested contexts into LM Studio's own per-model defaults: of one model, or of all that are tested.

        `limit` caps them: tokens, or a float as share of the tested context. `restore` puts back what was there before
        the first save. A model that cannot be saved has a `problem`, and keeps no other from it. `check` loads each
        once and tells in `loaded` what LM Studio made of it; None does so with MLX models, if nothing is loaded there.
        """
        return self._portal.run(
            self._lms.save(
                model,
                limit=limit,
                flash_attention=flash_attention,
                parallel_slots=parallel_slots,
                dry_run=dry_run,
                restore=restore,
                check=check,
            )
        )

    def reset(self, model: str) -> list[ModelRecord]:
        """Forget the test results of a model; it is in the list if it had any."""
        return self._portal.run(self._lms.reset(model))

    def reset_all(self) -> list[ModelRecord]:
        """Forget the test results of all models; returns those that had any."""
        return self._portal.run(self._lms.reset_all())

    # Context limits

    def test_model(
        self,
        model: str,
        request: ContextTestRequest | None = None,
        *,
        on_step: Callable[[Step], None] | None = None,
        on_time_left: Callable[[TimeLeft], None] | None = None,
        **changes: Unpack[ContextTestKeywords],
    ) -> ContextOutcome:
        """Find one model's real context limit. `changes` are fields of ContextTestRequest (threshold=…, fast=True).

        The outcome's `result.tested_context_length` is the context to use, None if nothing was proven. `on_step` is
        told of every load, filling and prompt, `on_time_left` how long the rest will take.
        """
        return self._portal.run(
            self._lms.test_model(model, request, on_step=on_step, on_time_left=on_time_left, **changes)
        )

    def test_all(
        self,
        request: ContextTestRequest | None = None,
        *,
        order: TestOrder = "risk",
        on_step: Callable[[Step], None] | None = None,
        on_model: Callable[[ModelRecord, int, int], None] | None = None,
        on_time_left: Callable[[TimeLeft], None] | None = None,
        **changes: Unpack[ContextTestKeywords],
    ) -> ContextReport:
        """Find the limits of all models that have no result yet, smallest risk first.

        `on_model` is told of each model before its test, with its number and how many there are.
        """
        return self._portal.run(
            self._lms.test_all(
                request, order=order, on_step=on_step, on_model=on_model, on_time_left=on_time_left, **changes
            )
        )

    def plan_tests(
        self,
        model: str | None = None,
        request: ContextTestRequest | None = None,
        *,
        order: TestOrder = "risk",
        **changes: Unpack[ContextTestKeywords],
    ) -> list[PlannedTest]:
        """What a test of a model, or with None of all, would try, by arithmetic; loads nothing."""
        return self._portal.run(self._lms.plan_tests(model, request, order=order, **changes))

    def test_history(self, model: str, *, all_runs: bool = False) -> ModelHistory:
        """What was tried with a model in its newest test, or in all its tests."""
        return self._portal.run(self._lms.test_history(model, all_runs=all_runs))

    # Answers

    def infer(self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]) -> InferenceResult:
        """One answer. `options` are fields of InferRequest: system_prompt, max_tokens, temperature, seed, …

        With `variables` the prompt is a template; with `prompt_file` it names prompts of that file. With `json_schema`,
        a JSON schema or a class, the answer is checked: raises InvalidAnswerError, which has the answer.
        """
        return self._portal.run(self._lms.infer(prompt, model, **options))

    def stream(self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]) -> Iterator[str]:
        """The text of one answer as it comes; leaving early cancels it on the server."""
        return self._portal.iterate(self._lms.stream(prompt, model, **options))

    def events(
        self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]
    ) -> Iterator[StreamEvent]:
        """All events of one answer: prompt progress, text, reasoning, and the result at the end.

        With `json_schema` the answer is checked once all of it is there: raises InvalidAnswerError after the result.
        """
        return self._portal.iterate(self._lms.events(prompt, model, **options))

    def dry_run(self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]) -> DryRun:
        """What `infer` would send, its tokens and whether they fit; nothing is sent or loaded."""
        return self._portal.run(self._lms.dry_run(prompt, model, **options))

    def act(
        self,
        prompt: str,
        model: str | None = None,
        *,
        tools: Iterable[Callable[..., object]],
        max_rounds: int = 10,
        approve: Callable[[ToolCall], bool] | None = None,
        **options: Unpack[PromptKeywords],
    ) -> ActResult:
        """An answer for which the model may call these Python functions, as often as `max_rounds` allows.

        Their annotations and docstrings tell the model what they take and do; they run in the thread that waits here.
        `approve` is asked before each call; what it denies is not run, and the model is told. What a call fails with is
        told to the model. Raises GenerationError when it still calls tools after the last round.
        """
        from lmstrix.core.answers.acting import refuse_coroutines

        # Refused here, because AsyncLMStrix below takes them.
        functions = refuse_coroutines(tools)
        return self._portal.run(
            self._lms.act(prompt, model, tools=functions, max_rounds=max_rounds, approve=approve, **options)
        )

    def chat(
        self, model: str | None = None, *, system_prompt: str | None = None, **options: Unpack[ChatKeywords]
    ) -> Chat:
        """A conversation; `options` hold for each of its turns."""
        return Chat(self._portal, self._lms.chat(model, system_prompt=system_prompt, **options))

    def batch(
        self,
        prompts: Mapping[str, str] | str | Sequence[str],
        models: str | Sequence[str],
        out: str | Path,
        *,
        inputs: Mapping[str, str] | str | Sequence[str] = (),
        variables: Mapping[str, Value] | None = None,
        parallel: int = 1,
        skip_existing: bool = True,
        on_progress: Callable[[BatchProgress], None] | None = None,
        **options: Unpack[AnswerKeywords],
    ) -> BatchReport:
        """Prompts by models by inputs to files below `out`, one model loaded at a time; what is answered is skipped.

        Prompts and inputs are texts by name, or files: TOML:NAME,NAME or a text file, and files, folders or patterns.
        `options` are fields of InferRequest. An answer that is not of the `json_schema` fails, and is kept in a file
        whose name ends with .rejected.
        """
        return self._portal.run(
            self._lms.batch(
                prompts,
                models,
                out,
                inputs=inputs,
                variables=variables,
                parallel=parallel,
                skip_existing=skip_existing,
                on_progress=on_progress,
                **options,
            )
        )

    def embed(
        self,
        texts: str | Sequence[str],
        model: str | None = None,
        *,
        load: LoadConfig | None = None,
        ttl_s: float | None = 300.0,
    ) -> tuple[tuple[float, ...], ...]:
        """One vector per text. Without a model, by the only embedding model there is."""
        return self._portal.run(self._lms.embed(texts, model, load=load, ttl_s=ttl_s))

    # Benchmarks

    def bench(
        self,
        models: str | Sequence[str] | None,
        request: BenchRequest | None = None,
        *,
        out: str | Path | None = None,
        power: bool = True,
        resume: bool = False,
        on_event: Callable[[BenchEvent], None] | None = None,
        **changes: Unpack[BenchKeywords],
    ) -> BenchReport:
        """Measure models, or with None all that generate text. Keywords change fields of `request`.

        The report is written to the folder `out`, or a new one in the LMStrix home. An interrupt ends it early, with a
        report of what was measured (`interrupted` is set). `resume` goes on with the last benchmark that asked the same
        and was interrupted.

        Raises:
            BackendUnavailableError: no server to measure.
        """
        options = requests.bench_options(models, request, changes, out=out, power=power, resume=resume)
        # Not through AsyncLMStrix.bench: an interrupt comes to this thread, where it must end in a report.
        return self._lms._service.bench(options, on_event=on_event).measure(self._portal.run).report

    @cached_property
    def benches(self) -> Benches:
        """The benchmarks made so far: `find`, `compare`, `history`, `write`, `text`."""
        from lmstrix.python.benches import Benches

        return Benches(self._portal, self._lms.benches)

    # What was asked, prompt files, this machine

    @cached_property
    def collections(self) -> Collections:
        """Texts kept as vectors: `infos`, `parts`, `add`, `search`, `delete`."""
        from lmstrix.python.collections import Collections

        return Collections(self._portal, self._lms.collections)

    @cached_property
    def logs(self) -> Logs:
        """The calls made so far: `calls`, `statistics`."""
        from lmstrix.python.logs import Logs

        return Logs(self._portal, self._lms.logs)

    @cached_property
    def prompts(self) -> Prompts:
        """Prompt files: `templates`, `render`, `lint`."""
        from lmstrix.python.prompts import Prompts

        return Prompts(self._portal, self._lms.prompts)

    @cached_property
    def trusted(self) -> Trusted:
        """The folders whose own settings count: `folders`, `add`, `remove`."""
        from lmstrix.python.trusted import Trusted

        return Trusted(self._portal, self._lms.trusted)

    def power(self, watch_s: float = 2.0) -> PowerReport:
        """What this machine tells of its power, measured for so long."""
        return self._portal.run(self._lms.power(watch_s))

    def monitor(self, interval_s: float = 1.0) -> Generator[MonitorSnapshot]:
        """Looks at the server, now and every `interval_s`: models, queue, memory, power; speeds from the second on.

        Loads nothing, and goes on until it is left. A look at a server that went away says its `problem`. Without a
        server it raises BackendUnavailableError.
        """
        # One by one, not all that come: a slow reader is to see what is going on now.
        return self._portal.iterate_on_demand(self._lms.monitor(interval_s))

    def doctor(self, model: str | None = None) -> DoctorReport:
        """What works here, with remedies for what does not; with a model all about that one, a ModelReport."""
        return self._portal.run(self._lms.doctor(model))
