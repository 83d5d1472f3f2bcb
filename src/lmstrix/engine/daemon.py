"""The engine as a process of its own: in the foreground, or in the background; its state file tells where it is.

A running engine holds a file lock for as long as it lives, so of two started at once one wins and the other says so;
the system drops the lock however the process ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from lmstrix.engine.requirements import check_requirements
from lmstrix.engine.run_folder import RunFolder
from lmstrix.engine.state_file import (
    EngineStatus,
    FoundEngine,
    engine_log_path,
    engine_status,
    found_engine,
    read_state,
    write_state,
)
from lmstrix.engine.stopping import RUN_KEY_VARIABLE, ask_to_stop, new_run_key
from lmstrix.engine.token_source import TOKEN_VARIABLE
from lmstrix.ground import log
from lmstrix.ground.errors import EngineError, LMStrixError
from lmstrix.ground.files import PRIVATE, make_private_folder
from lmstrix.ground.headroom import NO_HEADROOM
from lmstrix.ground.held_files import remove_file
from lmstrix.ground.log_text import failure_text
from lmstrix.ground.paths import REGISTRY_FILE, engine_files, own_folder
from lmstrix.ground.processes import end_tree, leave_alone, own_python, spawn_daemon

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine.options import EngineOptions
    from lmstrix.engine.records import LogEvent

_LOCK_FILE: Final = "engine.lock"
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.05
_FRESH_S: Final = 1.0
"""A folder of sockets this young is that of another engine, which is about to lock it."""


def start_engine(home: Path, options: EngineOptions, *, debug: bool = False) -> EngineStatus:
    """Start an engine in the background, and return when it answers. Raises EngineError when it does not.

    With `debug` its log has all details.
    """
    check_requirements()
    options.check()
    _refuse_second(home)
    log_file = engine_log_path(home)
    make_private_folder(log_file.parent)
    words = ["run", "--home", str(home), "--log-file", str(log_file), *(["--debug"] if debug else [])]
    # What its log does not hold, such as a crash of Python itself, goes to the same file.
    with open(log_file, "ab", opener=_private) as output:
        # The log holds earlier runs as well; only what this one writes may be reported as its failure.
        log_start = output.tell()
        run_key = new_run_key()
        environ = _environment(options, run_key)
        engine = own_python("-P", "-m", "lmstrix.engine", *words, *_arguments(options), environ=environ)
        process = spawn_daemon(engine, output)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EngineError(_last_error(log_file, log_start) or f"the engine ended at once; see {log_file}")
        found = found_engine(home)
        # The state file may be that of another engine started at the same time. The process id does not tell them
        # apart: what we started may be a launcher, which started the engine.
        if found is not None and found.state.get("run_key") == run_key and _answers(found.status):
            leave_alone(process)
            return found.status
        time.sleep(_POLL_S)
    end_tree(process.pid, _STOP_TIMEOUT_S)
    raise EngineError(f"the engine did not answer within {_START_TIMEOUT_S:.0f} s; see {log_file}")


def stop_engine(home: Path) -> EngineStatus:
    """End the engine and its models, and return when it is gone; one that does not run is no error."""
    found = found_engine(home)
    if found is not None:
        _stop(found)
    return EngineStatus(running=False, log_file=engine_log_path(home))


def _stop(found: FoundEngine) -> None:
    import psutil

    state = found.state
    try:
        process = psutil.Process(state["pid"])
        # An engine of an earlier version has no key.
        if ask_to_stop(state["host"], state["port"], state.get("run_key", "")):
            process.wait(_STOP_TIMEOUT_S)
            return
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        pass
    # It does not answer. On POSIX it is asked once more, by a signal.
    end_tree(state["pid"], _STOP_TIMEOUT_S)
    if read_state(found.file) == state:
        remove_file(found.file)
    RunFolder().remove_stale(young_s=_FRESH_S)


def run_engine(
    home: Path,
    options: EngineOptions,
    *,
    on_ready: Callable[[EngineStatus], None] = lambda _: None,
    log_file: Path | None = None,
    debug: bool = False,
) -> None:
    """Run an engine here until SIGTERM or SIGINT. Raises EngineError when it cannot start.

    Its log goes to `log_file`, else to standard error, with `debug` in all detail.
    """
    import asyncio  # here, as asking for the status needs no loop

    from filelock import FileLock, Timeout

    check_requirements()
    options.check()
    # Read by now; the processes of the models have no business with it.
    os.environ.pop(TOKEN_VARIABLE, None)
    run_key = os.environ.pop(RUN_KEY_VARIABLE, None) or new_run_key()
    own = own_folder(home)
    make_private_folder(own)
    lock = FileLock(own / _LOCK_FILE, timeout=0, mode=PRIVATE)
    try:
        lock.acquire()
    except Timeout:
        _refuse_second(home)
        raise EngineError(f"another engine is starting in {home}: wait for it, or use another LMSTRIX_HOME") from None
    try:
        _refuse_second(home)  # an engine of an earlier version holds another lock
        _begin_log(options, log_file, debug=debug)
        _tell_unclean_end(home)
        asyncio.run(_serve(home, options, on_ready, run_key))
    except LMStrixError as exc:
        # On the terminal the caller says it.
        if log_file is not None:
            log.error("the engine ends: {}", exc)
        raise
    except Exception as exc:
        log.error("the engine ends: {}", failure_text(exc))
        raise
    finally:
        log.close()
        lock.release()


def _begin_log(options: EngineOptions, log_file: Path | None, *, debug: bool) -> None:
    # A command line that runs an engine may have begun a log of its own, which would tell everything twice.
    log.close()
    log.keep_secret(options.api_token)
    level: Final = "debug" if debug else "info"
    if log_file is not None:
        log.to_file(log_file, level, threaded=True)
    else:
        log.to_stderr(level, threaded=True)
    # A crash in foreign code is told by nobody else.
    with contextlib.suppress(ValueError, OSError, AttributeError):
        faulthandler.enable()


def _tell_unclean_end(home: Path) -> None:
    state = read_state(engine_files(home)[0])
    # Nobody else can say it: whatever ended that engine gave it no time to.
    if state is not None:
        log.warn("the engine before this one (pid {}) ended without a word: killed, or crashed", state["pid"])


def write_event(event: LogEvent) -> None:
    """Log the lines that matter to an operator; what people ask models is private and stays out of the log."""
    text = f"{event.identifier}: {event.text}" if event.identifier else event.text
    if event.type == "server.log":
        log.write(event.level, text)
    elif event.type == "runtime.log" and event.level != "debug":
        # llama.cpp's own details are ours for debugging; of those, the most detailed hold whole requests.
        log.write("debug" if event.level == "info" else event.level, text)


async def _serve(home: Path, options: EngineOptions, on_ready: Callable[[EngineStatus], None], run_key: str) -> None:
    import asyncio

    from lmstrix.engine.server import EngineServer

    stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def stop(reason: str) -> None:
        # The first reason is the one; whoever asks again is impatient.
        if not stopped.done():
            stopped.set_result(reason)

    asyncio.get_running_loop().set_exception_handler(_log_loop_failure)
    _on_stop_signals(stop)
    server = EngineServer(
        options,
        registry_file=home / REGISTRY_FILE,
        on_log=write_event,
        shut_down=stop,
        daemon=True,
        run_key=run_key,
    )
    await server.start()
    try:
        write_state(home, server.host, server.port, options.models_dir, run_key)
        _tell_ready(on_ready, engine_status(home))
        log.info("the engine stops: {}", await stopped)
    finally:
        # First of all, so that nobody is sent to an engine that is closing its models.
        remove_file(engine_files(home)[0])
        await server.close()


def _tell_ready(on_ready: Callable[[EngineStatus], None], status: EngineStatus) -> None:
    """Say where it runs; a reader who has gone (`engine run | head -1`) is no reason to stop."""
    try:
        on_ready(status)
    except OSError as exc:
        log.warn("nobody could be told the address: {}", exc.strerror or "its reader is gone")
        # What is still in Python's buffer must not fail a second time, at the end.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _log_loop_failure(_loop: object, context: dict[str, Any]) -> None:
    failure = context.get("exception")
    told = failure_text(failure) if isinstance(failure, BaseException) else ""
    log.error("{}: {}", context.get("message", "a task failed"), told)


def _on_stop_signals(stop: Callable[[str], None]) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        # Windows has no SIGHUP, and SIGBREAK (Ctrl-Break) alone.
        if number is None:
            continue
        reason = f"it got {name}"
        try:
            loop.add_signal_handler(number, stop, reason)
        except NotImplementedError:  # Windows has no such thing
            signal.signal(number, lambda *_, reason=reason: loop.call_soon_threadsafe(stop, reason))


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
    if options.headroom != NO_HEADROOM:
        words += ["--headroom", options.headroom.word]
    words += ["--jit-ttl", str(options.jit_ttl_s or 0)]
    return words + (["--cors"] if options.cors else [])


def _environment(options: EngineOptions, run_key: str) -> dict[str, str]:
    # A token of the caller's own environment must not guard an engine that was asked to be open.
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    environment[RUN_KEY_VARIABLE] = run_key
    return environment | ({TOKEN_VARIABLE: options.api_token} if options.api_token else {})


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _last_error(log_file: Path, start: int) -> str:
    """The last failure it reported, without the word before it, else the last line. Two may write to one log."""
    with log_file.open("rb") as written:
        # A log that was begun anew meanwhile is shorter than it was.
        written.seek(start if written.seek(0, os.SEEK_END) >= start else 0)
        lines = written.read().decode("utf-8", "replace").strip().splitlines()
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
