"""Doctor on what is installed: Python, the packages LMStrix needs, the embedded engine's libraries."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from lmstrix.core.health import Check

if TYPE_CHECKING:
    from lmstrix.service.workspace import Workspace


def python(_workspace: Workspace) -> Check:
    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    try:
        here += f", lmstudio SDK {version('lmstudio')}"
    except PackageNotFoundError:
        return Check(name="python", state="problem", found=here, remedy="pip install lmstudio")
    return Check(name="python", state="ok", found=here)


def packages(_workspace: Workspace) -> Check:
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


def engine(_workspace: Workspace) -> Check:
    import subprocess

    try:
        found = f"xllamacpp {version('xllamacpp')}, aiohttp {version('aiohttp')}"
    except PackageNotFoundError as exc:
        remedy = 'pip install "lmstrix[engine]"'
        return Check(name="embedded engine", state="note", found=f"{exc.name} is not installed", remedy=remedy)
    # In another process: a native library that does not fit this machine may end the process that imports it.
    probe = subprocess.run(
        [sys.executable, "-P", "-c", "import xllamacpp"], capture_output=True, text=True, check=False
    )
    if probe.returncode == 0:
        return Check(name="embedded engine", state="ok", found=found)
    last = (probe.stderr.strip().splitlines() or ["the import failed"])[-1]
    remedy = "install the package libgomp1" if "libgomp" in last else 'pip install --force-reinstall "lmstrix[engine]"'
    return Check(name="embedded engine", state="problem", found=last, remedy=remedy)
