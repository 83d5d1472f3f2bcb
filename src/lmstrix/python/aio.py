"""AsyncLMStrix: LMStrix for programs that wait for many answers at once.

    async with AsyncLMStrix() as lms:
        await lms.scan()
        answers = await asyncio.gather(*(lms.infer(text, model="qwen3-8b") for text in texts))

What a call is told becomes the request record of its use case here, and nowhere else: the blocking LMStrix calls this.
"""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from lmstrix.core.answers.streaming import result_of
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.types import LoadConfig
from lmstrix.python.chat import AsyncChat
from lmstrix.python.events import answer_of, texts_of
from lmstrix.python.results import ActResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from lmstrix.core.answers.batch import BatchProgress, BatchReport
    from lmstrix.core.answers.recommend import Advice, Wish
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.benchmark.records import BenchReport, BenchRequest
    from lmstrix.core.context.report import ContextOutcome, ContextReport
    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.registry.listing import ScanReport
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.documents import Value
    from lmstrix.ground.types import LoadedModel, Message, StreamEvent
    from lmstrix.python.options import (
        AnswerKeywords,
        BenchKeywords,
        ChatKeywords,
        ContextTestKeywords,
        LoadKeywords,
        PromptKeywords,
        WishKeywords,
    )
    from lmstrix.python.results import InferenceResult
    from lmstrix.service import LMStrixService
    from lmstrix.service.benching import Benchmarking
    from lmstrix.service.due_tests import ContextTestRequest


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
        self._service = _service(server, home, models_dir, api_token, timeout_s, notify)

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

    async def scan(self, models_dir: str | Path | None = None, *, refresh: bool = False) -> ScanReport:
        """Find models on disk and on the server; merge them into the registry."""
        return await self._service.scan(models_dir=Path(models_dir) if models_dir else None, refresh=refresh)

    async def list_models(self, filter: str | None = None) -> list[ModelRecord]:  # noqa: A002 - the command line's word
        """The registry's models, by key."""
        return list((await asyncio.to_thread(self._service.list_models, containing=filter)).records)

    async def estimate(
        self, model: str, context_length: int | None = None, **load: Unpack[LoadKeywords]
    ) -> EstimateReport:
        """What a load takes and which context fits, by arithmetic."""
        return await self._service.estimate(model, LoadConfig(context_length=context_length, **load))

    async def recommend(self, wish: Wish | None = None, **changes: Unpack[WishKeywords]) -> Advice:
        """The best models for a wish; `changes` are fields of Wish (task="code", min_context_length=…)."""
        from lmstrix.core.answers.recommend import Wish

        wanted = replace(wish or Wish(), **changes)
        await self._service.known_models()  # scans when the registry is empty: without models there is no advice
        return await asyncio.to_thread(self._service.recommend, wanted)

    async def load(
        self, model: str, context_length: int | None = None, *, ttl_s: float | None = None, **load: Unpack[LoadKeywords]
    ) -> LoadedModel:
        """Load a model at its tested context, or the one given, and keep it."""
        return await self._service.load(model, LoadConfig(context_length=context_length, **load), ttl_s=ttl_s)

    async def unload(self, instance: str | None = None) -> list[LoadedModel]:
        """Unload one instance, or with None everything."""
        return await self._service.unload(instance)

    async def ps(self) -> list[LoadedModel]:
        """The loaded models."""
        return await self._service.ps()

    # Context limits

    async def test_model(
        self, model: str, options: ContextTestRequest | None = None, **changes: Unpack[ContextTestKeywords]
    ) -> ContextOutcome:
        """Find one model's real context limit. `changes` are fields of ContextTestRequest (threshold=…, fast=True).

        The outcome's `result.tested_context_length` is the context to use, None if nothing was proven.
        """
        report = await self._service.test(model, _test_request(options, changes)).run()
        outcome = report.models[0].outcome
        if outcome is None:
            raise LMStrixError(f"{model} was not tested")
        return outcome

    async def test_all(
        self, options: ContextTestRequest | None = None, **changes: Unpack[ContextTestKeywords]
    ) -> ContextReport:
        """Find the limits of all models that have no result yet, smallest risk first."""
        return await self._service.test(None, _test_request(options, changes)).run()

    # Answers

    def events(
        self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]
    ) -> AsyncGenerator[StreamEvent]:
        """All events of one answer: prompt progress, text, reasoning, and the result at the end."""
        return self._service.stream(_filled_request(prompt, model, options))

    def stream(
        self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]
    ) -> AsyncGenerator[str]:
        """The text of one answer as it comes; close it (contextlib.aclosing) when leaving early."""
        return texts_of(self.events(prompt, model, **options))

    async def infer(
        self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]
    ) -> InferenceResult:
        """One answer. `options` are fields of InferRequest: system_prompt, max_tokens, temperature, seed, …

        With `variables` the prompt is a template; with `prompt_file` it names prompts of that file.
        """
        return await answer_of(self.events(prompt, model, **options))

    async def act(
        self,
        prompt: str,
        model: str | None = None,
        *,
        tools: Iterable[Callable[..., object]],
        max_rounds: int = 10,
        **options: Unpack[PromptKeywords],
    ) -> ActResult:
        """An answer for which the model may call these Python functions, as often as `max_rounds` allows.

        Their annotations and docstrings tell the model what they take and do. Coroutine functions are awaited, others
        run in a worker thread. What a call fails with is told to the model. Raises GenerationError when it still calls
        tools after the last round.
        """
        from lmstrix.core.answers.acting import Transcript, tools_of

        transcript = Transcript()
        request = replace(_filled_request(prompt, model, options), tools=tools_of(tools), max_rounds=max_rounds)
        return ActResult.acted(await result_of(self._service.stream(request, transcript=transcript)), transcript)

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
        prompts: Mapping[str, str] | Sequence[str],
        models: Sequence[str],
        out: str | Path,
        *,
        inputs: Mapping[str, str] | Sequence[str] = (),
        variables: Mapping[str, Value] | None = None,
        parallel: int = 1,
        skip_existing: bool = True,
        on_progress: Callable[[BatchProgress], None] | None = None,
        **options: Unpack[AnswerKeywords],
    ) -> BatchReport:
        """Prompts by models by inputs to files below `out`, one model loaded at a time; what is answered is skipped.

        Prompts and inputs are texts by name, or words as on the command line. `options` are fields of InferRequest.
        """
        from lmstrix.service.batch_words import BatchRequest

        request = BatchRequest(
            prompts=prompts,
            models=[models] if isinstance(models, str) else models,  # a text is a sequence of its letters
            out=Path(out),
            request=_request("", None, options),
            inputs=inputs,
            variables=variables or {},
            parallel=parallel,
            skip_existing=skip_existing,
        )
        return await self._service.batch(request, on_progress=on_progress)

    async def embed(
        self, texts: str | Sequence[str], model: str | None = None, *, ttl_s: float | None = 300.0
    ) -> tuple[tuple[float, ...], ...]:
        """One vector per text. Without a model, by the only embedding model there is."""
        wanted = [texts] if isinstance(texts, str) else list(texts)
        return (await self._service.embed(wanted, model=model, ttl_s=ttl_s)).vectors

    # Benchmarks

    async def bench(
        self, models: str | Sequence[str], request: BenchRequest | None = None, **changes: Unpack[BenchKeywords]
    ) -> BenchReport:
        """Measure models; the report's page is written to the LMStrix home. Keywords change fields of `request`.

        Raises:
            BackendUnavailableError: no server to measure.
        """
        return (await self._benchmarking(models, request, changes).run()).report

    def _benchmarking(
        self, models: str | Sequence[str], request: BenchRequest | None, changes: BenchKeywords
    ) -> Benchmarking:
        from lmstrix.core.benchmark.records import BenchRequest
        from lmstrix.service import benching

        names = (models,) if isinstance(models, str) else tuple(models)
        if not names:
            raise UsageError("bench needs the name of a model at least")
        wanted = replace(request or BenchRequest(), **changes)
        return self._service.bench(benching.BenchOptions(models=names, request=wanted))


def _service(
    server: str | None,
    home: str | Path | None,
    models_dir: str | Path | None,
    api_token: str | None,
    timeout_s: float | None,
    notify: Callable[[str], None] | None,
) -> LMStrixService:
    from lmstrix.ground.paths import HOME_VARIABLE, resolve_paths
    from lmstrix.ground.settings import load_settings
    from lmstrix.service import LMStrixService

    # A home that the caller names counts as LMSTRIX_HOME does: LM Studio's own folder is then not looked for.
    paths = resolve_paths({HOME_VARIABLE: str(home)} if home is not None else None)
    flags = {
        "server": server,
        "models_dir": str(models_dir) if models_dir is not None else None,
        "api_token": api_token,
        "timeout_s": timeout_s,
    }
    settings = load_settings(paths.home, flags=flags, notify=notify or warnings.warn)
    return LMStrixService(paths=paths, settings=settings, notify=notify)


def _filled_request(prompt: str, model: str | None, options: PromptKeywords) -> InferRequest:
    """The request whose prompt is a template, where the options say so."""
    variables, file = options.pop("variables", None), options.pop("prompt_file", None)
    if file is None and not variables:
        return _request(prompt, model, options)
    from lmstrix.loaders.prompts import parse_names
    from lmstrix.service.prompting import fill, fill_from_file

    names = () if file is None or not prompt else parse_names(prompt)
    composed = fill(prompt, variables or {}) if file is None else fill_from_file(file, names, variables or {})
    if composed.unused:
        raise UsageError(f"the prompt does not ask for {', '.join(composed.unused)}; leave it out of the variables")
    request = _request(composed.text, model, options)
    return request if request.system_prompt else replace(request, system_prompt=composed.system_prompt)


def _request(prompt: str, model: str | None, options: AnswerKeywords) -> InferRequest:
    from lmstrix.core.answers.request import InferRequest

    # A single stop text is taken too; as a sequence it would be its letters.
    stop = options.get("stop")
    values: dict[str, Any] = {**options, "stop": (stop,) if isinstance(stop, str) else tuple(stop or ())}
    return InferRequest(prompt=prompt, model=model, **values)


def _test_request(options: ContextTestRequest | None, changes: ContextTestKeywords) -> ContextTestRequest:
    from lmstrix.service.due_tests import ContextTestRequest

    return replace(options or ContextTestRequest(), **changes)
