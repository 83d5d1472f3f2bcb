"""Doctor: what works on this machine, and what to do about the rest. Every check is independent; none raises."""

from __future__ import annotations

import asyncio
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.health import Check, DoctorReport
from lmstrix.ground.errors import BackendUnavailableError, LMStrixError
from lmstrix.ground.text import one_line
from lmstrix.ground.units import counted, format_bytes
from lmstrix.ground.wording import parameter
from lmstrix.service.budget_checks import budget_checks
from lmstrix.service.mlx_runtime_check import mlx_runtime_checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.memory.cards import GpuMemory
    from lmstrix.ground.errors import SettingsError
    from lmstrix.ground.types import MemoryLimit
    from lmstrix.service.workspace import Workspace

_LIMITS: dict[MemoryLimit, str] = {
    "host": "what its machine has free",
    "control group": "the limit of its control group",
    "address space": "its limit of the address space",
    "graphics card": "what the graphics cards have free",
}


async def examine(workspace: Workspace, invalid: SettingsError | None = None) -> DoctorReport:
    """All checks, in the order a person would make them. `invalid` says why the settings are the default ones."""
    local = (_python, _packages, _home, _registry, _history, _lmstudio, _models)
    return DoctorReport(
        checks=(
            *([_failed("settings", invalid)] if invalid else []),
            *(_checked(check, workspace) for check in local),
            await _server(workspace),
            *await mlx_runtime_checks(workspace),
            await asyncio.to_thread(_checked, _engine_extra, workspace),
            _checked(_memory, workspace),
            *_listed(_limits),
            *_listed(_cards),
            *await budget_checks(workspace),
        )
    )


def _checked(check: Callable[[Workspace], Check], workspace: Workspace) -> Check:
    """A check, or what kept it from being made."""
    try:
        return check(workspace)
    except (LMStrixError, OSError, ImportError) as exc:
        return _failed(check.__name__, exc)


def _listed(checks: Callable[[], list[Check]]) -> list[Check]:
    """Checks of which there may be none, and none where a package that they need is missing: others tell of it."""
    try:
        return checks()
    except ImportError:
        return []


def _failed(name: str, failure: Exception) -> Check:
    if isinstance(failure, ModuleNotFoundError):
        found = f"not examined: the package {failure.name} is missing"
        return Check(name=name.strip("_"), state="problem", found=found, remedy="pip install lmstrix")
    return Check(name=name.strip("_"), state="problem", found=one_line(failure))


def _python(_workspace: Workspace) -> Check:
    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    try:
        here += f", lmstudio SDK {version('lmstudio')}"
    except PackageNotFoundError:
        return Check(name="python", state="problem", found=here, remedy="pip install lmstudio")
    return Check(name="python", state="ok", found=here)


def _packages(_workspace: Workspace) -> Check:
    """Whether everything that LMStrix declares to need is there."""
    try:
        needed = [re.split(r"[^\w.-]", line)[0] for line in requires("lmstrix") or () if "extra ==" not in line]
    except PackageNotFoundError:
        return Check(name="packages", state="note", found="LMStrix runs from its source, not as an installed package")
    missing = [name for name in needed if not _is_installed(name)]
    if missing:
        found = f"missing: {', '.join(missing)}"
        return Check(name="packages", state="problem", found=found, remedy="pip install lmstrix")
    return Check(name="packages", state="ok", found=f"all {len(needed)} that LMStrix needs")


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _home(workspace: Workspace) -> Check:
    home, own = workspace.paths.home, workspace.paths.own
    for needed in (home, own):
        # What is not there yet is made in the nearest folder that is.
        existing = next(folder for folder in (needed, *needed.parents) if folder.exists())
        if not os.access(existing, os.W_OK):
            remedy = f"make {existing} writable, or set LMSTRIX_HOME to a folder that is"
            return Check(name="home", state="problem", found=f"{needed} cannot be written", remedy=remedy)
    return Check(name="home", state="ok", found=f"{home}; settings, conversations and reports in {own}")


def _registry(workspace: Workspace) -> Check:
    registry = workspace.store.load()
    tested = sum(1 for record in registry if record.tested_context_length)
    missing = sum(1 for record in registry if record.is_missing)
    if not len(registry):
        return Check(name="registry", state="note", found="no models yet", remedy="lmstrix scan")
    note = f", {missing} missing" if missing else ""
    return Check(name="registry", state="ok", found=f"{counted(len(registry), 'model')}, {tested} tested{note}")


def _history(workspace: Workspace) -> Check:
    file = workspace.paths.history_file
    if not file.exists():  # opening would make it: an examination leaves nothing behind
        return Check(name="history", state="note", found="no lmstrix.db yet; the first test makes it")
    from lmstrix.core.history import History
    from lmstrix.core.history.database import damage

    damaged = damage(file)
    if damaged is not None:
        remedy = f"move {file} away to begin a new one; the next command that needs it does so itself"
        return Check(name="history", state="problem", found=f"{file} is damaged: {damaged}", remedy=remedy)
    with History(file) as history:
        unfinished = len(history.journal.unfinished())
    if unfinished:
        found = f"{counted(unfinished, 'load')} ended without an outcome: the machine or LMStrix went down there"
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
        remedy = f"download a model in LM Studio, or name a folder with {parameter('models_dir')} or LMSTRIX_MODELS_DIR"
        return Check(name="models", state="note", found=f"{directory} does not exist", remedy=remedy)
    found = counted(sum(1 for _ in directory.rglob("*.gguf")), "GGUF file")
    mlx = sum(1 for config in directory.rglob("config.json") if any(config.parent.glob("*.safetensors")))
    if mlx:
        found += f", {counted(mlx, 'MLX folder')}"
    return Check(name="models", state="ok", found=f"{directory} ({found})")


async def _server(workspace: Workspace) -> Check:
    try:
        from lmstrix.service.connection import connect_running

        connection = await connect_running(workspace.paths, workspace.settings)
    except BackendUnavailableError as exc:
        remedy = "start LM Studio and its server (lms server start), or lmstrix engine start"
        found = one_line(exc).partition("; ")[0]
        return Check(name="server", state="note", found=found, remedy=remedy)
    except (LMStrixError, OSError, ImportError) as exc:
        return _failed("server", exc)
    try:
        async with workspace.deadline().step("asking the server what is loaded"):
            # A greeting needs no token and a listing does, so only this tells whether the server serves us.
            loaded = await connection.backend.list_loaded()
            told = await connection.backend.memory()
        found = f"{connection.name}, {counted(len(loaded), 'model')} loaded"
        if told is not None:
            limit = _LIMITS.get(told.limited_by, f"its own {parameter('memory_limit')}")
            found += f"; one more may take {format_bytes(told.available_bytes)} ({limit})"
        return Check(name="server", state="ok", found=found)
    except LMStrixError as exc:
        return _failed("server", exc)
    finally:
        await connection.close()


def _engine_extra(_workspace: Workspace) -> Check:
    from lmstrix.ground.processes import own_python, run_helper

    try:
        found = f"xllamacpp {version('xllamacpp')}, aiohttp {version('aiohttp')}"
    except PackageNotFoundError as exc:
        remedy = 'pip install "lmstrix[engine]"'
        return Check(name="embedded engine", state="note", found=f"{exc.name} is not installed", remedy=remedy)
    # In another process: a native library that does not fit this machine may end the process that imports it.
    probe = run_helper(own_python("-P", "-c", "import xllamacpp"))
    if probe.exit_code == 0:
        return Check(name="embedded engine", state="ok", found=found)
    last = (probe.errors.strip().splitlines() or ["the import failed"])[-1]
    remedy = "install the package libgomp1" if "libgomp" in last else 'pip install --force-reinstall "lmstrix[engine]"'
    return Check(name="embedded engine", state="problem", found=last, remedy=remedy)


def _memory(_workspace: Workspace) -> Check:
    from lmstrix.core.memory.host import read_host_memory

    memory = read_host_memory(with_gpus=False)
    found = f"{format_bytes(memory.available_bytes)} free of {format_bytes(memory.total_bytes)}"
    if memory.working_set_bytes is not None:
        found += f", of which graphics may use {format_bytes(memory.working_set_bytes)} ({memory.working_set_source})"
    if memory.limited_by == "control group":
        return Check(
            name="memory",
            state="note",
            found=f"{found}: the limit of this control group (container or system unit), not of the machine",
            remedy="an engine started here has no more either; one started elsewhere may",
        )
    if memory.commit_left_bytes == memory.available_bytes:
        found += ", all that Windows still promises to programs (a larger page file makes it more)"
    found += f"; read by {memory.source}"
    if memory.swap is not None and memory.swap.used_bytes:
        found += f"; {format_bytes(memory.swap.used_bytes)} in use in swap, which is not counted"
    if memory.unseen:
        found += f"; {' and '.join(memory.unseen)} did not answer"
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
            found=f"{card.name}: {format_bytes(card.free_bytes)} free of {format_bytes(card.total_bytes)}"
            + _reading(card),
        )
        for card in cards.readable
    ]
    what = "its memory cannot be read: predictions count main memory only, and a test starts without a budget"
    checks += [Check(name="card", state="note", found=f"{name}: {what}") for name in cards.unreadable]
    lost = "did not answer, so cards that only it knows of are not seen"
    checks += [Check(name="card", state="note", found=f"{source} {lost}") for source in cards.unseen]
    return checks


def _reading(card: GpuMemory) -> str:
    """Who told of a card's memory, and how much main memory stands in for it."""
    told = f"; read by {card.source}" if card.source else ""
    if card.shared_used_bytes:
        told += f"; {format_bytes(card.shared_used_bytes)} of main memory in use beside it"
    return told
