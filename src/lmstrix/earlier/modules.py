"""The modules of the earlier LMStrix, made when they are imported: `from lmstrix.core.models import ModelRegistry`.

A module's names are looked up in the migration table: what there is comes from this folder, with a warning that names
its new place; what there is no more fails with the replacement. Some of the earlier modules are packages of today
(`lmstrix.core`): Python asks for a name they lack as if it were a module in them, and is given what the name means.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

from lmstrix.earlier.migration import ROWS
from lmstrix.earlier.warning import warn

if TYPE_CHECKING:
    from types import ModuleType

    from lmstrix.earlier.migration import Migration

_BY_NAME = {row.old: row for row in ROWS if row.kind == "python"}
_MODULES = {name.rpartition(".")[0] for name in _BY_NAME} | {"lmstrix.utils"}
_HOMES = {
    "registry": "load_model_registry save_model_registry scan_and_update_registry reset_test_data ModelRegistry"
    " ModelScanner LMStudioClient",
    "models": "Model ContextTestStatus",
    "managers": "InferenceManager ContextTester",
    "prompts": "PromptResolver ResolvedPrompt load_prompts load_single_prompt",
    "logs": "logger setup_logging",
}


def find_spec(name: str) -> ModuleSpec | None:
    """How to make this module, or the thing of this name in a package; None for what was never there."""
    if name in _MODULES:
        return ModuleSpec(name, _ModuleLoader(), is_package=name == "lmstrix.utils")
    return ModuleSpec(name, _NameLoader()) if name in _BY_NAME else None


class _ModuleLoader(Loader):
    """Makes a module that looks its names up when they are asked for."""

    def exec_module(self, module: ModuleType) -> None:
        def look_up(name: str) -> object:
            row = _BY_NAME.get(f"{module.__name__}.{name}")
            if row is None:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            found = _meaning(row)
            warn(row.old, str(row.new))
            return found

        module.__dict__["__getattr__"] = look_up


class _NameLoader(Loader):
    """Puts what a name means where Python keeps a module of that name."""

    def exec_module(self, module: ModuleType) -> None:
        row = _BY_NAME[module.__name__]
        found = _meaning(row)
        warn(row.old, str(row.new))
        sys.modules[module.__name__] = found  # type: ignore[assignment]


def _meaning(row: Migration) -> object:
    name = row.old.rpartition(".")[2]
    if row.new is None:
        raise ImportError(f"{row.old} is of the earlier LMStrix, and there is none today: {row.note}")
    home = next((home for home, names in _HOMES.items() if name in names.split()), "exceptions")
    return getattr(import_module(f"lmstrix.earlier.{home}"), name)
