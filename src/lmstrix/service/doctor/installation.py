"""Doctor on what is installed: Python, the packages LMStrix needs, the embedded engine's libraries."""

from __future__ import annotations

import platform
import re
import sysconfig
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.health import Check

if TYPE_CHECKING:
    from lmstrix.service.workspace import Workspace

_ARM_FOUND = "minijinja and xllamacpp are not published for Windows on ARM"
_ARM_REMEDY = (
    "install the Python for x64 processors, which Windows on ARM runs too "
    "(https://www.python.org/downloads/windows/: installer, 64-bit), and LMStrix into that"
)
_HOMEBREW = "/opt/homebrew/bin/python3"


def python(_workspace: Workspace) -> Check:
    from lmstrix.core.memory.mac_memory import is_translated

    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    try:
        here += f", lmstudio SDK {version('lmstudio')}"
    except PackageNotFoundError:
        return Check(name="python", state="problem", found=here, remedy="pip install lmstudio")
    if is_translated():
        found = f"{here}: built for Intel's processors and translated by Rosetta, so that models run without Metal"
        return Check(name="python", state="note", found=found, remedy=_apple_remedy())
    if _is_windows_on_arm():
        return Check(name="python", state="note", found=f"{here}: {_ARM_FOUND}", remedy=_ARM_REMEDY)
    return Check(name="python", state="ok", found=here)


def packages(_workspace: Workspace) -> Check:
    """Whether everything that LMStrix declares to need is there."""
    try:
        lines = [line for line in requires("lmstrix") or () if "extra ==" not in line]
    except PackageNotFoundError:
        return Check(name="packages", state="note", found="LMStrix runs from its source, not as an installed package")
    # Only what can be done without has a marker, by which it is left out where nobody publishes it.
    needed = [_package_of(line) for line in lines if ";" not in line]
    missing = [name for name in needed if not _is_installed(name)]
    if missing:
        remedy = _ARM_REMEDY if _is_windows_on_arm() else "pip install lmstrix"
        return Check(name="packages", state="problem", found=f"missing: {', '.join(missing)}", remedy=remedy)
    without = [name for line in lines if ";" in line and not _is_installed(name := _package_of(line))]
    found = f"all {len(needed)} that LMStrix needs" + (f"; it does without {', '.join(without)}" if without else "")
    return Check(name="packages", state="ok", found=found)


def _package_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0]


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def engine(_workspace: Workspace) -> Check:
    from lmstrix.engine.requirements import import_remedy, missing_libraries
    from lmstrix.ground.processes import own_python, run_helper

    try:
        found = f"xllamacpp {version('xllamacpp')}, aiohttp {version('aiohttp')}"
    except PackageNotFoundError as exc:
        remedy = _ARM_REMEDY if _is_windows_on_arm() else 'pip install "lmstrix[engine]"'
        return Check(name="embedded engine", state="note", found=f"{exc.name} is not installed", remedy=remedy)
    libraries = missing_libraries()
    if libraries is not None:
        return Check(name="embedded engine", state="problem", found=libraries.found, remedy=libraries.remedy)
    # In another process: a native library that does not fit this machine may end the process that imports it.
    probe = run_helper(own_python("-P", "-c", "import xllamacpp"))
    if probe.exit_code == 0:
        return Check(name="embedded engine", state="ok", found=found)
    last = (probe.errors.strip().splitlines() or ["the import failed"])[-1]
    return Check(name="embedded engine", state="problem", found=last, remedy=import_remedy(last))


def _apple_remedy() -> str:
    """The Python for Apple's own processors: one that is there, or where to get it."""
    if Path(_HOMEBREW).exists():
        return f"{_HOMEBREW} is a Python for Apple silicon: {_HOMEBREW} -m venv .venv, and install LMStrix into that"
    return (
        "install the Python of https://www.python.org/downloads/macos/, and LMStrix into an environment made by "
        "arch -arm64 python3 -m venv .venv"
    )


def _is_windows_on_arm() -> bool:
    # Of the interpreter: the processor is also told to one for x64, which runs on it.
    return sysconfig.get_platform() == "win-arm64"
