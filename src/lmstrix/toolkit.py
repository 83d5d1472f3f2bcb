"""The Python API: `LMStrix` for scripts, `AsyncLMStrix` for programs that wait for many answers at once.

    with LMStrix() as lms:
        lms.scan()
        print(lms.infer("Why is the sky blue?", model="qwen3-8b").text)

Both know the same settings, registry and servers as the command line, and raise the exceptions of `lmstrix.errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lmstrix.errors import LMStrixError
from lmstrix.types import Finished, GenerationResult, LoadConfig, StreamEvent, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

    from lmstrix.api.client import AsyncLMStudioBackend
    from lmstrix.core.context.tester import ContextOutcome
    from lmstrix.core.registry import ModelRecord
    from lmstrix.core.results import ContextReport, EstimateReport, InferRequest, ScanReport
    from lmstrix.service import LMStrixService
    from lmstrix.service.testing import ContextTestRequest
    from lmstrix.types import GenerationStats, LoadedModel


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


def _service(
    server: str | None,
    home: str | Path | None,
    models_dir: str | Path | None,
    api_token: str | None,
    timeout_s: float | None,
    notify: Callable[[str], None] | None,
) -> LMStrixService:
    from lmstrix.paths import HOME_VARIABLE, resolve_paths
    from lmstrix.service import LMStrixService
    from lmstrix.settings import load_settings

    paths = resolve_paths({HOME_VARIABLE: str(home)} if home is not None else None)
    flags = {
        "server": server,
        "models_dir": str(models_dir) if models_dir is not None else None,
        "api_token": api_token,
        "timeout_s": timeout_s,
    }
    return LMStrixService(paths=paths, settings=load_settings(paths.home, flags=flags), notify=notify)


def _request(prompt: str, model: str | None, options: Mapping[str, Any]) -> InferRequest:
    from lmstrix.core.results import InferRequest

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
            if isinstance(event, TextDelta) and not event.reasoning and not event.structural:
                yield event.text

    def events(self, prompt: str, model: str | None = None, **options: Any) -> Iterator[StreamEvent]:
        """All events of one answer: prompt progress, text, reasoning, and the result at the end."""
        return self._service.stream(_request(prompt, model, options))

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

    async def events(self, prompt: str, model: str | None = None, **options: Any) -> AsyncIterator[StreamEvent]:
        """All events of one answer; the last is Finished."""
        from lmstrix.service.answering import Watch, stream_async

        backend = await self._connected()
        async with aclosing(stream_async(self._service, backend, _request(prompt, model, options), Watch())) as events:
            async for event in events:
                yield event

    async def stream(self, prompt: str, model: str | None = None, **options: Any) -> AsyncIterator[str]:
        """The text of one answer as it comes."""
        async for event in self.events(prompt, model, **options):
            if isinstance(event, TextDelta) and not event.reasoning and not event.structural:
                yield event.text

    async def infer(self, prompt: str, model: str | None = None, **options: Any) -> InferenceResult:
        """One answer."""
        async for event in self.events(prompt, model, **options):
            if isinstance(event, Finished):
                return _result(event.result)
        raise LMStrixError("the answer ended without a result")

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


def _test_request(options: ContextTestRequest | None, changes: Mapping[str, Any]) -> ContextTestRequest:
    from lmstrix.service.testing import ContextTestRequest

    return replace(options or ContextTestRequest(), **changes)
