"""One child process that hosts one model: launched, watched, killed, its failures worded as LM Studio words them.

A load that llama.cpp refuses ends the child with its reason on stderr; an abort, a kill by the kernel or a truncated
file end it by a signal. Both become an `EngineFault` here, so that callers see one kind of failure. Killing is how a
model is unloaded: it frees everything, at once, whatever the child is doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.buffers import BufferLog
from lmstrix.engine.llama.client import LlamaClient
from lmstrix.engine.llama.last_look import LastLook
from lmstrix.engine.llama.process_memory import GONE, ProcessMemory, process_memory
from lmstrix.engine.llama.starting import send_options, start_child, told_pid
from lmstrix.engine.llama.templates import RunawayTemplateError, runaway_fault, within_limits
from lmstrix.engine.memory_guard import GUARD, Guard, until_over
from lmstrix.engine.records import LogLevel
from lmstrix.engine.requirements import import_remedy
from lmstrix.engine.values import unsupported
from lmstrix.ground.units import format_bytes

if TYPE_CHECKING:
    from lmstrix.engine.records import LoadSettings
    from lmstrix.ground.child_processes import ChildProcess
    from lmstrix.ground.types import MemoryShortage

_TAIL_LINES = 200
"""Of stderr, kept to explain a failure."""
_CAUSE_LINES = 3
_MAX_LINE_BYTES = 2**16
_MAX_HTTP_THREADS = 16
"""Each one costs the address space of its stack."""
_EXIT_GRACE_S = 10.0
"""How long a child that has reported its failure may take to end."""
_HEARING_GRACE_S = 2.0
"""How long its log of a load is waited for: one that ends in other words than we know must not cost each load more."""
_PROGRESS_POLL_S = 0.05
_PROGRESS_HEARTBEAT_S = 10.0
"""Clients give up after 60 s without a message."""
_PROGRESS_STEP = 0.01
_ALMOST_LOADED = 0.99
_LOG_LINE = re.compile(r"^\d[\d.]*\.\d+ (?P<level>[DIWE]) (?P<text>.*)$")
_SLOTS_READY = "load_model: initializing, n_slots"
_NOT_LOCKED = re.compile(r"failed to (mlock|VirtualLock)")
_LEVELS: dict[str, LogLevel] = {"D": "debug", "I": "info", "W": "warn", "E": "error"}
_TELLING = re.compile(r"fail|error|insufficient|unable|terminate|corrupt|invalid|what\(\)", re.IGNORECASE)

_CHILD_OVERHEAD_BYTES = 400 * 2**20
"""Address space of a child beside the model: code, arenas, stacks of a few threads (measured 350-380 MB when idle)."""
_THREAD_STACK_BYTES = 10 * 2**20
"""Address space of each further thread, touched or not."""

T = TypeVar("T")
OnProgress = Callable[[float], Awaitable[None]]
OnLine = Callable[[LogLevel, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """All a child needs to know. `expected_bytes` scales the progress; `budget_bytes` None sets no limit.

    `graph_bytes` is the address space that llama.cpp reserves for its graphs and touches a little of.

    The socket lies in `run_dir`, whose path has to leave room for its name (the system takes about 100 bytes) and which
    keeps others out. Over TCP, any program on the machine could connect, so the child asks for a key.
    `watcher` has a second process end the child with us, where the system does not.
    """

    model_file: str
    mmproj_file: str | None
    n_ctx: int
    settings: LoadSettings
    embedding: bool
    threads: int
    run_dir: Path
    expected_bytes: int
    budget_bytes: int | None = None
    graph_bytes: int = 0
    gpu_layers: int | None = None
    over_tcp: bool = sys.platform == "win32"
    guard: Guard = GUARD
    watcher: bool = sys.platform == "darwin"

    @property
    def process_limit_bytes(self) -> int | None:
        """What the process may take: the limit counts code and stacks too, which are not part of the model."""
        if self.budget_bytes is None:
            return None
        stacks = self.threads + _http_threads(self.settings)
        return self.budget_bytes + _CHILD_OVERHEAD_BYTES + self.graph_bytes + _THREAD_STACK_BYTES * stacks


class LlamaProcess:
    """A running child. Made by `launch`; ended by `stop`, or on its own, which `exited` tells.

    `buffers` are those it announced, `memory_when_loaded` what it took before its first request; `last_look` is taken
    while it is `at_work`. `shortage` is None unless the system ended it for lack of memory.
    """

    def __init__(self, child: ChildProcess, on_line: OnLine, *, expected_bytes: int) -> None:
        self._child = child
        self._pid: int | None = None
        self._watch: asyncio.Task[None] | None = None
        self._over_limit: str | None = None
        self._last_look: LastLook | None = None
        self._expected_bytes = expected_bytes
        self._slots_ready = asyncio.Event()
        self._not_locked = False
        self._tail: deque[tuple[LogLevel | None, str]] = deque(maxlen=_TAIL_LINES)
        self._stderr_reader = asyncio.create_task(self._read_stderr(on_line))
        self._client: LlamaClient | None = None
        self._socket: Path | None = None
        self.buffers = BufferLog()
        self.memory_when_loaded: ProcessMemory = GONE
        self.shortage: MemoryShortage | None = None
        self.exited: asyncio.Task[int] = asyncio.create_task(self._ended())

    @property
    def pid(self) -> int:
        """The child's process id, as it told us; until then that of what we started."""
        return self._pid or self._child.process.pid

    @property
    def last_look(self) -> LastLook:
        """Looks at the child while it works; there once it has told who it is."""
        assert self._last_look is not None
        return self._last_look

    @property
    def client(self) -> LlamaClient:
        """HTTP to the child; there once `launch` has returned."""
        assert self._client is not None
        return self._client

    @classmethod
    async def launch(cls, launch: Launch, *, on_progress: OnProgress | None = None, on_line: OnLine) -> LlamaProcess:
        """Start a child, wait until its model is loaded. Raises `EngineFault`; cancelled, it leaves nothing behind."""
        socket = None if launch.over_tcp else launch.run_dir / f"{secrets.token_hex(4)}.sock"
        api_key = None if socket else secrets.token_hex(24)
        child = await start_child(
            stderr=asyncio.subprocess.PIPE,
            memory_limit_bytes=launch.process_limit_bytes if launch.guard == "job" else None,
        )
        self = cls(child, on_line, expected_bytes=launch.expected_bytes)
        self._socket = socket
        try:
            await self._begin(launch)
            address = await self._load(_child_options(launch, socket, api_key), launch.expected_bytes, on_progress)
            locks = launch.settings.keep_in_memory
            await self._hear_all_of_load(_EXIT_GRACE_S if locks else _HEARING_GRACE_S)
            if locks:
                self._check_locked()
            self._client = LlamaClient(address, api_key=api_key)
        except BaseException:
            await self.stop()
            raise
        return self

    async def _begin(self, launch: Launch) -> None:
        """Learn who the child is, and watch its memory where nothing else limits it."""
        self._pid = await told_pid(self._child.stdout)
        if self._pid is None:
            raise await self.load_fault()
        self._last_look = LastLook(self._pid)
        if launch.guard == "watched" and launch.process_limit_bytes is not None:
            self._watch = asyncio.create_task(self._end_beyond(launch.process_limit_bytes))

    async def _end_beyond(self, limit_bytes: int) -> None:
        taken_bytes = await until_over(self.pid, limit_bytes)
        self._over_limit = f"insufficient memory: it took {format_bytes(taken_bytes)} of {format_bytes(limit_bytes)}"
        self._child.kill()

    async def _load(self, options: dict[str, Any], expected_bytes: int, on_progress: OnProgress | None) -> str:
        send_options(self._child, options)
        reporter = asyncio.create_task(_report_progress(self.pid, expected_bytes, on_progress)) if on_progress else None
        try:
            with self.last_look.at_work(loading=True):
                line = await self._report(self._child.stdout)
        except RunawayTemplateError as exc:
            raise runaway_fault(Path(options["model"]).name, exc, kind="load_failed") from exc
        finally:
            if reporter:
                await _end_task(reporter)
        # No line at all: the child died, which its exit code will tell.
        report = json.loads(line) if line else {}
        if "ready" not in report:
            raise await self.load_fault(report.get("failed"))
        self.memory_when_loaded = process_memory(self.pid)
        if on_progress:
            await on_progress(1.0)
        return str(report["ready"])

    async def _hear_all_of_load(self, grace_s: float) -> None:
        """Wait for what it logged of the load: that comes before its report, but by another pipe."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._slots_ready.wait()

    def _check_locked(self) -> None:
        """llama.cpp only warns where the system refuses, and goes on with weights that can be swapped out."""
        if self._not_locked:
            raise unsupported(
                "llm.load.llama.keepModelInMemory",
                "the system lets this process lock less than the weights (ulimit -l shows how much)",
            )

    async def _report(self, stdout: asyncio.StreamReader) -> bytes:
        """The child's report. Once the slots are ready, all that is left is to try the chat template."""
        reading = asyncio.create_task(stdout.readline())
        slots_ready = asyncio.create_task(self._slots_ready.wait())
        try:
            await asyncio.wait([reading, slots_ready], return_when=asyncio.FIRST_COMPLETED)
            return await self.within_template_limits(reading)
        finally:
            for task in (reading, slots_ready):
                task.cancel()

    async def within_template_limits(self, work: Awaitable[T]) -> T:
        """The result of `work`, which waits for a chat template in the child. Raises RunawayTemplateError."""
        return await within_limits(work, pid=self.pid, expected_bytes=self._expected_bytes)

    async def load_fault(self, reason: str | None = None) -> EngineFault:
        """The child is ending: collect what it said, and tell its refusal (`reason`) from its death (None)."""
        try:
            async with asyncio.timeout(_EXIT_GRACE_S):
                # Shielded, since others wait for the same end and must not be cancelled with this wait.
                status = exit_code(await asyncio.shield(self.exited))
        except TimeoutError:
            await self.stop()
            status = exit_code(self.exited.result())
        await self._stderr_reader
        if (cause := self._lack_of_memory()) is not None:
            return EngineFault("Failed to load model", kind="load_failed", cause=cause, shortage=self.shortage)
        if reason is None:
            return EngineFault(
                "Error loading model.",
                kind="load_failed",
                cause=f"(Exit code: {status}). Unknown error. Try a different model and/or config.",
                error_data={"exitCode": status},
            )
        # The remedy is an installation, not another model.
        if reason.startswith(("ModuleNotFoundError", "ImportError")):
            return _runtime_missing(reason)
        return EngineFault("Failed to load model", kind="load_failed", cause=self.error_text() or reason)

    async def crash_fault(self) -> EngineFault:
        """Say how the child ended, once a connection to it broke; one that nobody can reach any more is ended."""
        if self._socket is not None and not self.exited.done() and not self._socket.exists():
            await self._end()
            return EngineFault(
                "The model can no longer be reached.",
                kind="crashed",
                cause=f"Its socket was removed from {self._socket.parent}, as cleaners of temporary files do.",
                suggestion="Load it again.",
            )
        try:
            async with asyncio.timeout(_EXIT_GRACE_S):
                await asyncio.shield(self.exited)
        except TimeoutError:
            await self._end()
        status = exit_code(self.exited.result())
        if (cause := self._lack_of_memory()) is not None:
            return EngineFault("The model was ended.", kind="crashed", cause=cause)
        return EngineFault(
            f"The model has crashed without additional information. (Exit code: {status})",
            kind="crashed",
            error_data={"exitCode": status},
        )

    async def _ended(self) -> int:
        return_code = await self._child.process.wait()
        # Who ended before it told its id had taken nothing yet.
        self.shortage = None if self._last_look is None else self._last_look.shortage(return_code)
        return return_code

    def _lack_of_memory(self) -> str | None:
        """In what way memory ended it; None where something else did."""
        if self.shortage is not None:
            return f"insufficient memory: the system ended it when it held {format_bytes(self.shortage.held_bytes)}"
        return self._over_limit

    def error_text(self) -> str:
        """The first lines of stderr that say what went wrong: the cause; those after it are consequences."""
        errors = [text for level, text in self._tail if level == "error"]
        # C++ libraries and the system write lines without a level; of those only some say what failed.
        telling = errors or [text for level, text in self._tail if level is None and _TELLING.search(text)]
        return "\n".join(telling[:_CAUSE_LINES])

    async def stop(self) -> None:
        """Kill the child and free everything it used."""
        await self._end()
        if self._client is not None:
            await self._client.close()
        if self._watch is not None:
            await _end_task(self._watch)
        # The transport stays open otherwise, and asyncio complains when the loop ends.
        self._child.stdin.close()
        await self._stderr_reader
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)

    async def _end(self) -> None:
        self._child.kill()
        await asyncio.shield(self.exited)

    async def _read_stderr(self, on_line: OnLine) -> None:
        stderr = self._child.process.stderr
        assert stderr is not None
        rest = b""
        while chunk := await stderr.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._keep_line(line, on_line)
            # A child that never ends its line must not fill this process.
            if len(rest) > _MAX_LINE_BYTES:
                self._keep_line(rest, on_line)
                rest = b""
        if rest:
            self._keep_line(rest, on_line)

    def _keep_line(self, raw: bytes, on_line: OnLine) -> None:
        line = raw.decode(errors="replace").rstrip()
        match = _LOG_LINE.match(line)
        level, text = (_LEVELS[match["level"]], match["text"].strip()) if match else (None, line)
        if text:
            self._tail.append((level, text))
            self.buffers.read(text)
            if _SLOTS_READY in text:
                self._slots_ready.set()
            if _NOT_LOCKED.search(text):
                self._not_locked = True
            # A line without a level may be part of a request that llama.cpp repeats, such as its schema.
            on_line(level or "debug", text)


def exit_code(return_code: int) -> int:
    """A process's end as shells number it: 128 + the signal that killed it."""
    return return_code if return_code >= 0 else 128 - return_code


def _runtime_missing(reason: str) -> EngineFault:
    return EngineFault(
        "The llama.cpp runtime cannot be imported",
        kind="load_failed",
        cause=reason,
        suggestion=import_remedy(reason),
    )


def _http_threads(settings: LoadSettings) -> int:
    """How many threads answer requests in the child."""
    return min(2 + settings.parallel_slots, _MAX_HTTP_THREADS)


def _child_options(launch: Launch, socket: Path | None, api_key: str | None) -> dict[str, Any]:
    settings = launch.settings
    params: dict[str, Any] = {
        "n_ctx": launch.n_ctx,
        "n_parallel": settings.parallel_slots,
        "kv_unified": settings.unified_kv and settings.parallel_slots > 1,
        "n_batch": settings.eval_batch_size,
        "n_ubatch": min(settings.physical_batch_size, settings.eval_batch_size),
        "n_ctx_checkpoints": settings.context_checkpoints,
        "ctx_shift": settings.context_shift,
        "no_kv_offload": not settings.offload_kv_cache,
        "embedding": launch.embedding,
        "fit_params": False,  # it would shrink the context silently
        "cache_ram_mib": 0,  # or every distinct prompt stays in memory, up to 8 GiB
        "warmup": False,
        "ui": False,
        "n_threads_http": _http_threads(settings),
        "verbosity": 4,  # buffer sizes and the reasons of failures
        "hostnames": [str(socket)] if socket else ["127.0.0.1"],
        "port": 0,
    }
    optional = {
        "api_keys": [api_key] if api_key else None,
        "rope_freq_base": settings.rope_frequency_base,
        "rope_freq_scale": settings.rope_frequency_scale,
        "chat_template": settings.chat_template,
        "n_gpu_layers": launch.gpu_layers,
    }
    params.update({name: value for name, value in optional.items() if value is not None})
    return {
        "model": launch.model_file,
        "mmproj": launch.mmproj_file,
        "params": params,
        "enums": _enum_params(settings),
        "threads": launch.threads,
        "address_space_bytes": launch.process_limit_bytes if launch.guard == "address space" else None,
        "watcher": launch.watcher,
    }


def _enum_params(settings: LoadSettings) -> dict[str, tuple[str, str]]:
    flash = {None: "AUTO", True: "ENABLED", False: "DISABLED"}[settings.flash_attention]
    mode = {(True, False): "MMAP", (True, True): "MMAP_MLOCK", (False, True): "MLOCK", (False, False): "NONE"}
    enums = {
        "flash_attn_type": ("llama_flash_attn_type", f"LLAMA_FLASH_ATTN_TYPE_{flash}"),
        "load_mode": ("llama_load_mode", f"LLAMA_LOAD_MODE_{mode[settings.mmap, settings.keep_in_memory]}"),
    }
    for name, cache_type in (("cache_type_k", settings.k_cache_type), ("cache_type_v", settings.v_cache_type)):
        if cache_type is not None:
            enums[name] = ("ggml_type", f"GGML_TYPE_{cache_type.upper()}")
    return enums


async def _report_progress(pid: int, expected_bytes: int, on_progress: OnProgress) -> None:
    """Resident memory over expected memory, rising only, repeated while nothing moves so that clients keep waiting."""
    loop = asyncio.get_running_loop()
    told, told_at = 0.0, loop.time()
    await on_progress(told)
    while True:
        await asyncio.sleep(_PROGRESS_POLL_S)
        # llama.cpp reports no progress to us; how much of the file has become resident is close to it.
        ratio = min(_ALMOST_LOADED, process_memory(pid).resident_bytes / max(1, expected_bytes))
        if ratio >= told + _PROGRESS_STEP or loop.time() - told_at >= _PROGRESS_HEARTBEAT_S:
            told, told_at = max(told, ratio), loop.time()
            await on_progress(told)


async def _end_task(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
