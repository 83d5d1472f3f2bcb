"""The Python API: `LMStrix` for scripts, `AsyncLMStrix` for programs that wait for many answers at once.

    with LMStrix() as lms:
        lms.scan()
        print(lms.infer("Why is the sky blue?", model="qwen3-8b").text)

Both know the same settings, registry and servers as the command line, and raise the exceptions of `ground.errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeGuard

from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.types import Finished, GenerationResult, LoadConfig, Message, StreamEvent, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from lmstrix.api.client import AsyncLMStudioBackend
    from lmstrix.core.answers.acting import Transcript
    from lmstrix.core.answers.batch import BatchProgress, BatchReport
    from lmstrix.core.answers.recommend import Advice, Wish
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.benchmark.records import BenchReport, BenchRequest
    from lmstrix.core.context.report import ContextOutcome, ContextReport
    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.registry.listing import ScanReport
    from lmstrix.core.registry.registry import ModelRecord
    from lmstrix.ground.types import GenerationStats, LoadedModel
    from lmstrix.service import LMStrixService
    from lmstrix.service.batching import BatchRequest
    from lmstrix.service.benching import BenchOptions
    from lmstrix.service.testing import ContextTestRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult(Mapping[str, Any]):
    """One answer. Attributes, or the keys of the earlier LMStrix: `result["response"]`, `["tokens_used"]`, ….

    Attributes:
        text: the answer, without reasoning.
        reasoning: what the model thought aloud, if it did.
        stats: token counts, times in seconds, stop reason.
        model_key: which model answered.
        context_length: tokens of context of the instance that answered.
    """

    text: str
    reasoning: str
    stats: GenerationStats
    model_key: str
    context_length: int | None

    def __getitem__(self, key: str) -> Any:
        return self._as_mapping()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._as_mapping())

    def __len__(self) -> int:
        return len(self._as_mapping())

    def _as_mapping(self) -> dict[str, Any]:
        return {
            "succeeded": True,
            "response": self.text,
            "tokens_used": self.stats.total_tokens,
            "inference_time": self.stats.total_s,
            "model_id": self.model_key,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ActResult(InferenceResult):
    """The answer of a call with tools. `stats` are those of the last round.

    Attributes:
        messages: what came about on the way: the model's calls, what the tools answered, the answer.
        rounds: how often the model was asked.
    """

    messages: tuple[Message, ...]
    rounds: int


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

    paths = resolve_paths({HOME_VARIABLE: str(home)} if home is not None else None)
    flags = {
        "server": server,
        "models_dir": str(models_dir) if models_dir is not None else None,
        "api_token": api_token,
        "timeout_s": timeout_s,
    }
    return LMStrixService(paths=paths, settings=load_settings(paths.home, flags=flags), notify=notify)


def _request(prompt: str, model: str | None, options: Mapping[str, Any]) -> InferRequest:
    from lmstrix.core.answers.request import InferRequest

    stop = options.get("stop")
    fixed = {"stop": (stop,) if isinstance(stop, str) else tuple(stop)} if stop is not None else {}
    return InferRequest(prompt=prompt, model=model, **{**options, **fixed})


def _result(result: GenerationResult) -> InferenceResult:
    return InferenceResult(
        text=result.text,
        reasoning=result.reasoning,
        stats=result.stats,
        model_key=result.model_key,
        context_length=result.context_length,
    )


def _acted(result: GenerationResult, transcript: Transcript) -> ActResult:
    return ActResult(
        text=result.text,
        reasoning=result.reasoning,
        stats=result.stats,
        model_key=result.model_key,
        context_length=result.context_length,
        messages=tuple(transcript.messages),
        rounds=transcript.rounds,
    )


def _acting(tools: Iterable[Callable[..., object]], max_rounds: int) -> dict[str, Any]:
    """The options of a call with tools."""
    from lmstrix.core.answers.acting import tools_of

    return {"tools": tools_of(tools), "max_rounds": max_rounds}


def _is_text(event: StreamEvent) -> TypeGuard[TextDelta]:
    return isinstance(event, TextDelta) and not event.reasoning and not event.structural


class _Turns:
    """What both chats share: the conversation, and what is sent and kept of each turn."""

    def __init__(self, model: str | None, system_prompt: str | None, options: Mapping[str, Any]) -> None:
        from lmstrix.core.answers.conversations import Conversation

        self._options = options
        self._conversation = Conversation(name="chat", model_key=model).with_system_prompt(system_prompt)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All turns so far, a system prompt first."""
        return self._conversation.messages

    def forget_oldest(self, exchanges: int = 1) -> None:
        """Drop the oldest questions and what was said to them; the system prompt stays."""
        self._conversation = self._conversation.without_oldest(exchanges)

    def _asking(self, text: str) -> tuple[Message, InferRequest]:
        question = Message(role="user", text=text)
        messages = self._conversation.asking(question)
        return question, _request(text, self._conversation.model_key, {**self._options, "messages": messages})

    def _answered(self, question: Message, result: GenerationResult) -> None:
        answer = Message(role="assistant", text=result.text)
        self._conversation = self._conversation.answered(question, (answer,), model_key=result.model_key)


class Chat(_Turns):
    """A conversation that remembers its turns. A turn that fails or is left early is not kept."""

    def __init__(
        self, service: LMStrixService, model: str | None, system_prompt: str | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__(model, system_prompt, options)
        self._service = service

    def send(self, text: str) -> InferenceResult:
        """Say something; the answer."""
        for event in self.events(text):
            if isinstance(event, Finished):
                return _result(event.result)
        raise LMStrixError("the answer ended without a result")

    def stream(self, text: str) -> Iterator[str]:
        """Say something; the text of the answer as it comes."""
        for event in self.events(text):
            if _is_text(event):
                yield event.text

    def events(self, text: str) -> Iterator[StreamEvent]:
        """Say something; all events of the answer."""
        question, request = self._asking(text)
        for event in self._service.stream(request):
            if isinstance(event, Finished):
                self._answered(question, event.result)
            yield event


class AsyncChat(_Turns):
    """Chat for asyncio."""

    def __init__(
        self, lms: AsyncLMStrix, model: str | None, system_prompt: str | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__(model, system_prompt, options)
        self._lms = lms

    async def send(self, text: str) -> InferenceResult:
        """Say something; the answer."""
        async with aclosing(self.events(text)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return _result(event.result)
        raise LMStrixError("the answer ended without a result")

    async def stream(self, text: str) -> AsyncGenerator[str]:
        """Say something; the text of the answer as it comes."""
        async with aclosing(self.events(text)) as events:
            async for event in events:
                if _is_text(event):
                    yield event.text

    async def events(self, text: str) -> AsyncGenerator[StreamEvent]:
        """Say something; all events of the answer."""
        question, request = self._asking(text)
        async with aclosing(self._lms._answer(request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    self._answered(question, event.result)
                yield event


class LMStrix:
    """LMStrix, blocking. Safe to use from several threads. Use as a context manager, or call `close()`.

    `server` is "auto", "lmstudio", "embedded" or an address; `home` is where the registry lives; what is not given
    comes from the configuration files and the environment. `notify` receives one-line remarks.
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the server."""
        self._service.close()

    def scan(self, models_dir: str | Path | None = None, *, refresh: bool = False) -> ScanReport:
        """Find models on disk and on the server; merge them into the registry."""
        return self._service.scan(models_dir=Path(models_dir) if models_dir else None, refresh=refresh)

    def list_models(self, filter: str | None = None) -> list[ModelRecord]:  # noqa: A002 - the word of the command line
        """The registry's models, by key."""
        return list(self._service.list_models(filter=filter).records)

    def test_model(self, model: str, options: ContextTestRequest | None = None, **changes: Any) -> ContextOutcome:
        """Find one model's real context limit. `changes` are fields of ContextTestRequest (threshold=…, fast=True).

        The outcome's `result.tested_context_length` is the context to use, None if nothing was proven.
        """
        outcome = self._service.test(model, _test_request(options, changes)).models[0].outcome
        if outcome is None:
            raise LMStrixError(f"{model} was not tested")
        return outcome

    def test_all(self, options: ContextTestRequest | None = None, **changes: Any) -> ContextReport:
        """Find the limits of all models that have no result yet, smallest risk first."""
        return self._service.test(None, _test_request(options, changes))

    def infer(self, prompt: str, model: str | None = None, **options: Any) -> InferenceResult:
        """One answer. `options` are fields of InferRequest: system_prompt, in_ctx, out_ctx, temperature, seed, …"""
        for event in self._service.stream(_request(prompt, model, options)):
            if isinstance(event, Finished):
                return _result(event.result)
        raise LMStrixError("the answer ended without a result")

    def stream(self, prompt: str, model: str | None = None, **options: Any) -> Iterator[str]:
        """The text of one answer as it comes; leaving early cancels it on the server."""
        for event in self._service.stream(_request(prompt, model, options)):
            if _is_text(event):
                yield event.text

    def events(self, prompt: str, model: str | None = None, **options: Any) -> Iterator[StreamEvent]:
        """All events of one answer: prompt progress, text, reasoning, and the result at the end."""
        return self._service.stream(_request(prompt, model, options))

    def act(
        self,
        prompt: str,
        model: str | None = None,
        *,
        tools: Iterable[Callable[..., object]],
        max_rounds: int = 10,
        **options: Any,
    ) -> ActResult:
        """An answer for which the model may call these Python functions, as often as `max_rounds` allows.

        Their annotations and docstrings tell the model what they take and do. What a call fails with is told to the
        model. Raises GenerationError when it still calls tools after the last round.
        """
        from lmstrix.core.answers.acting import Transcript

        transcript = Transcript()
        request = _request(prompt, model, {**options, **_acting(tools, max_rounds)})
        for event in self._service.stream(request, transcript=transcript):
            if isinstance(event, Finished):
                return _acted(event.result, transcript)
        raise LMStrixError("the answer ended without a result")

    def chat(self, model: str | None = None, *, system_prompt: str | None = None, **options: Any) -> Chat:
        """A conversation; `options` hold for each of its turns."""
        return Chat(self._service, model, system_prompt, options)

    def batch(
        self,
        prompts: Mapping[str, str] | Sequence[str],
        models: Sequence[str],
        out: str | Path,
        *,
        inputs: Mapping[str, str] | Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        parallel: int = 1,
        skip_existing: bool = True,
        on_progress: Callable[[BatchProgress], None] | None = None,
        **options: Any,
    ) -> BatchReport:
        """Prompts by models by inputs to files below `out`, one model loaded at a time; what exists is skipped.

        Prompts and inputs are texts by name, or words as on the command line. `options` are fields of InferRequest.
        """
        request = _batch(prompts, models, out, inputs, variables, parallel, skip_existing, options)
        return self._service.batch(request, on_progress=on_progress)

    def embed(
        self, texts: str | Sequence[str], model: str | None = None, *, ttl_s: float | None = 300.0
    ) -> tuple[tuple[float, ...], ...]:
        """One vector a text. Without a model, by the only embedding model there is."""
        return self._service.embed(_texts(texts), model=model, ttl_s=ttl_s).vectors

    def recommend(self, wish: Wish | None = None, **changes: Any) -> Advice:
        """The best models for a wish; `changes` are fields of Wish (task="code", min_context_length=…)."""
        return self._service.recommend(_wish(wish, changes))

    def bench(self, models: str | Sequence[str], request: BenchRequest | None = None, **changes: Any) -> BenchReport:
        """Measure models; the report's page is written to the LMStrix home. Keywords change fields of `request`.

        Raises:
            BackendUnavailableError: no server to measure.
        """
        return self._service.bench(_bench_options(models, request, changes)).report

    def estimate(self, model: str, context_length: int | None = None, **load: Any) -> EstimateReport:
        """What a load takes and which context fits, by arithmetic. `load` are fields of LoadConfig."""
        return self._service.estimate(model, LoadConfig(context_length=context_length, **load))

    def load(
        self, model: str, context_length: int | None = None, *, ttl_s: float | None = None, **load: Any
    ) -> LoadedModel:
        """Load a model at its tested context, or the one given, and keep it."""
        return self._service.load(model, LoadConfig(context_length=context_length, **load), ttl_s=ttl_s)

    def unload(self, instance: str | None = None) -> list[LoadedModel]:
        """Unload one instance, or with None everything."""
        return self._service.unload(instance)

    def ps(self) -> list[LoadedModel]:
        """The loaded models."""
        return self._service.ps()


class AsyncLMStrix:
    """LMStrix for asyncio: answers run side by side on one loop, without a thread each.

    What is slow by nature (scanning, testing) runs the blocking code in a worker thread.
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
        self._backend: AsyncLMStudioBackend | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the server."""
        if self._backend is not None:
            await self._backend.close()
            self._backend = None
        await asyncio.to_thread(self._service.close)

    async def _connected(self) -> AsyncLMStudioBackend:
        async with self._connecting:
            if self._backend is None:
                from lmstrix.api.client import AsyncLMStudioBackend

                connection = await asyncio.to_thread(lambda: self._service.connection)
                self._backend = AsyncLMStudioBackend(connection.server, api_token=self._service.settings.api_token)
            return self._backend

    async def scan(self, models_dir: str | Path | None = None, *, refresh: bool = False) -> ScanReport:
        """Find models on disk and on the server; merge them into the registry."""
        directory = Path(models_dir) if models_dir else None
        return await asyncio.to_thread(self._service.scan, models_dir=directory, refresh=refresh)

    async def list_models(self, filter: str | None = None) -> list[ModelRecord]:  # noqa: A002 - as in LMStrix
        """The registry's models, by key."""
        return list((await asyncio.to_thread(self._service.list_models, filter=filter)).records)

    async def test_model(self, model: str, options: ContextTestRequest | None = None, **changes: Any) -> ContextOutcome:
        """Find one model's real context limit, as LMStrix.test_model."""
        report = await asyncio.to_thread(self._service.test, model, _test_request(options, changes))
        outcome = report.models[0].outcome
        if outcome is None:
            raise LMStrixError(f"{model} was not tested")
        return outcome

    async def test_all(self, options: ContextTestRequest | None = None, **changes: Any) -> ContextReport:
        """Find the limits of all models that have no result yet."""
        return await asyncio.to_thread(self._service.test, None, _test_request(options, changes))

    async def _answer(self, request: InferRequest, transcript: Transcript | None = None) -> AsyncGenerator[StreamEvent]:
        from lmstrix.service.answering import Watch, stream_async

        backend = await self._connected()
        async with aclosing(stream_async(self._service, backend, request, Watch(transcript=transcript))) as events:
            async for event in events:
                yield event

    async def _result(self, request: InferRequest, transcript: Transcript | None = None) -> GenerationResult:
        async with aclosing(self._answer(request, transcript)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event.result
        raise LMStrixError("the answer ended without a result")

    def events(self, prompt: str, model: str | None = None, **options: Any) -> AsyncGenerator[StreamEvent]:
        """All events of one answer; the last is Finished."""
        return self._answer(_request(prompt, model, options))

    async def stream(self, prompt: str, model: str | None = None, **options: Any) -> AsyncGenerator[str]:
        """The text of one answer as it comes; close it (contextlib.aclosing) when leaving early."""
        async with aclosing(self.events(prompt, model, **options)) as events:
            async for event in events:
                if _is_text(event):
                    yield event.text

    async def infer(self, prompt: str, model: str | None = None, **options: Any) -> InferenceResult:
        """One answer."""
        return _result(await self._result(_request(prompt, model, options)))

    async def act(
        self,
        prompt: str,
        model: str | None = None,
        *,
        tools: Iterable[Callable[..., object]],
        max_rounds: int = 10,
        **options: Any,
    ) -> ActResult:
        """As LMStrix.act; coroutine functions are awaited, others run in a worker thread."""
        from lmstrix.core.answers.acting import Transcript

        transcript = Transcript()
        request = _request(prompt, model, {**options, **_acting(tools, max_rounds)})
        return _acted(await self._result(request, transcript), transcript)

    def chat(self, model: str | None = None, *, system_prompt: str | None = None, **options: Any) -> AsyncChat:
        """A conversation; `options` hold for each of its turns."""
        return AsyncChat(self, model, system_prompt, options)

    async def batch(
        self,
        prompts: Mapping[str, str] | Sequence[str],
        models: Sequence[str],
        out: str | Path,
        *,
        inputs: Mapping[str, str] | Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        parallel: int = 1,
        skip_existing: bool = True,
        on_progress: Callable[[BatchProgress], None] | None = None,
        **options: Any,
    ) -> BatchReport:
        """As LMStrix.batch."""
        from lmstrix.service.batching import run_batch

        request = _batch(prompts, models, out, inputs, variables, parallel, skip_existing, options)
        return await run_batch(self._service, await self._connected(), request, on_progress=on_progress)

    async def embed(
        self, texts: str | Sequence[str], model: str | None = None, *, ttl_s: float | None = 300.0
    ) -> tuple[tuple[float, ...], ...]:
        """One vector a text. Without a model, by the only embedding model there is."""
        from lmstrix.service.embedding import embed

        backend = await self._connected()
        found = await embed(self._service, lambda: backend, _texts(texts), model, ttl_s=ttl_s, aside=asyncio.to_thread)
        return found.vectors

    async def recommend(self, wish: Wish | None = None, **changes: Any) -> Advice:
        """The best models for a wish, as LMStrix.recommend."""
        return await asyncio.to_thread(self._service.recommend, _wish(wish, changes))

    async def bench(
        self, models: str | Sequence[str], request: BenchRequest | None = None, **changes: Any
    ) -> BenchReport:
        """Measure models, as LMStrix.bench."""
        outcome = await asyncio.to_thread(self._service.bench, _bench_options(models, request, changes))
        return outcome.report

    async def estimate(self, model: str, context_length: int | None = None, **load: Any) -> EstimateReport:
        """What a load takes and which context fits, by arithmetic."""
        config = LoadConfig(context_length=context_length, **load)
        return await asyncio.to_thread(self._service.estimate, model, config)

    async def load(
        self, model: str, context_length: int | None = None, *, ttl_s: float | None = None, **load: Any
    ) -> LoadedModel:
        """Load a model at its tested context, or the one given, and keep it."""
        config = LoadConfig(context_length=context_length, **load)
        return await asyncio.to_thread(self._service.load, model, config, ttl_s=ttl_s)

    async def unload(self, instance: str | None = None) -> list[LoadedModel]:
        """Unload one instance, or with None everything."""
        return await asyncio.to_thread(self._service.unload, instance)

    async def ps(self) -> list[LoadedModel]:
        """The loaded models."""
        return await asyncio.to_thread(self._service.ps)


def _batch(
    prompts: Mapping[str, str] | Sequence[str],
    models: Sequence[str],
    out: str | Path,
    inputs: Mapping[str, str] | Sequence[str],
    variables: Mapping[str, str] | None,
    parallel: int,
    skip_existing: bool,
    options: Mapping[str, Any],
) -> BatchRequest:
    from lmstrix.service.batching import BatchRequest

    return BatchRequest(
        prompts=prompts,
        models=[models] if isinstance(models, str) else models,
        out=Path(out),
        request=_request("", None, options),
        inputs=inputs,
        variables=variables or {},
        parallel=parallel,
        skip_existing=skip_existing,
    )


def _texts(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _wish(wish: Wish | None, changes: Mapping[str, Any]) -> Wish:
    from lmstrix.core.answers.recommend import Wish

    return replace(wish or Wish(), **changes)


def _bench_options(
    models: str | Sequence[str], request: BenchRequest | None, changes: Mapping[str, Any]
) -> BenchOptions:
    from lmstrix.core.benchmark.records import BenchRequest
    from lmstrix.service.benching import BenchOptions

    names = (models,) if isinstance(models, str) else tuple(models)
    if not names:
        raise UsageError("bench needs the name of a model at least")
    return BenchOptions(models=names, request=replace(request or BenchRequest(), **changes))


def _test_request(options: ContextTestRequest | None, changes: Mapping[str, Any]) -> ContextTestRequest:
    from lmstrix.service.testing import ContextTestRequest

    return replace(options or ContextTestRequest(), **changes)
