"""Whether the engine can run here at all, told in one line with the remedy.

xllamacpp is imported in a process of its own: it is large, and a broken native library must not take this one along.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import cache

from lmstrix.errors import EngineError

_INSTALL = 'pip install "lmstrix[engine]"'
_LIBGOMP = "libgomp.so.1"
_PROBE_TIMEOUT_S = 60.0


def check_requirements() -> None:
    """Raise EngineError when something the engine needs is missing."""
    missing = [name for name in ("aiohttp", "xllamacpp") if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineError(f"the embedded engine needs {' and '.join(missing)}: {_INSTALL}")
    complaint = _import_complaint()
    if _LIBGOMP in complaint:
        raise EngineError(
            "llama.cpp needs the OpenMP library of the system: apt install libgomp1 (or dnf install libgomp)"
        )
    if complaint:
        raise EngineError(f"xllamacpp cannot be imported ({complaint}); reinstall it: {_INSTALL}")


@cache
def _import_complaint() -> str:
    """The last line an import of xllamacpp complains with, or nothing."""
    command = [sys.executable, "-I", "-c", "import xllamacpp"]
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    if probe.returncode == 0:
        return ""
    return (probe.stderr.strip().splitlines() or [f"exit status {probe.returncode}"])[-1]
