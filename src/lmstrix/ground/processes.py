"""How processes are started and ended: every one that LMStrix starts begins here or in `child_processes`.

    terminal   on the user's terminal, as if typed there: an editor, the commands of the demo
    helper     unseen, for its answer or its readings: nvidia-smi, macmon, a model
    daemon     outlives us, and has no terminal: the engine in the background

Windows opens a console window for every console program whose parent has no console, and closing that window ends the
program; so what is unseen is given a console without a window. (DETACHED_PROCESS gives none at all, and its children
open windows.)

`python.exe` in a Windows venv is a launcher: it starts the interpreter as a second process and waits for it, so the
process we start has another id than the one that runs our code. `own_python` starts the interpreter itself, as
`multiprocessing` does. Other launchers remain (uv, the Store), so whoever needs the interpreter's id has it told by the
interpreter, and what ends a process ends its descendants too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind: TypeAlias = Literal["terminal", "helper", "daemon"]

_CREATE_NO_WINDOW: Final = 0x08000000
_CREATE_NEW_PROCESS_GROUP: Final = 0x00000200
"""Ctrl-C and Ctrl-Break of the terminal it was started from are not for a daemon."""
_WINDOWS_FLAGS: Final[dict[Kind, int]] = {
    "terminal": 0,
    "helper": _CREATE_NO_WINDOW,
    "daemon": _CREATE_NO_WINDOW | _CREATE_NEW_PROCESS_GROUP,
}
_LAUNCHER_VARIABLE: Final = "__PYVENV_LAUNCHER__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to start. `environ` None hands our own environment down."""

    words: tuple[str, ...]
    environ: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A program that has ended: its exit code, and what it wrote where that was asked for."""

    exit_code: int
    output: str = ""
    errors: str = ""


def own_python(*words: str, environ: Mapping[str, str] | None = None) -> Command:
    """The interpreter we run in, with our packages. Words begin with -P or -I: nothing of the working folder is run."""
    executable, environ = sys.executable, os.environ if environ is None else environ
    if sys.platform == "win32":
        # Undocumented, and what multiprocessing uses for the same reason.
        base_executable: str = sys._base_executable  # type: ignore[attr-defined]
        executable, environ = past_launcher(executable, base_executable, environ)
    return Command(words=(executable, *words), environ=environ)


def past_launcher(executable: str, base_executable: str, environ: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """The interpreter behind a venv's launcher, and the environment that makes it run as this venv's."""
    if os.path.normcase(executable) == os.path.normcase(base_executable):
        return executable, environ
    return base_executable, {**environ, _LAUNCHER_VARIABLE: executable}


def creation_flags(kind: Kind, platform: str = sys.platform) -> int:
    """What Windows is asked for when a process starts; nothing elsewhere."""
    return _WINDOWS_FLAGS[kind] if platform == "win32" else 0


def run_helper(command: Command, *, timeout_s: float | None = None) -> Ended:
    """Run it unseen to its end and return what it wrote. Raises OSError; TimeoutError when it takes too long."""
    try:
        done = subprocess.run(
            command.words,
            env=command.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            creationflags=creation_flags("helper"),
        )
    except subprocess.TimeoutExpired as exc:
        raise TimeoutError(f"{command.words[0]} takes more than {timeout_s:g} s") from exc
    return Ended(exit_code=done.returncode, output=_text(done.stdout), errors=_text(done.stderr))


def run_on_terminal(command: Command, *, reads: bool = True, captured: bool = False) -> Ended:
    """Run it on our terminal to its end. Raises OSError.

    It reads what is typed, also where our own stdin is something else, unless `reads` is off; its output is shown, or
    returned where it is `captured`.
    """
    with typed() if reads else nullcontext() as terminal:
        done = subprocess.run(
            command.words,
            env=command.environ,
            stdin=terminal or subprocess.DEVNULL,
            stdout=subprocess.PIPE if captured else None,
            check=False,
            creationflags=creation_flags("terminal"),
        )
    return Ended(exit_code=done.returncode, output=_text(done.stdout or b""))


@contextmanager
def typed() -> Iterator[IO[bytes] | None]:
    """What is typed on our terminal, whatever stdin is; None where there is no terminal."""
    device = Path("CONIN$" if sys.platform == "win32" else "/dev/tty")
    with ExitStack() as opened:
        try:
            terminal = opened.enter_context(device.open("rb", buffering=0))
        except OSError:
            terminal = None
        yield terminal


def spawn_helper(command: Command, *, read: bool = True) -> subprocess.Popen[bytes]:
    """Start a program that runs beside us, its output there to be `read`; `end_program` ends it. Raises OSError."""
    return subprocess.Popen(
        command.words,
        env=command.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if read else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        creationflags=creation_flags("helper"),
    )


def spawn_daemon(command: Command, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a program that outlives us and writes to a file. Raises OSError."""
    return subprocess.Popen(
        command.words,
        env=command.environ,
        # The terminal belongs to the parent; a background process that reads from it is stopped by the system.
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        creationflags=creation_flags("daemon"),
    )


def leave_alone(daemon: subprocess.Popen[bytes]) -> None:
    """Leave a daemon to itself, without the complaint that it still runs when we forget it."""
    daemon.returncode = 0


def end_program(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask a program to end, and kill one that has not done so after `grace_s`."""
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_tree(pid: int, grace_s: float) -> None:
    """Ask a process to end; after `grace_s`, kill it and what is left of its descendants."""
    import psutil

    try:
        process = psutil.Process(pid)
        # Asked now: what a launcher started is nobody's descendant once the launcher has ended.
        tree = [process, *process.children(recursive=True)]
        process.terminate()
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs(tree, grace_s)
    for each in alive:
        # psutil compares when it started: an id that was given to another process is left alone.
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, grace_s)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
