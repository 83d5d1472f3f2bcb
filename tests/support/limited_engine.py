"""The embedded engine with its models under a real memory limit, and what really fits there.

The engine runs as a process of its own; only the processes of its models enter the limit, by way of a small shell
script that stands in for their interpreter. So the kernel kills a model and never the engine, and the limit can be
moved while the engine runs. `RealLoads` tries lengths one by one, each in a fresh process: what holds is the truth that
a search is measured against.
"""

from __future__ import annotations

import asyncio
import itertools
import mmap
import os
import shlex
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.core.context.verdict import Outcome, outcome_of
from lmstrix.engine.state_file import engine_status
from lmstrix.ground.context_lengths import ALIGNMENT_TOKENS, aligned_up
from lmstrix.ground.errors import LMStrixError, ModelNotFoundError
from lmstrix.ground.types import GenerationRequest, ServerInfo, ServerMemory
from tests.support.limited_models import LOAD
from tests.support.memory_limits import status_bytes

if TYPE_CHECKING:
    from types import TracebackType

    from lmstrix.ground.types import AttemptKind
    from tests.support.limited_models import LimitedModel
    from tests.support.memory_limits import LimitKind, MemoryLimit

_ENGINE = """
import sys
sys.executable = sys.argv.pop(1)  # what the engine starts its models with
from lmstrix.engine.__main__ import main
sys.exit(main())
"""
_START_S = 60.0
_STOP_S = 15.0
_POLL_S = 0.05
_STEP_S = 300.0
"""One load or one prefill; more is a machine that swaps or thrashes, and proves nothing."""
_WORD = " the"  # one token of the tiny vocabulary
_ROOM_TOKENS = 16
"""Left free of a filled context, for the answer."""
_MAP_LOCKED = 0x2000  # Linux; the module names it from Python 3.13 on only


class LimitedEngine:
    """A running engine whose models live under `limit`, from entering the context to leaving it."""

    def __init__(self, models_dir: Path, limit: MemoryLimit) -> None:
        self._models_dir = models_dir
        self._limit = limit
        self._stack = ExitStack()
        self._held_files: dict[str, mmap.mmap] = {}

    @property
    def address(self) -> str:
        """host:port."""
        status = engine_status(self._home)
        assert status.address is not None, "the engine has ended"
        return status.address

    def set_limit(self, limit_bytes: int | None) -> None:
        """What the models loaded from now on may take; none may be loaded now."""
        self._limit.set(limit_bytes)
        self._write_interpreter(self._limit.entry)

    @property
    def limit_kind(self) -> LimitKind:
        return self._limit.kind

    def model_process(self) -> int:
        """The process of the one loaded model."""
        (child,) = psutil.Process(self._process.pid).children()
        return child.pid

    def taken_bytes(self) -> int:
        """What the loaded model takes of the limit."""
        return self._limit.taken_bytes(self.model_process())

    async def hold_files(self, backend: AsyncLMStudioBackend, model: LimitedModel) -> None:
        """Keep in memory, and on our own account, every file that a loaded model maps.

        A control group counts a file's pages for who read them first. Its own code evicted and read again for minutes:
        that is how a process near its limit would end, not by being refused.
        """
        self.set_limit(None)
        load = replace(LOAD, context_length=ALIGNMENT_TOKENS)
        await backend.load(model.model_key, load, instance_id="files")
        maps = Path(f"/proc/{self.model_process()}/maps").read_text()
        await backend.unload("files")
        for line in maps.splitlines():
            name = line.split(None, 5)[-1]
            if not name.startswith("/") or name in self._held_files:
                continue
            with suppress(OSError), open(name, "rb") as file:  # noqa: PTH123 - deleted or special files are no pages to hold
                self._held_files[name] = _locked(file.fileno())

    def __enter__(self) -> Self:
        with self._stack as stack:
            self._home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lmstrix-limited-")))
            self._interpreter = self._home / "python"
            self._write_interpreter(":")
            words = ["run", "--home", str(self._home), "--models-dir", str(self._models_dir)]
            log = stack.enter_context((self._home / "log").open("wb"))
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ENGINE, str(self._interpreter), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is for us: we then end the engine, and its models first.
                start_new_session=True,
            )
            stack.callback(self._stop)
            self._wait_until_it_answers()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its models end with it: they read the end of their input
            self._process.wait(_STOP_S)
        for held in self._held_files.values():
            held.close()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_S
        while not engine_status(self._home).running:
            log = (self._home / "log").read_text(errors="replace")
            assert self._process.poll() is None, f"the engine ended at once: {log}"
            assert time.monotonic() < deadline, f"the engine did not start: {log}"
            time.sleep(_POLL_S)

    def _write_interpreter(self, entry: str) -> None:
        script = self._interpreter.with_suffix(".new")
        script.write_text(f'#!/bin/sh\n{entry}\nexec {shlex.quote(sys.executable)} "$@"\n')
        script.chmod(0o700)
        script.replace(self._interpreter)  # never half written when the engine starts it


def _locked(descriptor: int) -> mmap.mmap:
    """The file, mapped and held in memory; only mapped where the system lets us lock no more."""
    size = os.fstat(descriptor).st_size
    with suppress(OSError):
        return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | _MAP_LOCKED, prot=mmap.PROT_READ)
    return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealLoad:
    """One length, loaded and filled for real.

    `outcome` is OK or how it failed; `failed_at` is where. `taken_bytes` is what it took of the limit, filled;
    `resident_bytes` what is resident of it, as the memory model counts: files that it maps included.
    """

    length: int
    outcome: Outcome
    failed_at: AttemptKind | None = None
    detail: str = ""
    load_s: float = 0.0
    fill_s: float = 0.0
    taken_bytes: int = 0
    resident_bytes: int = 0

    @property
    def held(self) -> bool:
        """Whether it loaded and could be filled."""
        return self.outcome is Outcome.OK

    @property
    def seconds(self) -> float:
        """Load and fill together."""
        return self.load_s + self.fill_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What holds under one limit: the longest length of which it and all shorter ones do, in steps of 256.

    `budget_bytes` is what the limit lets a model take, as the memory model counts it.
    """

    limit_bytes: int
    length: int
    budget_bytes: int


class RealLoads:
    """Loads of one model on a limited engine. Each length is tried once per limit, and remembered."""

    def __init__(self, engine: LimitedEngine, backend: AsyncLMStudioBackend, model: LimitedModel) -> None:
        self._engine = engine
        self._backend = backend
        self._model = model
        self._tried: dict[int, RealLoad] = {}
        self._numbers = itertools.count()

    async def limit_at(self, length: int) -> int:
        """A limit under which `length` should be the longest: what it takes without one, and half a step more."""
        self._engine.set_limit(None)
        self._tried.clear()
        taken = [(await self.try_length(n, again=True)).taken_bytes for n in (length, length + ALIGNMENT_TOKENS)]
        self._tried.clear()
        return sum(taken) // 2

    async def truth(self, limit_bytes: int) -> Truth:
        """Every 256 tokens from the shortest on, until the first failure."""
        self._engine.set_limit(limit_bytes)
        self._tried.clear()
        longest: RealLoad | None = None
        for length in range(ALIGNMENT_TOKENS, self._model.shape.context_length + 1, ALIGNMENT_TOKENS):
            tried = await self.try_length(length)
            if not tried.held:
                break
            longest = tried
        assert longest is not None, f"not even {ALIGNMENT_TOKENS} tokens hold under {limit_bytes}"
        spare = limit_bytes - longest.taken_bytes
        return Truth(limit_bytes=limit_bytes, length=longest.length, budget_bytes=longest.resident_bytes + spare)

    async def try_length(self, length: int, *, again: bool = False) -> RealLoad:
        """Load and fill; from memory when the length was tried before, as the engine rounds it."""
        length = aligned_up(length)
        if again or length not in self._tried:
            self._tried[length] = await self._try(length)
        return self._tried[length]

    async def _try(self, length: int) -> RealLoad:
        instance_id = f"real-{next(self._numbers)}"
        started = time.perf_counter()
        loaded_at: float | None = None
        try:
            async with asyncio.timeout(2 * _STEP_S):
                load = replace(LOAD, context_length=length)
                await self._backend.load(self._model.model_key, load, instance_id=instance_id)
                loaded_at = time.perf_counter()
                await _fill(self._backend, instance_id, length)
        except LMStrixError as exc:
            failed_at: AttemptKind = "load" if loaded_at is None else "prefill"
            outcome = outcome_of(exc, failed_at)
            if not outcome.is_memory_evidence:
                raise
            now = time.perf_counter()
            # A failed allocation ends the prompt and leaves the model loaded; a kill takes the model too.
            with suppress(ModelNotFoundError):
                await self._backend.unload(instance_id)
            return RealLoad(
                length=length,
                outcome=outcome,
                failed_at=failed_at,
                detail=str(exc),
                load_s=(loaded_at or now) - started,
                fill_s=now - loaded_at if loaded_at else 0.0,
            )
        filled_at = time.perf_counter()
        found = RealLoad(
            length=length,
            outcome=Outcome.OK,
            load_s=loaded_at - started,
            fill_s=filled_at - loaded_at,
            taken_bytes=self._engine.taken_bytes(),
            resident_bytes=status_bytes(self._engine.model_process(), "VmRSS"),
        )
        await self._backend.unload(instance_id)
        return found


async def load_and_fill(backend: AsyncLMStudioBackend, model: LimitedModel, length: int, *, instance_id: str) -> None:
    """Load with that context, and read a prompt as long as it."""
    await backend.load(model.model_key, replace(LOAD, context_length=length), instance_id=instance_id)
    await _fill(backend, instance_id, length)


async def _fill(backend: AsyncLMStudioBackend, instance_id: str, length: int) -> None:
    request = GenerationRequest(
        raw_prompt=_WORD * (length - _ROOM_TOKENS), max_tokens=_ROOM_TOKENS // 2, temperature=0.0
    )
    async for _ in backend.stream(instance_id, request):
        pass


class SilentBackend(AsyncLMStudioBackend):
    """A connection to a server that says nothing about memory."""

    async def memory(self) -> None:
        return None

    async def survey(self) -> None:
        return None

    async def instance_memory(self, instance_id: str) -> None:
        return None

    async def memory_shortage(self, instance_id: str) -> None:
        return None


class TellingBackend(AsyncLMStudioBackend):
    """A connection to an engine that takes `budget_bytes` for what its models may take: it may be wrong.

    The engine itself is not under its models' limit, and so cannot know it.
    """

    def __init__(self, server: ServerInfo, budget_bytes: int) -> None:
        super().__init__(server)
        self._budget_bytes = budget_bytes

    async def memory(self) -> ServerMemory:
        taken = [await self.instance_memory(model.instance_id) for model in await self.list_loaded()]
        left = max(0, self._budget_bytes - sum(each.resident_bytes for each in taken if each is not None))
        return ServerMemory(
            available_bytes=left,
            limited_by="control group",
            machine_bytes=left,
            machine_limited_by="control group",
            boot_id="limited",
        )


def backend_of(engine: LimitedEngine, *, silent: bool = False, budget_bytes: int | None = None) -> AsyncLMStudioBackend:
    """A connection over the SDK. A `silent` one leaves out what the engine knows of memory; else it tells of a budget
    of `budget_bytes`, where that is given.
    """
    server = ServerInfo(address=engine.address, engine="embedded")
    if silent:
        return SilentBackend(server)
    return AsyncLMStudioBackend(server) if budget_bytes is None else TellingBackend(server, budget_bytes)
