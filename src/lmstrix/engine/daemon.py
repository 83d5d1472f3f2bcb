"""The engine as a process of its own: in the foreground, or in the background with a state file to find it again.

A running engine holds a file lock for as long as it lives, so of two started at once one wins and the other says so;
the system drops the lock however the process ends. `engine.json` says where it listens. Its process id counts only
together with the time that process started: an id that was given to another program since is not our engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmstrix.engine.options import EngineOptions, host_and_port
from lmstrix.engine.requirements import check_requirements
from lmstrix.ground.errors import EngineError
from lmstrix.ground.files import PRIVATE, make_private_file, make_private_folder, write_whole
from lmstrix.ground.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.engine.records import LogEvent

STATE_FILE: Final = "engine.json"
TOKEN_VARIABLE: Final = "LMSTRIX_ENGINE_TOKEN"  # noqa: S105 - the name of a variable
"""Carries the API token to the background process, where other users cannot read it as they can arguments."""
_LOCK_FILE: Final = "engine.lock"
_LOG_FILE: Final = "engine.log"
_MAX_LOG_BYTES: Final = 4 * 2**20
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.05
_CLOCK_SLACK_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """Whether a background or foreground engine runs, and where; what is not known of a stopped one is None."""

    running: bool
    log_file: Path
    host: str | None = None
    port: int | None = None
    pid: int | None = None
    started_at: datetime | None = None
    models_dir: Path | None = None
    version: str | None = None

    @property
    def address(self) -> str | None:
        """host:port, as clients want it."""
        if self.host is None or self.port is None:
            return None
        return host_and_port(self.host, self.port)


def engine_log_path(home: Path) -> Path:
    """Where a background engine writes its log."""
    return home / "logs" / _LOG_FILE


def engine_status(home: Path) -> EngineStatus:
    """The engine whose state file is in `home`."""
    state = _read_state(home)
    log_file = engine_log_path(home)
    # A file alone proves nothing: an engine that was killed leaves it behind.
    if state is None or not _is_alive(state):
        return EngineStatus(running=False, log_file=log_file)
    return EngineStatus(
        running=True,
        log_file=log_file,
        host=state["host"],
        port=state["port"],
        pid=state["pid"],
        started_at=datetime.fromtimestamp(state["process_started"], UTC),
        models_dir=Path(state["models_dir"]),
        version=state.get("version"),
    )


def start_engine(home: Path, options: EngineOptions) -> EngineStatus:
    """Start an engine in the background, and return when it answers. Raises EngineError when it does not."""
    check_requirements()
    options.check()
    _refuse_second(home)
    log_file = engine_log_path(home)
    make_private_folder(log_file.parent)
    # Only between two engines: renaming the log of a running one would leave it writing to the old file.
    if log_file.exists() and log_file.stat().st_size > _MAX_LOG_BYTES:
        log_file.replace(log_file.with_suffix(".log.1"))
    make_private_file(log_file)
    with log_file.open("ab") as log:
        # The log holds earlier runs as well; only what this one writes may be reported as its failure.
        log_start = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lmstrix.engine", "run", "--home", str(home), *_arguments(options)],
            # The terminal belongs to the parent; a background process that reads from it is stopped by the system.
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(options),
            **_DETACHED,
        )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EngineError(_last_error(log_file, log_start) or f"the engine ended at once; see {log_file}")
        status = engine_status(home)
        # The state file may be that of another engine started at the same time: the process id tells them apart.
        if status.running and status.pid == process.pid and _answers(status):
            _let_go(process)
            return status
        time.sleep(_POLL_S)
    process.terminate()
    process.wait()
    raise EngineError(f"the engine did not answer within {_START_TIMEOUT_S:.0f} s; see {log_file}")


def stop_engine(home: Path) -> EngineStatus:
    """End the engine and its models, and return when it is gone; one that does not run is no error."""
    status = engine_status(home)
    if status.running and status.pid is not None:
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(status.pid)
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except psutil.TimeoutExpired:
                process.kill()  # its models end with it: they read the end of their input
                process.wait(_STOP_TIMEOUT_S)
    return EngineStatus(running=False, log_file=status.log_file)


def run_engine(
    home: Path,
    options: EngineOptions,
    *,
    on_ready: Callable[[EngineStatus], None] = lambda _: None,
    on_log: Callable[[LogEvent], None] | None = None,
) -> None:
    """Run an engine here until SIGTERM or SIGINT. Raises EngineError when it cannot start."""
    import asyncio  # here, as asking for the status needs no loop

    from filelock import FileLock, Timeout

    check_requirements()
    options.check()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(home / _LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        _refuse_second(home)
        raise EngineError(f"another engine is starting in {home}: wait for it, or use another LMSTRIX_HOME") from None
    try:
        asyncio.run(_serve(home, options, on_ready, on_log or log_to_stderr))
    finally:
        lock.release()


def log_to_stderr(event: LogEvent) -> None:
    """Write the lines that matter to an operator; what people ask models is private and stays out of the log."""
    if event.type == "server.log" or (event.type == "runtime.log" and event.level in ("warn", "error")):
        stamp = datetime.fromtimestamp(event.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        source = f"{event.identifier}: " if event.identifier else ""
        sys.stderr.write(f"{stamp}Z {event.level:<5} {source}{event.text}\n")
        sys.stderr.flush()


def engine_log_lines(home: Path, *, lines: int = 50, follow: bool = False) -> Iterator[str]:
    """The last lines of the log, each with its newline; with `follow`, then every new one, without end."""
    log_file = engine_log_path(home)
    if not log_file.exists():
        if not follow:
            # Following may begin before the engine does; without following there is nothing to show.
            raise EngineError(f"there is no log yet at {log_file}: lmstrix engine start writes one")
        make_private_folder(log_file.parent)
        make_private_file(log_file)
    with log_file.open(encoding="utf-8", errors="replace") as log:
        yield from log.readlines()[-lines:] if lines > 0 else []
        if not follow:
            return
        log.seek(0, os.SEEK_END)
        while True:
            line = log.readline()
            if line:
                yield line
            else:
                time.sleep(_POLL_S * 2)


async def _serve(
    home: Path,
    options: EngineOptions,
    on_ready: Callable[[EngineStatus], None],
    on_log: Callable[[LogEvent], None],
) -> None:
    import asyncio

    from lmstrix.engine.server import EngineServer

    stopped = asyncio.Event()
    _on_stop_signals(stopped.set)
    server = EngineServer(options, on_log=on_log, shut_down=stopped.set, daemon=True)
    await server.start()
    try:
        _write_state(home, server.host, server.port, options.models_dir)
        on_ready(engine_status(home))
        await stopped.wait()
    finally:
        # First of all, so that nobody is sent to an engine that is closing its models.
        (home / STATE_FILE).unlink(missing_ok=True)
        await server.close()


def _on_stop_signals(stop: Callable[[], None]) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        # Windows has no SIGHUP.
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows has no such thing
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _refuse_second(home: Path) -> None:
    status = engine_status(home)
    if status.running:
        raise EngineError(
            f"an engine runs already at {status.address} (pid {status.pid}): use it, or lmstrix engine stop"
        )


def _arguments(options: EngineOptions) -> list[str]:
    words = ["--models-dir", str(options.models_dir), "--host", options.host, "--port", str(options.port)]
    words += ["--default-context", str(options.default_context_length)]
    if options.memory_limit_bytes is not None:
        words += ["--memory-limit", str(options.memory_limit_bytes)]
    words += ["--jit-ttl", str(options.jit_ttl_s or 0)]
    return words + (["--cors"] if options.cors else [])


def _environment(options: EngineOptions) -> dict[str, str]:
    # A token of the caller's own environment must not guard an engine that was asked to be open.
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    return environment | ({TOKEN_VARIABLE: options.api_token} if options.api_token else {})


_DETACHED: Final[dict[str, Any]] = (
    {"creationflags": 0x00000008 | 0x00000200}  # DETACHED_PROCESS, CREATE_NEW_PROCESS_GROUP
    if sys.platform == "win32"
    else {"start_new_session": True}
)


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Leave the process to itself, without the complaint that it still runs when we forget it."""
    process.returncode = 0


def _last_error(log_file: Path, start: int) -> str:
    """The last failure it reported, without the word before it, else the last line. Two may write to one log."""
    with log_file.open("rb") as log:
        log.seek(start)
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
    # Warnings of llama.cpp and others surround it; what we report ourselves begins with this word.
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]


def _answers(status: EngineStatus) -> bool:
    from http.client import HTTPConnection, HTTPException

    assert status.host is not None
    connection = HTTPConnection(status.host, status.port, timeout=1)
    try:
        connection.request("GET", "/lmstudio-greeting")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _write_state(home: Path, host: str, port: int, models_dir: Path) -> None:
    import psutil

    state = {
        "host": host,
        "port": port,
        "pid": os.getpid(),
        # The process's own start, not the time of writing: it is what others compare to see whether we still run.
        "process_started": psutil.Process().create_time(),
        "models_dir": str(models_dir.absolute()),
        "version": __version__,
    }
    # A reader must see the old file or the new one, never half of it.
    write_whole(home / STATE_FILE, json.dumps(state, indent=2) + "\n", mode=PRIVATE, durable=False)


def _read_state(home: Path) -> dict[str, Any] | None:
    """The state file, or None where there is none that makes sense."""
    try:
        state = json.loads((home / STATE_FILE).read_text(encoding="utf-8"))
        wanted: dict[str, type | tuple[type, ...]] = {
            "host": str,
            "port": int,
            "pid": int,
            "process_started": (int, float),
            "models_dir": str,
        }
        return state if all(isinstance(state[name], kind) for name, kind in wanted.items()) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _is_alive(state: dict[str, Any]) -> bool:
    import psutil

    try:
        process = psutil.Process(state["pid"])
        started = process.create_time()
        return abs(started - state["process_started"]) < _CLOCK_SLACK_S and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False
