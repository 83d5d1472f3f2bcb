"""Callbacks that are called where somebody waits for the work, not where the work is done.

Asynchronous steps may run on a thread of their own for a blocking caller. What they have to tell it (progress, remarks)
must arrive on its own thread: the widgets of a notebook or a window may be touched from no other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")
Relay = Callable[[Callable[[], object]], None]  # takes a call, to be made by the thread that waits
CALLER: ContextVar[Relay | None] = ContextVar("lmstrix_caller", default=None)


def in_caller(callback: Callable[P, object]) -> Callable[P, None]:
    """`callback`, called in the thread that waits for the present steps; called directly where no thread waits.

    What it raises ends the steps, and comes out where they were started.
    """

    def relayed(*args: P.args, **kwargs: P.kwargs) -> None:
        relay = CALLER.get()
        if relay is None:
            callback(*args, **kwargs)
        else:
            relay(partial(callback, *args, **kwargs))

    return relayed


async def run_in_caller(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function of the user's in the thread that waits, or in a worker thread where none waits; its result."""
    import asyncio

    relay = CALLER.get()
    if relay is None:
        return await asyncio.to_thread(function, *args, **kwargs)
    loop = asyncio.get_running_loop()
    # The function runs in another thread, and a future may be set on its own loop only.
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(setter: Callable[[V], None], value: V) -> None:
        if not outcome.done():  # the steps may have been cancelled while the function ran
            setter(value)

    def call() -> None:
        try:
            value = function(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001 - handed on to the steps that asked for the call
            loop.call_soon_threadsafe(settle, outcome.set_exception, exc)
        else:
            loop.call_soon_threadsafe(settle, outcome.set_result, value)

    relay(call)
    return await outcome
