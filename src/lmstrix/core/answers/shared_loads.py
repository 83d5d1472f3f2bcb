"""One load per model: whoever needs a model that somebody is loading waits, looks again, and uses what is there then.

Callers in this process wait for one future; processes, and other LMStrix in this one, wait for a lock on a file, which
the system lets go of when its holder dies. A load that fails fails for all callers of one LMStrix who asked for the
same before it did, so that fifty do not try fifty times; other processes try in turn.

Instances are counted while they are used: who is done with one that is not to be kept unloads it only as the last.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from lmstrix.ground.deadline import without_limit
from lmstrix.ground.errors import LMStrixError, TimeLimitError
from lmstrix.ground.files import make_private_folder
from lmstrix.ground.types import LoadedModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.deadline import Deadline
    from lmstrix.ground.loads import LoadConfig

Find = Callable[[], Awaitable[LoadedModel | None]]
Load = Callable[[], Awaitable[LoadedModel]]

_LOOK_AGAIN_S: Final = 0.05  # a load takes tenths of a second at least, and asking for a lock some microseconds


@dataclass(slots=True)
class _Flight:
    """A load under way, ending in an instance or in None, and how many wait for it."""

    ended: asyncio.Future[LoadedModel | None]
    waiting: int = 0


class _Failed(NamedTuple):
    """The last load of a model that failed."""

    at: float
    config: LoadConfig
    failure: LMStrixError


class SharedLoads:
    """The loads and instances of one server, as far as one LMStrix knows. Belongs to one event loop.

    `locks` is the folder of the lock files, None where no other process can reach the server, which `server` names
    there. `notify` is told when another one is waited for.
    """

    def __init__(
        self,
        backend: ModelBackend,
        *,
        server: str = "",
        locks: Path | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._backend = backend
        self._server = server
        self._locks = locks
        self._notify = notify
        self._under_way: dict[str, _Flight] = {}
        self._failed: dict[str, _Failed] = {}
        self._users: Counter[str] = Counter()
        self._unkept: set[str] = set()
        self.loaded_as: dict[str, LoadConfig] = {}
        """How the instances loaded here were loaded, by their names: no listing tells."""
        self.told_unusual: set[str] = set()
        """The references of the instances of which the user knows by now if they were loaded in an unusual way."""

    async def get(
        self, model_key: str, config: LoadConfig, *, find: Find, load: Load, deadline: Deadline | None = None
    ) -> tuple[LoadedModel, bool]:
        """What `find` finds, else what `load` loads, and whether it was loaded here. Whoever gets it must `leave` it.

        `find` looks at what is loaded at that moment, and is asked anew after each wait.
        """
        whole, began_at = deadline or without_limit(), time.monotonic()
        while True:
            found = await self._found(find, whole)
            if found is not None:
                return found, False
            failed = self._failed.get(model_key)
            if failed is not None and failed.config == config and failed.at >= began_at:
                raise failed.failure
            earlier = self._under_way.get(model_key)
            if earlier is None:
                return await self._load_alone(model_key, config, find, load, whole)
            async with self._after(earlier, model_key, whole):
                found = await self._found(find, whole)
            if found is not None:
                return found, False

    async def leave(self, instance: LoadedModel, *, keep: bool) -> None:
        """Be done with an instance. The last to be done unloads it, if anybody who used it wants that (`keep` off)."""
        instance_id = instance.instance_id
        if not keep:
            self._unkept.add(instance_id)
        self._users[instance_id] -= 1
        if self._users[instance_id] > 0:
            return
        # Before the server is asked: from now on nobody begins to use it.
        del self._users[instance_id]
        if instance_id in self._unkept:
            self._unkept.remove(instance_id)
            await self._backend.unload(instance_id, kind=instance.kind)

    @property
    def in_use(self) -> frozenset[str]:
        """The instances that answers of this LMStrix use, or wait for, at this moment."""
        return frozenset(self._users)

    def is_shared(self, instance: LoadedModel) -> bool:
        """Whether more than one uses it."""
        return self._users[instance.instance_id] > 1

    async def _found(self, find: Find, whole: Deadline) -> LoadedModel | None:
        async with whole.step("asking what is loaded"):
            found = await find()
        # Before anything else is awaited: whoever else uses it may be the last, and unload it.
        if found is not None:
            self._users[found.instance_id] += 1
        return found

    @asynccontextmanager
    async def _after(self, flight: _Flight, model_key: str, whole: Deadline) -> AsyncIterator[None]:
        """Wait for somebody else's load; while inside, what came of it is not unloaded."""
        flight.waiting += 1
        try:
            async with whole.step(f"waiting for the load of {model_key} that another call began"):
                await asyncio.shield(flight.ended)
            yield
        finally:
            flight.waiting -= 1
            # Counted as a user since the load ended, also where this caller gave up at that very moment.
            loaded = flight.ended.result() if flight.ended.done() else None
            if loaded is not None:
                await self.leave(loaded, keep=True)

    async def _load_alone(
        self, model_key: str, config: LoadConfig, find: Find, load: Load, whole: Deadline
    ) -> tuple[LoadedModel, bool]:
        flight = self._under_way[model_key] = _Flight(asyncio.get_running_loop().create_future())
        loaded: LoadedModel | None = None
        try:
            async with self._no_other_process(model_key, whole):
                # Another process may have loaded it since we looked, and ended before we asked for the lock.
                found = await self._found(find, whole) if self._locks is not None else None
                if found is not None:
                    return found, False
                async with whole.step(f"loading {model_key}"):
                    loaded = await load()
                self.loaded_as[loaded.instance_id] = config
                # For those who wait as well: they must find it still there.
                self._users[loaded.instance_id] += 1 + flight.waiting
                return loaded, True
        except TimeLimitError:
            raise  # this caller's own time: others have theirs
        except LMStrixError as exc:
            self._failed[model_key] = _Failed(time.monotonic(), config, exc)
            raise
        finally:
            del self._under_way[model_key]
            flight.ended.set_result(loaded)

    @asynccontextmanager
    async def _no_other_process(self, model_key: str, whole: Deadline) -> AsyncIterator[None]:
        """While inside, no other LMStrix of this home loads the model."""
        if self._locks is None:
            yield
            return
        from filelock import FileLock, Timeout  # 33 ms that only loads pay

        name = hashlib.sha256(f"{self._server} {model_key}".encode()).hexdigest()[:16]
        lock = FileLock(self._locks / f"load-{name}.lock", timeout=0)
        told = False
        try:
            make_private_folder(self._locks)
            async with whole.step(f"waiting for another LMStrix that is loading {model_key}"):
                while True:
                    try:
                        lock.acquire()
                        break
                    except Timeout:
                        if not told and self._notify is not None:
                            self._notify(f"waiting for another LMStrix that is loading {model_key}")
                        told = True
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except (OSError, NotImplementedError):
            # A home that cannot be written, or whose disk knows no locks: two loads are better than none.
            yield
            return
        try:
            yield
        finally:
            lock.release()
