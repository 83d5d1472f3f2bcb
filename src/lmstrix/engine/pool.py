"""Which models are loaded: loading under a memory limit, names, idle unloading, just-in-time loading, crashes noticed.

One child process per instance. Bytes are reserved before a child starts and released when it has ended, so two loads at
once cannot both take the last room. Locks are per name: a long load delays nobody but those who want the same model.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from lmstrix.engine.estimate import (
    allocated_context,
    effective_settings,
    estimate_load,
    gpu_layers,
    graph_bytes,
    graph_bytes_touched_later,
    guardrail_fault,
)
from lmstrix.engine.faults import SAMPLE_SIZE, EngineFault, nothing_loaded_fault, unloaded_fault
from lmstrix.engine.instance import Instance
from lmstrix.engine.llama.client import LlamaGoneError
from lmstrix.engine.llama.idle import IdleChild, ask_idle_child
from lmstrix.engine.llama.process import Launch, LlamaProcess, exit_code
from lmstrix.engine.memory import Shortages, instance_memory, server_memory
from lmstrix.engine.records import CatalogEntry, LoadEstimate, LoadSettings, LogEvent
from lmstrix.ground.context_lengths import SERVER_DEFAULT_CONTEXT_LENGTH
from lmstrix.ground.headroom import NO_HEADROOM, Headroom

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from lmstrix.engine.catalog import Catalog
    from lmstrix.engine.llama.process import OnProgress
    from lmstrix.engine.records import ContextSource, LogLevel
    from lmstrix.engine.run_folder import RunFolder
    from lmstrix.ground.types import InstanceMemory, MemoryLimit, ModelKind, ServerMemory

_HAND_OUT_GRACE_S = 1.0
"""How long a model that was handed out is kept for the first request. A client asks within milliseconds, unless it does
something else first; LM Studio gives it no time at all."""


class InstancePool:
    """All loaded models. `start` it before use; `close` kills every child."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        memory_limit_bytes: int | None = None,
        headroom: Headroom = NO_HEADROOM,
        default_context_length: int = SERVER_DEFAULT_CONTEXT_LENGTH,
        run_folder: RunFolder,
        on_log: Callable[[LogEvent], None],
    ) -> None:
        self.catalog = catalog
        self.memory_limit_bytes = memory_limit_bytes
        self._headroom = headroom
        self.default_context_length = default_context_length
        self._run_folder = run_folder
        self._on_log = on_log
        self._instances: dict[str, Instance] = {}
        self._loading: dict[str, int] = {}
        self.shortages = Shortages()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._timers: dict[Instance, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._launches: set[asyncio.Task[LlamaProcess]] = set()
        self._idle: IdleChild | None = None
        self._limited_by: MemoryLimit = "host"
        self._closed = False

    async def start(self) -> None:
        """Make the private folder of the sockets, and read the models directory."""
        self._run_folder.ready()
        await asyncio.to_thread(self._run_folder.remove_stale)
        await self.refresh()

    async def refresh(self) -> None:
        """Bring the catalogue up to date without blocking the event loop."""
        await asyncio.to_thread(self.catalog.refresh)

    async def close(self) -> None:
        """End every child, those still loading included, and remove the directory."""
        self._closed = True
        # Loads first, so that no child appears behind those that are being ended.
        for launch in list(self._launches):
            launch.cancel()
        await asyncio.gather(*self._launches, return_exceptions=True)
        for instance in list(self._instances.values()):
            await self._remove(instance)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._run_folder.remove()

    @property
    def loading(self) -> tuple[str, ...]:
        """The names of the instances that are being loaded."""
        return tuple(self._loading)

    def list_loaded(self, kind: ModelKind | None = None) -> list[Instance]:
        """The loaded instances, oldest first."""
        return [instance for instance in self._instances.values() if kind is None or instance.entry.kind == kind]

    def find(self, query: str | None, *, kind: ModelKind | None = None) -> Instance:
        """The instance `query` means: its identifier, its model's key, or the beginning of its path; None means any."""
        loaded = self.list_loaded(kind)
        if query is None:
            matching = loaded
        else:
            wanted = query.lower()
            matching = (
                # Exact before approximate: the name of one instance may begin the path of another.
                [instance for instance in loaded if instance.identifier == query]
                or [instance for instance in loaded if instance.identifier.lower() == wanted]
                or [instance for instance in loaded if instance.entry.model_key.lower() == wanted]
                or [instance for instance in loaded if instance.entry.path.lower().startswith(wanted)]
            )
        if not matching:
            raise self._not_loaded(query, loaded)
        return matching[0]

    def by_reference(self, reference: str) -> Instance:
        """The instance with this reference."""
        for instance in self._instances.values():
            if instance.reference == reference:
                return instance
        raise unloaded_fault()

    def estimate(self, model_key: str, settings: LoadSettings, *, kind: ModelKind | None = None) -> LoadEstimate:
        """What loading would take, and whether it would be allowed now."""
        entry = self.catalog.find(model_key, kind=kind)
        return self._estimate(entry, self._effective(entry, settings))

    async def memory(self) -> ServerMemory:
        """What one more model may take now."""
        memory = server_memory(
            await self.idle_child(), limit_bytes=self.memory_limit_bytes, in_use_bytes=self._in_use_bytes()
        )
        self._limited_by = memory.machine_limited_by
        return dataclasses.replace(memory, headroom_bytes=self._headroom.of(memory.available_bytes))

    async def idle_child(self) -> IdleChild | None:
        """What a child without a model takes and can compute on; None where none can be started."""
        # The cards' free memory changes; without cards, what a child takes by itself does not.
        if self._idle is None or self._idle.free_card_bytes:
            self._idle = await ask_idle_child()
        return self._idle

    def instance_memory(self, identifier: str) -> InstanceMemory:
        """What the instance called exactly that takes."""
        if identifier not in self._instances:
            raise self._not_loaded(identifier, self.list_loaded())
        return instance_memory(self._instances[identifier], self._idle)

    async def load(
        self,
        model_key: str,
        settings: LoadSettings,
        *,
        kind: ModelKind | None = None,
        identifier: str | None = None,
        ttl_s: float | None = None,
        on_progress: OnProgress | None = None,
        jit: bool = False,
        context_source: ContextSource | None = None,
    ) -> Instance:
        """Load a new instance. Raises `EngineFault`; cancelled, nothing stays."""
        entry = self.catalog.find(model_key, kind=kind)
        effective = self._effective(entry, settings)
        name = self._reserve_name(identifier, entry)
        estimate = self._estimate(entry, effective)
        if not estimate.passes_guardrails:
            raise guardrail_fault(estimate)
        # No await since the check, so nobody can have taken the same room or name in between.
        self._loading[name] = estimate.total_bytes
        try:
            process = await self._launched(self._launch(name, entry, effective, estimate, on_progress))
            instance = Instance(
                identifier=name,
                entry=entry,
                settings=effective,
                process=process,
                memory_bytes=estimate.total_bytes,
                touched_later_bytes=graph_bytes_touched_later(self.catalog.shape(entry), effective),
                # As it was told to whoever decided to load this: the reading is to be of the same kind.
                limited_by=self._limited_by,
                ttl_s=ttl_s,
                jit=jit,
                context_source=context_source or ("default" if settings.context_length is None else "asked"),
                on_idle=self._on_idle,
                on_log=self._on_log,
            )
            self._instances[name] = instance
        except EngineFault as fault:
            self.shortages.add(name, fault.shortage)
            raise
        finally:
            del self._loading[name]
        self._watch(instance)
        # An instance nobody uses must expire too, so its clock runs from the load on.
        self._on_idle(instance)
        return instance

    async def get_or_load(
        self,
        name: str,
        settings: LoadSettings,
        *,
        kind: ModelKind | None = None,
        ttl_s: float | None = None,
        proven_length: Callable[[CatalogEntry], Awaitable[int | None]] | None = None,
        on_start: Callable[[str, CatalogEntry], Awaitable[None]] | None = None,
        on_evict: Callable[[Instance], Awaitable[None]] | None = None,
        on_progress: OnProgress | None = None,
    ) -> tuple[Instance, bool]:
        """The instance that answers to `name`, loaded now if none does (then True). Its settings are not compared.

        A model loaded this way makes room for the next one, unless it is busy or has just been handed out. Where
        `settings` name no context, the model gets its proven length if it has one, or what of that fits.
        """
        with contextlib.suppress(EngineFault):
            return self._handed_out(self.find(name, kind=kind)), False
        entry = self.catalog.find(name, kind=kind)
        # Of several requests for one model the first loads it; the others find it once they have the lock.
        async with self._locks[entry.model_key]:
            with contextlib.suppress(EngineFault):
                return self._handed_out(self.find(entry.model_key, kind=kind)), False
            if on_start:
                await on_start(self._free_name(entry.model_key), entry)
            await self._make_room(on_evict)
            load = functools.partial(
                self.load, entry.model_key, kind=kind, ttl_s=ttl_s, on_progress=on_progress, jit=True
            )
            proven = None
            if proven_length is not None and settings.context_length is None:
                proven = await proven_length(entry)
            loading = load(settings) if proven is None else self._load_proven(load, entry, settings, proven)
            return self._handed_out(await loading), True

    def _handed_out(self, instance: Instance) -> Instance:
        """The same, promised to be asked; its idle time begins again."""
        instance.slots.promise(within_s=_HAND_OUT_GRACE_S)
        self._on_idle(instance)
        return instance

    async def _make_room(self, on_evict: Callable[[Instance], Awaitable[None]] | None) -> None:
        """Unload what was loaded just in time and is idle: not what somebody was handed and is about to ask."""
        for other in self.list_loaded():
            if not other.jit:
                continue
            await other.slots.promises_kept()
            # While this waited, another may have taken it away.
            if other.slots.queued or other.slots.unloaded:
                continue
            # Off the list before anything is awaited: nobody may be handed what is about to go.
            self._take_off(other)
            try:
                if on_evict:
                    await on_evict(other)
            finally:
                # Also where nobody could be told: off the list, it would never be ended.
                await other.process.stop()

    async def _load_proven(
        self, load: Callable[..., Awaitable[Instance]], entry: CatalogEntry, settings: LoadSettings, proven: int
    ) -> Instance:
        """Load with the proven context, or half of it, and so on down to the default, which has to load."""
        length = proven
        while length > self.default_context_length:
            wished = dataclasses.replace(settings, context_length=length)
            if self._estimate(entry, self._effective(entry, wished)).passes_guardrails:
                try:
                    return await load(wished, context_source="tested" if length == proven else "reduced")
                except EngineFault as fault:
                    if fault.kind not in ("refused", "load_failed"):
                        raise
                    # Less memory is free than was thought: every further try takes as long and may fail as well.
                    break
            length //= 2
        length = min(proven, self.default_context_length)
        source: ContextSource = "tested" if length == proven else "reduced"
        return await load(dataclasses.replace(settings, context_length=length), context_source=source)

    async def unload(self, identifier: str) -> None:
        """Unload the instance called exactly that."""
        if identifier not in self._instances:
            raise self._not_loaded(identifier, self.list_loaded())
        await self._remove(self._instances[identifier])

    def _effective(self, entry: CatalogEntry, settings: LoadSettings) -> LoadSettings:
        return effective_settings(entry, settings, default_context_length=self.default_context_length)

    def _estimate(self, entry: CatalogEntry, effective: LoadSettings) -> LoadEstimate:
        shape = self.catalog.shape(entry)
        return estimate_load(
            shape,
            effective,
            limit_bytes=self.memory_limit_bytes,
            in_use_bytes=self._in_use_bytes(),
            headroom=self._headroom,
        )

    def _in_use_bytes(self) -> int:
        return sum(instance.memory_bytes for instance in self._instances.values()) + sum(self._loading.values())

    def _reserve_name(self, identifier: str | None, entry: CatalogEntry) -> str:
        if identifier is None:
            return self._free_name(entry.model_key)
        if identifier in self._instances or identifier in self._loading:
            raise EngineFault(f'A model with the identifier "{identifier}" already exists', kind="invalid")
        return identifier

    def _free_name(self, key: str) -> str:
        name, number = key, 2
        while name in self._instances or name in self._loading:
            name, number = f"{key}:{number}", number + 1
        return name

    async def _launch(
        self,
        name: str,
        entry: CatalogEntry,
        effective: LoadSettings,
        estimate: LoadEstimate,
        on_progress: OnProgress | None,
    ) -> LlamaProcess:
        context_length = effective.context_length
        assert context_length is not None
        limit, shape = estimate.limit_bytes, self.catalog.shape(entry)
        launch = Launch(
            model_file=entry.file,
            mmproj_file=entry.mmproj_file,
            n_ctx=allocated_context(effective),
            settings=effective,
            embedding=entry.kind == "embedding",
            threads=effective.threads or 1,
            # Asked for each load: cleaners of /tmp remove folders that look old.
            run_dir=self._run_folder.ready(),
            expected_bytes=estimate.total_bytes,
            budget_bytes=None if limit is None else limit - estimate.in_use_bytes,
            graph_bytes=graph_bytes(shape, effective),
            gpu_layers=gpu_layers(shape, effective.offload_ratio),
        )

        def on_line(level: LogLevel, text: str) -> None:
            event = LogEvent(type="runtime.log", text=text, level=level, model_path=entry.path, identifier=name)
            self._on_log(event)

        process = await LlamaProcess.launch(launch, on_progress=on_progress, on_line=on_line)
        try:
            await _check_context(process, context_length)
        except BaseException:
            await process.stop()
            raise
        return process

    async def _launched(self, launch: Coroutine[Any, Any, LlamaProcess]) -> LlamaProcess:
        """The process, unless the pool closes first."""
        task = asyncio.create_task(launch)
        self._launches.add(task)
        try:
            process = await task
        except asyncio.CancelledError:
            # Cancelled by `close`: the caller asked for a model and gets a reason, not a cancellation it never sent.
            if self._closed and task.cancelled() and not _cancelling():
                raise _closing_fault() from None
            raise
        finally:
            self._launches.discard(task)
        if self._closed:
            await process.stop()
            raise _closing_fault()
        return process

    def _watch(self, instance: Instance) -> None:
        """Forget the instance when its child ends on its own."""

        async def watch() -> None:
            # Shielded: this task is cancelled when the pool closes, the wait for the child is not its own.
            await asyncio.shield(instance.process.exited)
            if self._instances.get(instance.identifier) is instance:
                status = exit_code(instance.process.exited.result())
                text = f"the model's process has ended (exit code {status})"
                self._on_log(LogEvent(type="server.log", text=text, level="error", identifier=instance.identifier))
                self.shortages.add(instance.identifier, instance.process.shortage)
                await self._remove(instance, crashed=True)

        self._keep(asyncio.create_task(watch()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        # A loop keeps only weak references to tasks; one without another holder may vanish half done.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_idle(self, instance: Instance) -> None:
        """Start the idle clock again; it also runs while requests do, but then only looks and comes back."""
        if timer := self._timers.pop(instance, None):
            timer.cancel()
        if instance.ttl_s is None or instance.slots.unloaded:
            return
        loop = asyncio.get_running_loop()
        self._timers[instance] = loop.call_later(instance.ttl_s, self._expire, instance)

    def _expire(self, instance: Instance) -> None:
        self._timers.pop(instance, None)
        if not instance.slots.queued:  # else the end of the last request starts the clock again
            self._keep(asyncio.create_task(self._remove(instance)))

    async def _remove(self, instance: Instance, *, crashed: bool = False) -> None:
        """Take the instance off the list at once, then free its memory."""
        self._take_off(instance, crashed=crashed)
        await instance.process.stop()

    def _take_off(self, instance: Instance, *, crashed: bool = False) -> None:
        if self._instances.get(instance.identifier) is instance:
            # Only if it is still there: another may have taken the name since.
            del self._instances[instance.identifier]
        if timer := self._timers.pop(instance, None):
            timer.cancel()
        # A crash is told as a crash to those who still wait, not as an unload.
        if not crashed:
            instance.slots.close()

    def _not_loaded(self, query: str | None, loaded: list[Instance]) -> EngineFault:
        names = [instance.identifier for instance in loaded]
        return nothing_loaded_fault(
            f"No loaded model answers to {query}" if query else "No model is loaded",
            query={} if query is None else {"identifier": query},
            loaded=names,
            suggestion=f"Loaded: {', '.join(names[:SAMPLE_SIZE])}" if names else "Load a model first.",
        )


def _closing_fault() -> EngineFault:
    return EngineFault("The engine is shutting down", kind="unloaded")


def _cancelling() -> bool:
    """Whether somebody asked for the end of the current task itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _check_context(process: LlamaProcess, context_length: int) -> None:
    """llama.cpp may have capped the context; never pass less on as what was asked for."""
    try:
        slots = await process.client.get("/slots")
    except LlamaGoneError as exc:
        # Short of address space for one more thread, a child that has just reported itself ready aborts.
        raise await process.load_fault() from exc
    effective = int(slots[0]["n_ctx"])
    if effective < context_length:
        raise EngineFault(
            "Failed to load model",
            kind="load_failed",
            cause=f"llama.cpp gives this model at most {effective} of the {context_length} tokens asked for.",
            error_data={"contextLength": context_length, "effectiveContextLength": effective},
        )
