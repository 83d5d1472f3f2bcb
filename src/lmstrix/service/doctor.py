"""Doctor: what works on this machine, and what to do about the rest. Every check is independent; none raises."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.health import Check, DoctorReport
from lmstrix.ground.errors import BackendUnavailableError, LMStrixError
from lmstrix.ground.text import one_line
from lmstrix.ground.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.ground.types import MemoryLimit
    from lmstrix.service.workspace import Workspace

_LIMITS: dict[MemoryLimit, str] = {
    "host": "what its machine has free",
    "control group": "the limit of its control group",
    "address space": "its limit of the address space",
    "memory limit": "its own --memory-limit",
    "graphics card": "what the graphics cards have free",
}


async def examine(workspace: Workspace) -> DoctorReport:
    """All checks, in the order a person would make them."""
    local = (_python, _home, _registry, _history, _lmstudio, _models)
    return DoctorReport(
        checks=(
            *(_checked(check, workspace) for check in local),
            await _server(workspace),
            await asyncio.to_thread(_checked, _engine_extra, workspace),
            _checked(_memory, workspace),
            *_limits(),
            *_cards(),
        )
    )


def _checked(check: Callable[[Workspace], Check], workspace: Workspace) -> Check:
    """A check, or what kept it from being made."""
    try:
        return check(workspace)
    except (LMStrixError, OSError) as exc:
        return _failed(check.__name__, exc)


def _failed(name: str, failure: Exception) -> Check:
    return Check(name=name.strip("_"), state="problem", found=one_line(failure))


def _python(_workspace: Workspace) -> Check:
    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    try:
        here += f", lmstudio SDK {version('lmstudio')}"
    except PackageNotFoundError:
        return Check(name="python", state="problem", found=here, remedy="pip install lmstudio")
    return Check(name="python", state="ok", found=here)


def _home(workspace: Workspace) -> Check:
    home = workspace.paths.home
    # A home that is not there yet is made in the nearest folder that is.
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    if os.access(existing, os.W_OK):
        return Check(name="home", state="ok", found=str(home))
    remedy = f"make {existing} writable, or set LMSTRIX_HOME to a folder that is"
    return Check(name="home", state="problem", found=f"{home} cannot be written", remedy=remedy)


def _registry(workspace: Workspace) -> Check:
    registry = workspace.store.load()
    tested = sum(1 for record in registry if record.tested_context_length)
    missing = sum(1 for record in registry if record.is_missing)
    if not len(registry):
        return Check(name="registry", state="note", found="no models yet", remedy="lmstrix scan")
    note = f", {missing} missing" if missing else ""
    return Check(name="registry", state="ok", found=f"{len(registry)} models, {tested} tested{note}")


def _history(workspace: Workspace) -> Check:
    file = workspace.paths.history_file
    if not file.exists():  # opening would make it: an examination leaves nothing behind
        return Check(name="history", state="note", found="no lmstrix.db yet; the first test makes it")
    from lmstrix.core.history import History

    with History(file) as history:
        unfinished = len(history.journal.unfinished())
    if unfinished:
        found = f"{unfinished} load(s) ended without an outcome: the machine or LMStrix went down there"
        return Check(name="history", state="note", found=found, remedy="test the model again")
    return Check(name="history", state="ok", found=f"{file} ({format_bytes(file.stat().st_size)})")


def _lmstudio(workspace: Workspace) -> Check:
    if workspace.paths.lmstudio_home is not None:
        return Check(name="lm studio", state="ok", found=f"home {workspace.paths.lmstudio_home}")
    if os.environ.get("LMSTRIX_HOME"):
        return Check(name="lm studio", state="note", found="not looked for, since LMSTRIX_HOME is set")
    return Check(
        name="lm studio",
        state="note",
        found="not installed here",
        remedy="lmstrix engine start serves models without it",
    )


def _models(workspace: Workspace) -> Check:
    directory = Path(workspace.settings.models_dir or workspace.paths.models_dir)
    if not directory.is_dir():
        remedy = "download a model in LM Studio, or name a folder with --models-dir or LMSTRIX_MODELS_DIR"
        return Check(name="models", state="note", found=f"{directory} does not exist", remedy=remedy)
    count = sum(1 for _ in directory.rglob("*.gguf"))
    return Check(name="models", state="ok", found=f"{directory} ({count} GGUF files)")


async def _server(workspace: Workspace) -> Check:
    from lmstrix.service.connection import connect_running

    try:
        connection = await connect_running(workspace.paths, workspace.settings)
    except BackendUnavailableError as exc:
        remedy = "start LM Studio and its server (lms server start), or lmstrix engine start"
        found = one_line(exc).partition("; ")[0]
        return Check(name="server", state="note", found=found, remedy=remedy)
    except (LMStrixError, OSError) as exc:
        return _failed("server", exc)
    try:
        async with workspace.deadline().step("asking the server what is loaded"):
            # A greeting needs no token and a listing does, so only this tells whether the server serves us.
            loaded = await connection.backend.list_loaded()
            told = await connection.backend.memory()
        found = f"{connection.name}, {len(loaded)} model(s) loaded"
        if told is not None:
            found += f"; one more may take {format_bytes(told.available_bytes)} ({_LIMITS[told.limited_by]})"
        return Check(name="server", state="ok", found=found)
    except LMStrixError as exc:
        return _failed("server", exc)
    finally:
        await connection.close()


def _engine_extra(_workspace: Workspace) -> Check:
    import subprocess

    try:
        found = f"xllamacpp {version('xllamacpp')}, aiohttp {version('aiohttp')}"
    except PackageNotFoundError as exc:
        remedy = 'pip install "lmstrix[engine]"'
        return Check(name="embedded engine", state="note", found=f"{exc.name} is not installed", remedy=remedy)
    # In another process: a native library that does not fit this machine may end the process that imports it.
    probe = subprocess.run([sys.executable, "-c", "import xllamacpp"], capture_output=True, text=True, check=False)
    if probe.returncode == 0:
        return Check(name="embedded engine", state="ok", found=found)
    last = (probe.stderr.strip().splitlines() or ["the import failed"])[-1]
    remedy = "install the package libgomp1" if "libgomp" in last else 'pip install --force-reinstall "lmstrix[engine]"'
    return Check(name="embedded engine", state="problem", found=last, remedy=remedy)


def _memory(_workspace: Workspace) -> Check:
    from lmstrix.core.memory.host import read_host_memory

    memory = read_host_memory(with_gpus=False)
    found = f"{format_bytes(memory.available_bytes)} free of {format_bytes(memory.total_bytes)}"
    if memory.working_set_bytes is not None:
        found += f", of which graphics may use {format_bytes(memory.working_set_bytes)}"
    if memory.limited_by == "control group":
        return Check(
            name="memory",
            state="note",
            found=f"{found}: the limit of this control group (container or system unit), not of the machine",
            remedy="an engine started here has no more either; one started elsewhere may",
        )
    return Check(name="memory", state="ok", found=found)


def _limits() -> list[Check]:
    """What limits memory here beside what is free."""
    from lmstrix.core.memory.host import address_space_limit

    limit = address_space_limit()
    if limit is None:
        return []
    found = f"limited to {format_bytes(limit)} for each process, each model of an engine started here included"
    return [Check(name="address space", state="note", found=found, remedy="ulimit -v unlimited")]


def _cards() -> list[Check]:
    """Each card, with its memory or with what it means that nobody tells it."""
    from lmstrix.core.memory.cards import read_cards

    cards = read_cards()
    checks = [
        Check(
            name="card",
            state="ok",
            found=f"{card.name}: {format_bytes(card.free_bytes)} free of {format_bytes(card.total_bytes)}",
        )
        for card in cards.readable
    ]
    what = "its memory cannot be read: predictions count main memory only, and a test starts without a budget"
    checks += [Check(name="card", state="note", found=f"{name}: {what}") for name in cards.unreadable]
    return checks
