"""AsyncLMStrix: LMStrix for programs that wait for many answers at once.

    async with AsyncLMStrix() as lms:
        await lms.scan()
        answers = await asyncio.gather(*(lms.infer(text, model="qwen3-8b") for text in texts))

Every call of the Python API is made here, and nowhere else: the blocking LMStrix calls this.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack, get_args

from lmstrix.ground.choices import SortKey, TestOrder
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.ranges import DURATION, TOKENS_OR_SHARE, WATCH_INTERVAL, check_number
from lmstrix.python import requests
from lmstrix.python.chat import AsyncChat
from lmstrix.python.events import answer_of, checked, result_of, texts_of
from lmstrix.python.results import ActResult
from lmstrix.python.values import check_fields, check_word, text, texts_by_name
from lmstrix.python.values import texts as several_texts
from lmstrix.python.values import variables as checked_variables

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
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
    from lmstrix.ground.documents import Value
    from lmstrix.ground.downloads import Download
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import LoadedModel, Message, StreamEvent, ToolCall
    from lmstrix.python.benches import AsyncBenches
    from lmstrix.python.collections import AsyncCollections
    from lmstrix.python.logs import AsyncLogs
    from lmstrix.python.options import (
        AnswerKeywords,
        BenchKeywords,
        ChatKeywords,
        ContextTestKeywords,
        LoadKeywords,
        PromptKeywords,
        WishKeywords,
    )
    from lmstrix.python.prompts import AsyncPrompts
    from lmstrix.python.results import InferenceResult
    from lmstrix.python.trusted import AsyncTrusted
    from lmstrix.service.due_tests import ContextTestRequest
    from lmstrix.service.getting import GotModel
    from lmstrix.service.histories import ModelHistory
    from lmstrix.service.powering import PowerReport
    from lmstrix.service.scanning import Forget


class AsyncLMStrix:
    """LMStrix for asyncio: answers run side by side on one loop, not in one thread per answer.

    `server` is "auto", "lmstudio", "embedded" or an address; `home` is where the registry lives; what is not given
    comes from the configuration files and the environment. `notify` receives one-line remarks. Belongs to the event
    loop it is first used on.
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
        self._service = requests.open_service(server, home, models_dir, api_token, timeout_s, notify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the server."""
        await self._service.close()

    # Models

    async def scan(
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
        if forget is not None:
            check_word("forget", forget, ("all", "failed"))
        folder = Path(models_dir).expanduser() if models_dir is not None else None
        return await self._service.scan(models_dir=folder, refresh=refresh, write=write, forget=forget)

    async def list_models(
        self,
        filter: str | None = None,  # noqa: A002 - the command line's word
        *,
        sort: SortKey = "id",
        reverse: bool = False,
    ) -> list[ModelRecord]:
        """The registry's models with `filter` in their name or that meet its conditions ("status:tested,size:>5GB")."""
        check_word("sort", sort, get_args(SortKey))
        wanted = filter if filter is None else text("filter", filter)
        found = await asyncio.to_thread(self._service.list_models, wanted=wanted, sort=sort, reverse=reverse)
        return list(found.records)

    async def get_model(
        self,
        model: str,
        *,
        quantization: str | None = None,
        on_progress: Callable[[Download], None] | None = None,
    ) -> GotModel:
        """Have LM Studio download a model: a name of its catalogue, or a page of Hugging Face with a `quantization`.

        Returns when the model is there and in the registry. LM Studio downloads by itself, also when nobody waits.
        """
        return await self._service.get_model(text("model", model), quantization=quantization, on_progress=on_progress)

    async def estimate(
        self, model: str, context_length: int | None = None, **load: Unpack[LoadKeywords]
    ) -> EstimateReport:
        """What a load takes and which context fits, by arithmetic."""
        return await self._service.estimate(text("model", model), requests.load_config(context_length, load))

    async def recommend(self, wish: Wish | None = None, **changes: Unpack[WishKeywords]) -> Advice:
        """The best models for a wish; `changes` are fields of Wish (task="code", min_context_length=…)."""
        from lmstrix.core.answers.recommend import Wish

        wanted = replace(wish or Wish(), **changes)
        check_fields(wanted)
        await self._service.known_models()  # scans when the registry is empty: without models there is no advice
        return await self._service.recommend(wanted)

    async def load(
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
        return await self._service.load(
            text("model", model),
            requests.load_config(context_length, load),
            ttl_s=ttl_s,
            instance_id=instance_id,
            on_progress=on_progress,
        )

    async def unload(self, instance: str | None = None) -> list[LoadedModel]:
        """Unload one instance, by its identifier or the key of a model loaded once; with None everything."""
        return await self._service.unload(instance if instance is None else text("instance", instance))

    async def ps(self) -> list[LoadedModel]:
        """The loaded models."""
        return await self._service.ps()

    async def save(
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
        check_number("limit", limit, TOKENS_OR_SHARE)
        check_number("parallel_slots", parallel_slots)
        saved = await asyncio.to_thread(
            self._service.save,
            model,
            limit=limit,
            flash_attention=flash_attention,
            parallel_slots=parallel_slots,
            dry_run=dry_run,
            restore=restore,
        )
        return saved if dry_run or restore else await self._service.check_saved(saved, check)

    async def reset(self, model: str) -> list[ModelRecord]:
        """Forget the test results of a model; it is in the list if it had any."""
        return await asyncio.to_thread(self._service.reset, text("model", model))

    async def reset_all(self) -> list[ModelRecord]:
        """Forget the test results of all models; returns those that had any."""
        return await asyncio.to_thread(self._service.reset, None)

    # Context limits

    async def test_model(
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
        wanted = requests.context_test_request(request, changes)
        testing = self._service.test(text("model", model), wanted, on_step=on_step, on_time_left=on_time_left)
        outcome = (await testing.run()).models[0].outcome
        if outcome is None:
            raise LMStrixError(f"{model} was not tested")
        return outcome

    async def test_all(
        self,
        request: ContextTestRequest | None = None,
        *,
        order: TestOrder = "risk",
        on_step: Callable[[Step], None] | None = None,
        on_model: Callable[[ModelRecord, int, int], None] | None = None,
        on_time_left: Callable[[TimeLeft], None] | None = None,
        **changes: Unpack[ContextTestKeywords],
    ) -> ContextReport:
        """Find the limits of all models that have no result yet (`tag="coding"`: of those), smallest risk first.

        `on_model` is told of each model before its test, with its number and how many there are.
        """
        check_word("order", order, get_args(TestOrder))
        wanted = requests.context_test_request(request, changes)
        testing = self._service.test(
            None, wanted, order=order, on_step=on_step, on_model=on_model, on_time_left=on_time_left
        )
        return await testing.run()

    async def plan_tests(
        self,
        model: str | None = None,
        request: ContextTestRequest | None = None,
        *,
        order: TestOrder = "risk",
        **changes: Unpack[ContextTestKeywords],
    ) -> list[PlannedTest]:
        """What a test of a model, or with None of all, would try, by arithmetic; loads nothing."""
        check_word("order", order, get_args(TestOrder))
        wanted = requests.context_test_request(request, changes)
        await self._service.known_models()
        return await self._service.plan_tests(model, wanted, order=order)

    async def test_history(self, model: str, *, all_runs: bool = False) -> ModelHistory:
        """What was tried with a model in its newest test, or in all its tests."""
        return await asyncio.to_thread(self._service.test_history, text("model", model), all_runs=all_runs)

    # Answers

    def events(
        self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]
    ) -> AsyncGenerator[StreamEvent]:
        """All events of one answer: prompt progress, text, reasoning, and the result at the end.

        With `json_schema` the answer is checked once all of it is there: raises InvalidAnswerError after the result.
        """
        schema = requests.schema_of(options)
        answer = self._service.stream(requests.filled_request(prompt, model, options, schema), schema=schema)
        return answer if schema is None else checked(answer, schema)

    def stream(
        self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]
    ) -> AsyncGenerator[str]:
        """The text of one answer as it comes; close it (contextlib.aclosing) when leaving early."""
        return texts_of(self.events(prompt, model, **options))

    async def infer(
        self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]
    ) -> InferenceResult:
        """One answer. `options` are fields of InferRequest: system_prompt, max_tokens, temperature, seed, …

        With `variables` the prompt is a template; with `prompt_file` it names prompts of that file. With `json_schema`,
        a JSON schema or a class, the answer is checked: raises InvalidAnswerError, which has the answer.
        """
        return await answer_of(self.events(prompt, model, **options))

    async def dry_run(self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]) -> DryRun:
        """What `infer` would send, its tokens and whether they fit; nothing is sent or loaded."""
        schema = requests.schema_of(options)
        return await self._service.dry_run(requests.filled_request(prompt, model, options, schema))

    async def act(
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

        Their annotations and docstrings tell the model what they take and do. Coroutine functions are awaited, others
        run in a worker thread. `approve` is asked before each call; what it denies is not run, and the model is told.
        What a call fails with is told to the model. Raises GenerationError when it still calls tools after the last
        round.
        """
        from lmstrix.core.answers.acting import Transcript, tools_of

        transcript, schema = Transcript(), requests.schema_of(options)
        asked = requests.filled_request(prompt, model, options, schema)
        answer = self._service.stream(
            replace(asked, tools=tools_of(tools), max_rounds=max_rounds), transcript=transcript, approve=approve
        )
        result = await result_of(answer if schema is None else checked(answer, schema))
        return ActResult.acted(result, transcript)

    def chat(
        self, model: str | None = None, *, system_prompt: str | None = None, **options: Unpack[ChatKeywords]
    ) -> AsyncChat:
        """A conversation; `options` hold for each of its turns."""
        from lmstrix.core.answers.conversations import Conversation

        def ask(text: str, messages: tuple[Message, ...], model_key: str | None) -> AsyncGenerator[StreamEvent]:
            return self.events(text, model_key, messages=messages, **options)

        return AsyncChat(ask, Conversation(name="chat", model_key=model).with_system_prompt(system_prompt))

    async def batch(
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
        from lmstrix.service.batch_words import BatchRequest

        check_number("parallel", parallel)
        schema = requests.schema_of(options)
        request = BatchRequest(
            prompts=texts_by_name("prompts", prompts),
            models=several_texts("models", models),
            out=Path(out).expanduser(),
            request=requests.answer_request("", None, options, schema),
            inputs=texts_by_name("inputs", inputs),
            variables=checked_variables(variables),
            parallel=parallel,
            skip_existing=skip_existing,
            schema=schema,
        )
        return await self._service.batch(request, on_progress=on_progress)

    async def embed(
        self,
        texts: str | Sequence[str],
        model: str | None = None,
        *,
        load: LoadConfig | None = None,
        ttl_s: float | None = 300.0,
    ) -> tuple[tuple[float, ...], ...]:
        """One vector per text. Without a model, by the only embedding model there is."""
        wanted = several_texts("texts", texts)
        return (await self._service.embed(wanted, model=model, load=load, ttl_s=ttl_s)).vectors

    # Benchmarks

    async def bench(
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

        The report is written to the folder `out`, or a new one in the LMStrix home. Cancelled, it writes what was
        measured until then. `resume` goes on with the last benchmark that asked the same and was interrupted.

        Raises:
            BackendUnavailableError: no server to measure.
        """
        options = requests.bench_options(models, request, changes, out=out, power=power, resume=resume)
        benchmarking = self._service.bench(options, on_event=on_event)
        try:
            return (await benchmarking.run()).report
        except asyncio.CancelledError:
            benchmarking.so_far()
            raise

    @cached_property
    def benches(self) -> AsyncBenches:
        """The benchmarks made so far: `find`, `compare`, `history`, `write`, `text`."""
        from lmstrix.python.benches import AsyncBenches

        return AsyncBenches(self._service)

    # What was asked, prompt files, this machine

    @cached_property
    def collections(self) -> AsyncCollections:
        """Texts kept as vectors: `infos`, `parts`, `add`, `search`, `delete`."""
        from lmstrix.python.collections import AsyncCollections

        return AsyncCollections(self._service)

    @cached_property
    def logs(self) -> AsyncLogs:
        """The calls made so far: `calls`, `statistics`."""
        from lmstrix.python.logs import AsyncLogs

        return AsyncLogs(self._service)

    @cached_property
    def prompts(self) -> AsyncPrompts:
        """Prompt files: `templates`, `render`, `lint`."""
        from lmstrix.python.prompts import AsyncPrompts

        return AsyncPrompts()

    @cached_property
    def trusted(self) -> AsyncTrusted:
        """The folders whose own settings count: `folders`, `add`, `remove`."""
        from lmstrix.python.trusted import AsyncTrusted

        return AsyncTrusted(self._service.paths.own)

    async def power(self, watch_s: float = 2.0) -> PowerReport:
        """What this machine tells of its power, measured for so long."""
        check_number("watch_s", watch_s, DURATION)
        return await self._service.power(watch_s)

    def monitor(self, interval_s: float = 1.0) -> AsyncGenerator[MonitorSnapshot]:
        """Looks at the server, now and every `interval_s`: models, queue, memory, power; speeds from the second on.

        Loads nothing, and goes on until it is left. A look at a server that went away says its `problem`. Without a
        server it raises BackendUnavailableError.
        """
        check_number("interval_s", interval_s, WATCH_INTERVAL)
        return self._service.monitor(interval_s).snapshots()

    async def doctor(self, model: str | None = None) -> DoctorReport:
        """What works here, with remedies for what does not; with a model all about that one, a ModelReport."""
        return await self._service.doctor(model=model)
