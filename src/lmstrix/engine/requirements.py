"""Whether the engine can run here at all, told in one line with the remedy.

xllamacpp itself is not imported here: it is large, and only the processes of the models need it. What its wheel leaves
to the system is looked for by name: the OpenMP library on Linux, Microsoft's runtime for C++ on Windows.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from lmstrix.ground.errors import EngineError

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_PACKAGES: Final = ("aiohttp", "xllamacpp")
_INSTALL: Final = 'pip install "lmstrix[engine]"'
_OPENMP: Final = "libgomp.so.1"
_VISUAL_CPP: Final = ("vcomp140", "msvcp140", "vcruntime140_1")
"""What the wheel's import table names: OpenMP, the standard library, exceptions. Only the last comes with Python."""
_OPENMP_REMEDY: Final = "apt install libgomp1 (or dnf install libgomp)"
_VISUAL_CPP_REMEDY: Final = "winget install Microsoft.VCRedist.2015+.x64"


class MissingLibraries(NamedTuple):
    """Libraries of the system that llama.cpp needs, and how to get them."""

    names: tuple[str, ...]
    remedy: str

    @property
    def found(self) -> str:
        """What there is to say of them."""
        return f"llama.cpp needs {' and '.join(self.names)} of the system"


def check_requirements() -> None:
    """Raise EngineError when something the engine needs is missing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineError(f"the embedded engine needs {' and '.join(missing)}: {_INSTALL}")
    libraries = missing_libraries()
    if libraries is not None:
        raise EngineError(f"{libraries.found}: {libraries.remedy}")


def missing_libraries() -> MissingLibraries | None:
    """What xllamacpp's wheel leaves to the system and is not there; None where nothing is missing."""
    if sys.platform == "win32":
        names = tuple(f"{name}.dll" for name in _VISUAL_CPP if not _loads(name))
        return MissingLibraries(names, _VISUAL_CPP_REMEDY) if names else None
    # The wheel for macOS brings it along, and some for Linux may too.
    if sys.platform == "linux" and not _brings_openmp(importlib.util.find_spec("xllamacpp")) and not _loads(_OPENMP):
        return MissingLibraries((_OPENMP,), _OPENMP_REMEDY)
    return None


def import_remedy(reason: str) -> str:
    """What helps where xllamacpp cannot be imported. `reason` is how Python words it, its name first."""
    if reason.startswith("ModuleNotFoundError"):
        return _INSTALL
    if "libgomp" in reason:
        return _OPENMP_REMEDY
    # The wheel has none of its own, so installing it again changes nothing; one of the system's may be too old.
    if "DLL load failed" in reason:
        return _VISUAL_CPP_REMEDY
    return 'pip install --force-reinstall "lmstrix[engine]"'


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
