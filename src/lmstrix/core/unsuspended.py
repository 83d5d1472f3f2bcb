"""Asynchronous steps on a blocking backend, without an event loop.

A coroutine that awaits only calls which never suspend runs to its end in one go. So steps written once against
`ModelBackend` serve blocking callers too: `Unsuspended` makes each blocking call look asynchronous, and
`run_unsuspended` runs the coroutine, `iterate_unsuspended` an asynchronous generator. What blocks beside the backend,
a file say, goes through an `Aside`: a worker thread in one case, a plain call in the other. Traded away: such steps may
await nothing else (no sleep, no other task).
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, cast

from lmstrix.core.answers.streaming import StreamingManager

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence

    from lmstrix.ground.backend import BlockingBackend, LoadProgress, ModelBackend
    from lmstrix.ground.types import (
        Deadlines,
        GenerationRequest,
        LoadConfig,
        LoadedModel,
        Message,
        ModelInfo,
        ModelKind,
        ResourceEstimate,
        ServerInfo,
        StreamEvent,
        ToolDefinition,
    )

P = ParamSpec("P")
T = TypeVar("T")


class Aside(Protocol):
    """Runs what blocks: `asyncio.to_thread` beside an event loop, `here` without one."""

    async def __call__(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


async def here(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The Aside of blocking callers."""
    return func(*args, **kwargs)


def run_unsuspended(steps: Coroutine[None, None, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError("these steps wait for something other than the blocking backend")


def iterate_unsuspended(events: AsyncGenerator[T]) -> Generator[T]:
    """The items of an asynchronous generator that never suspends; leaving early closes it."""
    try:
        while True:
            try:
                item = run_unsuspended(cast("Coroutine[None, None, T]", anext(events)))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_unsuspended(cast("Coroutine[None, None, None]", events.aclose()))


class _UnsuspendedStreams(StreamingManager):
    """Streams of a blocking backend, which keeps the deadlines itself."""

    def __init__(self, backend: Unsuspended) -> None:
        super().__init__(backend)
        self._unsuspended = backend

    def events(
        self,
        instance_id: str,
        request: GenerationRequest,
        *,
        deadlines: Deadlines | None = None,
        model_key: str | None = None,  # noqa: ARG002 - the backend knows it
    ) -> AsyncGenerator[StreamEvent]:
        return self._unsuspended.stream(instance_id, request, deadlines=deadlines)


def streaming_manager(backend: ModelBackend) -> StreamingManager:
    """The manager for a backend with or without an event loop."""
    return _UnsuspendedStreams(backend) if isinstance(backend, Unsuspended) else StreamingManager(backend)


class Unsuspended:
    """A blocking backend as an ModelBackend whose calls are done when they return."""

    def __init__(self, backend: BlockingBackend) -> None:
        self._backend = backend

    @property
    def server(self) -> ServerInfo:
        return self._backend.server

    async def list_downloaded(self) -> list[ModelInfo]:
        return self._backend.list_downloaded()

    async def list_loaded(self) -> list[LoadedModel]:
        return self._backend.list_loaded()

    async def load(
        self,
        model_key: str,
        config: LoadConfig,
        *,
        instance_id: str,
        kind: ModelKind = "llm",
        ttl_s: float | None = None,
        deadlines: Deadlines | None = None,
        on_progress: LoadProgress | None = None,
    ) -> LoadedModel:
        return self._backend.load(
            model_key,
            config,
            instance_id=instance_id,
            kind=kind,
            ttl_s=ttl_s,
            deadlines=deadlines,
            on_progress=on_progress,
        )

    async def unload(self, instance_id: str, *, kind: ModelKind = "llm") -> None:
        self._backend.unload(instance_id, kind=kind)

    async def stream(
        self, instance_id: str, request: GenerationRequest, *, deadlines: Deadlines | None = None
    ) -> AsyncGenerator[StreamEvent]:
        with closing(
            cast("Generator[StreamEvent]", self._backend.stream(instance_id, request, deadlines=deadlines))
        ) as events:
            for event in events:
                yield event

    async def count_tokens(self, instance_id: str, text: str) -> int:
        return self._backend.count_tokens(instance_id, text)

    async def tokenize(self, instance_id: str, text: str) -> list[int]:
        return self._backend.tokenize(instance_id, text)

    async def apply_template(
        self, instance_id: str, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> str:
        return self._backend.apply_template(instance_id, messages, tools=tools)

    async def embed(self, instance_id: str, texts: Sequence[str]) -> list[list[float]]:
        return self._backend.embed(instance_id, texts)

    async def estimate(self, model_key: str, config: LoadConfig) -> ResourceEstimate:
        return self._backend.estimate(model_key, config)

    async def close(self) -> None:
        self._backend.close()
