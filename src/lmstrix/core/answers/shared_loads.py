"""One load per model: whoever needs a model that somebody is loading waits, looks again, and uses what is there then.

Callers in this process wait for one future; processes, and other LMStrix in this one, wait for a lock on a file, which
the system lets go of when its holder dies. A load that fails fails for all in this process who waited for the same
one, so that fifty callers do not try fifty times; other processes try in turn, since their time or memory may differ.

Instances are counted while they are used: who is done with one that is not to be kept unloads it only as the last.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from lmstrix.ground.deadline import without_limit
from lmstrix.ground.errors import LMStrixError, TimeLimitError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from lmstrix.ground.deadline import Deadline
    from lmstrix.ground.types import LoadConfig, LoadedModel

_LOOK_AGAIN_S: Final = 0.05  # a load takes tenths of a second at least, and asking for a lock some microseconds


class _Outcome(NamedTuple):
    """How a load ended for those who waited for it; `failure` is None where it worked or was given up."""

    config: LoadConfig
    failure: LMStrixError | None


class SharedLoads:
    """The loads and instances of one server, as far as one LMStrix knows. Belongs to one event loop.

    `locks` is the folder of the lock files, None where no other process can reach the server. `notify` is told when
    another one is waited for.
    """

    def __init__(
        self, *, server: str = "", locks: Path | None = None, notify: Callable[[str], None] | None = None
    ) -> None:
        self._server = server
        self._locks = locks
        self._notify = notify
        self._under_way: dict[str, asyncio.Future[_Outcome]] = {}
        self._users: Counter[str] = Counter()
        self._unkept: set[str] = set()

    async def get(
        self,
        model_key: str,
        config: LoadConfig,
        *,
        find: Callable[[], Awaitable[LoadedModel | None]],
        load: Callable[[], Awaitable[LoadedModel]],
        deadline: Deadline | None = None,
    ) -> tuple[LoadedModel, bool]:
        """What `find` finds, else what `load` loads, and whether it was loaded here.

        `find` looks at what is loaded at that moment, and is asked anew after each wait.
        """
        whole = deadline or without_limit()
        while True:
            async with whole.step("asking what is loaded"):
                found = await find()
            if found is not None:
                return found, False
            earlier = self._under_way.get(model_key)
            if earlier is None:
                return await self._load_alone(model_key, config, find, load, whole)
            async with whole.step(f"waiting for the load of {model_key} that another call began"):
                outcome = await asyncio.shield(earlier)
            if outcome.failure is not None and outcome.config == config:
                raise outcome.failure

    async def _load_alone(
        self,
        model_key: str,
        config: LoadConfig,
        find: Callable[[], Awaitable[LoadedModel | None]],
        load: Callable[[], Awaitable[LoadedModel]],
        whole: Deadline,
    ) -> tuple[LoadedModel, bool]:
        ended = self._under_way[model_key] = asyncio.get_running_loop().create_future()
        failure: LMStrixError | None = None
        try:
            async with self._no_other_process(model_key, whole) as waited:
                if waited:
                    async with whole.step("asking what is loaded"):
                        found = await find()
                    if found is not None:
                        return found, False
                async with whole.step(f"loading {model_key}"):
                    return await load(), True
        except TimeLimitError:
            raise  # this caller's own time: others have theirs
        except LMStrixError as exc:
            failure = exc
            raise
        finally:
            del self._under_way[model_key]
            ended.set_result(_Outcome(config, failure))

    @asynccontextmanager
    async def _no_other_process(self, model_key: str, whole: Deadline) -> AsyncIterator[bool]:
        """While inside, no other LMStrix of this home loads the model. Yields whether one had to be waited for."""
        if self._locks is None:
            yield False
            return
        from filelock import FileLock, Timeout  # 33 ms that only loads pay

        name = hashlib.sha256(f"{self._server} {model_key}".encode()).hexdigest()[:16]
        lock = FileLock(self._locks / f"load-{name}.lock", timeout=0)
        waited = False
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            async with whole.step(f"waiting for another LMStrix that is loading {model_key}"):
                while True:
                    try:
                        lock.acquire()
                        break
                    except Timeout:
                        if not waited and self._notify is not None:
                            self._notify(f"waiting for another LMStrix that is loading {model_key}")
                        waited = True
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except (OSError, NotImplementedError):
            # A home that cannot be written, or whose disk knows no locks: two loads are better than none.
            yield waited
            return
        try:
            yield waited
        finally:
            lock.release()

    # Who uses what

    @property
    def in_use(self) -> frozenset[str]:
        """The instances that answers of this LMStrix use at this moment."""
        return frozenset(self._users)

    def is_shared(self, instance_id: str) -> bool:
        """Whether more than one uses it."""
        return self._users[instance_id] > 1

    def use(self, instance_id: str) -> None:
        """Somebody begins to use it."""
        self._users[instance_id] += 1

    def leave(self, instance_id: str, *, keep: bool) -> bool:
        """Somebody is done with it, and with `keep` off wants it unloaded. Returns whether it is to be unloaded now."""
        if not keep:
            self._unkept.add(instance_id)
        self._users[instance_id] -= 1
        if self._users[instance_id] > 0:
            return False
        del self._users[instance_id]
        unload = instance_id in self._unkept
        self._unkept.discard(instance_id)
        return unload
