"""Functions and classes of the user's own Python files, named as `module:name` or `file.py:name`.

Importing runs the file, with all rights of the command: only what the user named on the command line is imported, from
the folder the command runs in before installed packages.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from lmstrix.ground.errors import UsageError


def load_object(reference: str, *, folder: Path | None = None) -> object:
    """What `module:name` or `path/file.py:name` names. Raises UsageError saying what is not there, or what failed."""
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{reference!r} is no module:name, such as my_tools:get_weather or my_tools.py:get_weather")
    found = _import_module(place, folder or Path.cwd())
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{place} has no {name!r}")
        found = getattr(found, part)
    return found


def _import_module(place: str, folder: Path) -> object:
    # Also for a file: it may import its neighbours.
    sys.path.insert(0, str(folder))
    try:
        if place.endswith(".py"):
            return _import_file(folder / Path(place).expanduser())
        return importlib.import_module(place)
    except UsageError:
        raise
    except Exception as exc:  # the user's code may raise anything
        raise UsageError(f"{place} cannot be imported: {type(exc).__name__}: {exc}") from exc
    finally:
        sys.path.remove(str(folder))


def _import_file(path: Path) -> object:
    if not path.is_file():
        raise UsageError(f"no file at {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # pydantic looks annotations up there
    spec.loader.exec_module(module)
    return module
