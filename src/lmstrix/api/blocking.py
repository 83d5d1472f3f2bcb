"""LMStudioBackend: the asynchronous backend, blocking. One thread with an event loop serves every caller's thread.

Events cross to the caller through a plain queue, a few microseconds each. An interrupt in the caller cancels what runs
for it, on the server too, before it goes on up.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from lmstrix.api.client import CANCEL_GRACE_S, AsyncLMStudioBackend
from lmstrix.core.answers.streaming import StreamingManager
from lmstrix.ground.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
    from types import TracebackType

    from lmstrix.api.rest import ModelCapabilities
    from lmstrix.ground.backend import LoadProgress
    from lmstrix.ground.types import (
        Deadlines,
        GenerationRequest,
        GenerationResult,
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

T = TypeVar("T")
T2 = TypeVar("T2")
_WAKE_S = 0.5  # Windows delivers Ctrl-C only between waits
_CLEAN_UP_S = 4 * CANCEL_GRACE_S + 1.0


class LMStudioBackend:
    """See `lmstrix.ground.backend.BlockingBackend`. Close it, or use it as a context manager."""

    def __init__(self, server: ServerInfo, *, api_token: str | None = None, deadlines: Deadlines | None = None) -> None:
        self._backend = AsyncLMStudioBackend(server, api_token=api_token, deadlines=deadlines)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._guard = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def server(self) -> ServerInfo:
        return self._backend.server

    def connect(self) -> None:
        """Connect now rather than at the first call; says at once what is wrong."""
        self._run(self._backend.connect())

    def close(self) -> None:
        """Unload what cancelled loads have left, hang up, and end the thread. May be called twice."""
        with self._guard:
            self._closed, thread, loop = True, self._thread, self._loop
            self._thread = None
        if thread is None or loop is None:
            return
        _Work(loop, self._end(), set()).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def list_downloaded(self) -> list[ModelInfo]:
        """The models on the server's own machine."""
        return self._run(self._backend.list_downloaded())

    def list_loaded(self) -> list[LoadedModel]:
        """Every loaded instance."""
        return self._run(self._backend.list_loaded())

    def capabilities(self) -> dict[str, ModelCapabilities]:
        """What the REST listing alone tells, by model key."""
        return self._run(self._backend.capabilities())

    def load(
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
        """As `AsyncLMStudioBackend.load`; `on_progress` is called in the caller's thread."""
        ratios: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        loading = self._backend.load(
            model_key,
            config,
            instance_id=instance_id,
            kind=kind,
            ttl_s=ttl_s,
            deadlines=deadlines,
            on_progress=None if on_progress is None else ratios.put,
        )
        work = self._start(loading)
        with closing(work.feed(ratios)) as feed:
            for ratio in feed:
                if on_progress is not None:
                    on_progress(ratio)
        return work.result()

    def unload(self, instance_id: str, *, kind: ModelKind = "llm") -> None:
        """Unload one instance; one that is gone already is as good as unloaded."""
        self._run(self._backend.unload(instance_id, kind=kind))

    def stream(
        self, instance_id: str, request: GenerationRequest, *, deadlines: Deadlines | None = None
    ) -> Generator[StreamEvent]:
        """Events of one prediction; the last is `Finished`. Leaving early cancels it on the server."""
        events: queue.SimpleQueue[StreamEvent | None] = queue.SimpleQueue()
        streamed = StreamingManager(self._backend).events(instance_id, request, deadlines=deadlines)
        work = self._start(_pump(streamed, events))
        feed: Generator[StreamEvent] = work.feed(events)
        yield from feed
        work.result()

    def generate(
        self, instance_id: str, request: GenerationRequest, *, deadlines: Deadlines | None = None
    ) -> GenerationResult:
        """The result of one prediction."""
        return self._run(StreamingManager(self._backend).result(instance_id, request, deadlines=deadlines))

    def count_tokens(self, instance_id: str, text: str) -> int:
        """How many tokens `text` is to this model."""
        return self._run(self._backend.count_tokens(instance_id, text))

    def tokenize(self, instance_id: str, text: str) -> list[int]:
        """The tokens of `text`."""
        return self._run(self._backend.tokenize(instance_id, text))

    def apply_template(
        self, instance_id: str, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> str:
        """The prompt the model would see for this chat."""
        return self._run(self._backend.apply_template(instance_id, messages, tools=tools))

    def embed(self, instance_id: str, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text."""
        return self._run(self._backend.embed(instance_id, texts))

    def estimate(self, model_key: str, config: LoadConfig) -> ResourceEstimate:
        """What the server thinks this load takes."""
        return self._run(self._backend.estimate(model_key, config))

    def _run(self, coroutine: Coroutine[object, object, T]) -> T:
        return self._start(coroutine).result()

    def _start(self, coroutine: Coroutine[object, object, T]) -> _Work[T]:
        with self._guard:
            if self._closed:
                coroutine.close()
                address = self.server.address
                raise BackendUnavailableError(f"the connection to {address} was closed; open another", address=address)
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="lmstrix-backend", daemon=True)
                self._thread.start()
            return _Work(self._loop, coroutine, self._tasks)

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._backend.close()


async def _pump(source: AsyncGenerator[StreamEvent], events: queue.SimpleQueue[StreamEvent | None]) -> None:
    """Hand over every event, and close the stream however it ends."""
    async with aclosing(source):
        async for event in source:
            events.put(event)


def _take(items: queue.SimpleQueue[T]) -> T:
    """The next item. Not inlined: an interrupt at a `continue` can slip past the `finally` around its loop."""
    while True:
        try:
            return items.get(timeout=_WAKE_S)
        except queue.Empty:
            continue


class _Work(Generic[T]):
    """A coroutine running on the loop's thread for a caller on another. `tasks` are all that run; the loop's alone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[object, object, T],
        tasks: set[asyncio.Task[Any]],
    ) -> None:
        self._loop = loop
        self._tasks = tasks
        self._done = threading.Event()
        self._task: asyncio.Task[T] | None = None
        self._fed: queue.SimpleQueue[Any] | None = None
        loop.call_soon_threadsafe(self._begin, coroutine)

    def _begin(self, coroutine: Coroutine[object, object, T]) -> None:
        self._task = self._loop.create_task(coroutine)
        self._tasks.add(self._task)
        self._task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at here, so that nobody is told of a failure whose caller has left
        self._done.set()
        if self._fed is not None:
            self._fed.put(None)

    def result(self) -> T:
        """What it returns or raises. An interrupt of the waiting thread cancels it first."""
        try:
            while not self._done.wait(_WAKE_S):
                pass
        except BaseException:
            self.cancel()
            raise
        assert self._task is not None
        if self._task.cancelled():
            raise BackendUnavailableError("the connection was closed meanwhile; open another")
        return self._task.result()

    def feed(self, items: queue.SimpleQueue[T2 | None]) -> Generator[T2]:
        """What it puts into `items` until it is done. Leaving early, or being interrupted, cancels it."""
        self._loop.call_soon_threadsafe(self._feed_to, items)
        try:
            while (item := _take(items)) is not None:
                yield item
        finally:
            self.cancel()

    def _feed_to(self, items: queue.SimpleQueue[Any]) -> None:
        self._fed = items
        if self._done.is_set():
            items.put(None)

    def cancel(self) -> None:
        """Cancel it unless done, and wait until it has cleaned up."""
        if not self._done.is_set():
            self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())
            self._done.wait(_CLEAN_UP_S)
