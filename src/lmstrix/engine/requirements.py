"""Whether the engine can run here at all, told in one line with the remedy.

xllamacpp itself is not imported here: it is large, and only the processes of the models need it. The OpenMP library,
which its wheel leaves to the system on Linux, is looked for by name.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmstrix.ground.errors import EngineError

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_PACKAGES: Final = ("aiohttp", "xllamacpp")
_INSTALL: Final = 'pip install "lmstrix[engine]"'
_OPENMP: Final = "libgomp.so.1"


def check_requirements() -> None:
    """Raise EngineError when something the engine needs is missing."""
    found = {name: importlib.util.find_spec(name) for name in _PACKAGES}
    missing = [name for name, spec in found.items() if spec is None]
    if missing:
        raise EngineError(f"the embedded engine needs {' and '.join(missing)}: {_INSTALL}")
    # Other systems' wheels bring it along, and some Linux ones may too.
    if sys.platform == "linux" and not _brings_openmp(found["xllamacpp"]) and not _loads(_OPENMP):
        raise EngineError(f"llama.cpp needs {_OPENMP} of the system: apt install libgomp1 (or dnf install libgomp)")


def _brings_openmp(spec: ModuleSpec | None) -> bool:
    """Whether the wheel has the library inside."""
    if spec is None or spec.origin is None:
        return False
    return any((Path(spec.origin).parent.parent / "xllamacpp.libs").glob("libgomp*"))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
