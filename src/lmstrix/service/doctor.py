"""Doctor: what works on this machine and what to do about what does not. Every check stands alone; none raises."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.health import Check, DoctorReport
from lmstrix.ground.errors import BackendUnavailableError, LMStrixError
from lmstrix.ground.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.service.facade import LMStrixService


def examine(service: LMStrixService) -> DoctorReport:
    """All checks, in the order a person would make them."""
    checks: list[Callable[[LMStrixService], Check]] = [
        _python,
        _home,
        _registry,
        _history,
        _lmstudio,
        _models,
        _server,
        _engine_extra,
        _memory,
    ]
    return DoctorReport(checks=tuple(_run(check, service) for check in checks))


def _run(check: Callable[[LMStrixService], Check], service: LMStrixService) -> Check:
    try:
        return check(service)
    except (LMStrixError, OSError) as exc:
        return Check(name=check.__name__.strip("_"), state="problem", found=" ".join(str(exc).split()))


def _python(service: LMStrixService) -> Check:
    del service
    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    try:
        here += f", lmstudio SDK {version('lmstudio')}"
    except PackageNotFoundError:
        return Check(name="python", state="problem", found=here, remedy="pip install lmstudio")
    return Check(name="python", state="ok", found=here)


def _home(service: LMStrixService) -> Check:
    home = service.paths.home
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    if os.access(existing, os.W_OK):
        return Check(name="home", state="ok", found=str(home))
    remedy = f"make {existing} writable, or set LMSTRIX_HOME to a folder that is"
    return Check(name="home", state="problem", found=f"{home} cannot be written", remedy=remedy)


def _registry(service: LMStrixService) -> Check:
    registry = service.store.load()
    tested = sum(1 for record in registry if record.tested_context_length)
    missing = sum(1 for record in registry if record.is_missing)
    if not len(registry):
        return Check(name="registry", state="note", found="no models yet", remedy="lmstrix scan")
    note = f", {missing} missing" if missing else ""
    return Check(name="registry", state="ok", found=f"{len(registry)} models, {tested} tested{note}")


def _history(service: LMStrixService) -> Check:
    file = service.paths.history_file
    if not file.exists():
        return Check(name="history", state="note", found="no lmstrix.db yet; the first test makes it")
    from lmstrix.core.history import History

    with History(file) as history:
        unfinished = len(history.journal.unfinished())
    if unfinished:
        found = f"{unfinished} load(s) ended without an outcome: the machine or LMStrix went down there"
        return Check(name="history", state="note", found=found, remedy="test the model again; that size is avoided")
    return Check(name="history", state="ok", found=f"{file} ({format_bytes(file.stat().st_size)})")


def _lmstudio(service: LMStrixService) -> Check:
    if service.paths.lmstudio_home is not None:
        return Check(name="lm studio", state="ok", found=f"home {service.paths.lmstudio_home}")
    if os.environ.get("LMSTRIX_HOME"):
        return Check(name="lm studio", state="note", found="not looked for, since LMSTRIX_HOME is set")
    return Check(
        name="lm studio",
        state="note",
        found="not installed here",
        remedy="lmstrix engine start serves models without it",
    )


def _models(service: LMStrixService) -> Check:
    directory = Path(service.settings.models_dir or service.paths.models_dir)
    if not directory.is_dir():
        remedy = "download a model in LM Studio, or name a folder with --models-dir or LMSTRIX_MODELS_DIR"
        return Check(name="models", state="note", found=f"{directory} does not exist", remedy=remedy)
    count = sum(1 for _ in directory.rglob("*.gguf"))
    return Check(name="models", state="ok", found=f"{directory} ({count} GGUF files)")


def _server(service: LMStrixService) -> Check:
    from lmstrix.service.connection import connect_running

    try:
        connection = connect_running(service.paths, service.settings)
    except BackendUnavailableError as exc:
        remedy = "start LM Studio and its server (lms server start), or lmstrix engine start"
        found = " ".join(str(exc).split()).partition("; ")[0]
        return Check(name="server", state="note", found=found, remedy=remedy)
    try:
        loaded = connection.backend.list_loaded()
        return Check(name="server", state="ok", found=f"{connection.name}, {len(loaded)} model(s) loaded")
    finally:
        connection.close()


def _engine_extra(service: LMStrixService) -> Check:
    del service
    import subprocess

    try:
        found = f"xllamacpp {version('xllamacpp')}, aiohttp {version('aiohttp')}"
    except PackageNotFoundError as exc:
        remedy = 'pip install "lmstrix[engine]"'
        return Check(name="embedded engine", state="note", found=f"{exc.name} is not installed", remedy=remedy)
    probe = subprocess.run([sys.executable, "-c", "import xllamacpp"], capture_output=True, text=True, check=False)
    if probe.returncode == 0:
        return Check(name="embedded engine", state="ok", found=found)
    last = (probe.stderr.strip().splitlines() or ["the import failed"])[-1]
    remedy = "install the package libgomp1" if "libgomp" in last else 'pip install --force-reinstall "lmstrix[engine]"'
    return Check(name="embedded engine", state="problem", found=last, remedy=remedy)


def _memory(service: LMStrixService) -> Check:
    del service
    from lmstrix.core.memory.host import read_host_memory

    memory = read_host_memory()
    found = f"{format_bytes(memory.available_bytes)} free of {format_bytes(memory.total_bytes)}"
    return Check(name="memory", state="ok", found=found)
