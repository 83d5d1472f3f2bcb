"""Portal: how blocking code reaches the asynchronous steps. One thread with an event loop serves every caller's thread.

    portal = Portal()
    answer = portal.run(steps())                  # what the coroutine returns or raises
    for event in portal.iterate(stream()): ...    # the items of an asynchronous generator
    portal.close()

Items cross to the caller through a plain queue, a few microseconds each. An interrupt in the caller cancels what runs
for it, on the server too, before it goes on up. Traded away: a stream is read as fast as it comes, whether or not its
caller keeps up.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, cast

from lmstrix.ground.callbacks import CALLER
from lmstrix.ground.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

T = TypeVar("T")
P = ParamSpec("P")
CLOSE_LIMIT_S = 5.0  # an engine of our own takes two seconds to end where a client does not hang up
_WAKE_S = 0.5  # Windows delivers Ctrl-C only between waits
_CLEAN_UP_S = 2.5  # after an interrupt: steps give their clean-up less (CLEAN_UP_S), and what hangs is left behind
_DONE: Final = object()


class Portal:
    """A thread with an event loop, started by the first call. Safe to use from several threads at once."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[Any]] = set()  # touched on the loop's thread alone
        self._guard = threading.Lock()
        self._closed = False

    def run(self, steps: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns or raises. An interrupt of the waiting thread cancels it first.

        Raises:
            BackendUnavailableError: the portal is closed, or was closed meanwhile.
        """
        work = self._prepare(steps, queue.SimpleQueue())
        try:
            work.begin()
            for _ in work.items():
                raise AssertionError("a coroutine has no items")
        finally:
            work.cancel()
        return work.result()

    def iterate(self, items: AsyncGenerator[T]) -> Generator[T]:
        """The items of an asynchronous generator; leaving early, or an interrupt, closes it on the loop."""
        inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        work = self._prepare(_pump(items, inbox), inbox)
        try:
            work.begin()
            yield from cast("Generator[T]", work.items())
        finally:
            work.cancel()
        work.result()

    def iterate_on_demand(self, items: AsyncGenerator[T]) -> Generator[T]:
        """The same, with each item made only when it is asked for."""
        try:
            while found := self.run(_next(items)):
                yield from found
        finally:
            with suppress(BackendUnavailableError):  # a portal that is closed has closed it too
                self.run(_close(items))

    def close(self, last: Coroutine[Any, Any, None] | None = None, *, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Cancel what still runs, let it clean up, then run `last`, and end the thread; all of it within `limit_s`.

        `last` closes what the steps have opened; nothing was opened where nothing ran. May be called twice.
        """
        with self._guard:
            self._closed = True
            loop, thread, self._thread = self._loop, self._thread, None
        if loop is None or thread is None:
            if last is not None:
                last.close()
            return
        ended = asyncio.run_coroutine_threadsafe(self._end(last, limit_s / 2), loop)
        try:
            ended.result(limit_s)
        except TimeoutError:
            return  # a step blocks the loop: its thread is a daemon, and dies with the process
        finally:
            loop.call_soon_threadsafe(loop.stop)
        thread.join(_WAKE_S)
        if not thread.is_alive():
            loop.close()

    def _prepare(self, steps: Coroutine[Any, Any, T], inbox: queue.SimpleQueue[object]) -> _Work[T]:
        with self._guard:
            if self._closed:
                steps.close()
                raise BackendUnavailableError("the connection was closed; open another")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_default_executor(_DaemonThreads())
                self._thread = threading.Thread(target=self._loop.run_forever, name="lmstrix-portal", daemon=True)
                self._thread.start()
            if self._thread is threading.current_thread():
                steps.close()
                raise RuntimeError("blocking calls cannot be made from the portal's own loop: they would wait for ever")
            return _Work(self._loop, steps, inbox, self._tasks)

    async def _end(self, last: Coroutine[Any, Any, None] | None, limit_s: float) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=limit_s)
        if last is not None:
            closing = asyncio.ensure_future(last)
            await asyncio.wait({closing}, timeout=limit_s)  # not wait_for, which waits for a cancellation to be heard
            closing.result() if closing.done() else closing.cancel()
        # What was given up above may still run, and hold generators that only its own task can close.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_WAKE_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAKE_S):
                await asyncio.get_running_loop().shutdown_asyncgens()


class _DaemonThreads(ThreadPoolExecutor):
    """A daemon thread for each call of the loop's `to_thread`, of which there are a few per answer.

    The interpreter waits for the threads of a pool before it ends, however long: a name server that does not answer, or
    an image that is a pipe, would hold up a command whose time is over.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as exc:  # noqa: BLE001 - handed to whoever waits for the call
                future.set_exception(exc)
            else:
                future.set_result(result)

        threading.Thread(target=work, name="lmstrix-worker", daemon=True).start()
        return future


async def _pump(source: AsyncGenerator[T], inbox: queue.SimpleQueue[object]) -> None:
    """Hand over every item, and close the generator however it ends."""
    async with aclosing(source):
        async for item in source:
            inbox.put(item)


class _Callback:
    """A call to be made in the waiting thread; its class tells it from an item."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call


class _Work(Generic[T]):
    """A coroutine running on the loop's thread for a caller on another, who takes items and calls from the `inbox`.

    `tasks` are all that run; the loop's alone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        steps: Coroutine[Any, Any, T],
        inbox: queue.SimpleQueue[object],
        tasks: set[asyncio.Task[Any]],
    ) -> None:
        self._inbox = inbox
        self._loop = loop
        self._steps = steps
        self._tasks = tasks
        self._ended = threading.Event()
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """Start it. Whoever calls this calls `cancel` in the end, whatever happens: an interrupt may come at once."""
        # Tasks and worker threads that the steps start inherit the context, so their callbacks find the caller too.
        context = copy_context()
        context.run(CALLER.set, lambda call: self._inbox.put(_Callback(call)))
        self._loop.call_soon_threadsafe(self._begin_on_loop, context=context)

    def _begin_on_loop(self) -> None:
        self._task = self._loop.create_task(self._steps)
        self._tasks.add(self._task)
        self._task.add_done_callback(self._finish)

    def _cancel_on_loop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:  # the interrupt came before it was even begun
            self._steps.close()
            self._ended.set()

    def _finish(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at here, so that nobody is told of a failure whose caller has left
        self._ended.set()
        self._inbox.put(_DONE)

    def items(self) -> Generator[object]:
        """What the steps hand over until they are done; calls are made on the way."""
        while (item := _take(self._inbox)) is not _DONE:
            if isinstance(item, _Callback):
                item.call()
            else:
                yield item

    def result(self) -> T:
        """What the ended steps returned or raised."""
        assert self._task is not None
        if self._task.cancelled():
            raise BackendUnavailableError("the connection was closed meanwhile; open another")
        return self._task.result()

    def cancel(self) -> None:
        """Cancel the steps unless they are done, and wait until they have cleaned up."""
        if self._ended.is_set():
            return
        self._loop.call_soon_threadsafe(self._cancel_on_loop)
        # In short waits, so that a second interrupt is heard everywhere; it leaves at once.
        give_up_at = time.monotonic() + _CLEAN_UP_S
        while not self._ended.wait(_WAKE_S) and time.monotonic() < give_up_at:
            pass


def _take(items: queue.SimpleQueue[T]) -> T:
    """The next item. Not inlined: an interrupt at a `continue` can slip past the `finally` around its loop."""
    while True:
        try:
            return items.get(timeout=_WAKE_S)
        except queue.Empty:
            continue


async def _next(items: AsyncGenerator[T]) -> tuple[T, ...]:
    """The next item; nothing at the end."""
    async for item in items:
        return (item,)
    return ()


async def _close(items: AsyncGenerator[T]) -> None:
    await items.aclose()
