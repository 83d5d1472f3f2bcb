"""The user's names for models on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from lmstrix.reports.json_form import json_form
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.registry.model_aliases import ModelAlias
    from lmstrix.reports.console import Console

_ALIASES = (
    Column(title="ALIAS", shrink=True, keep=8),
    Column(title="MODEL", shrink=True, keep=18),
    Column(title="PATH", shrink=True, keep=18, drop=1),
)


def show_aliases(
    console: Console, aliases: Sequence[ModelAlias], *, command: Literal["alias", "aliases", "unalias"]
) -> None:
    """All of them as a table, or the one that was chosen or taken away as a line."""
    if console.json:
        console.result(f"models-{command}", {"aliases": [json_form(alias) for alias in aliases]})
    elif command != "aliases":
        for alias in aliases:
            line = f"{alias.alias}: {alias.model_key or alias.path}{' (taken away)' if command == 'unalias' else ''}"
            sys.stdout.write(clean(line) + "\n")
    elif not aliases:
        console.note("no model has an alias yet; lmstrix models alias NAME MODEL gives it one")
    else:
        console.table(_ALIASES, [(alias.alias, _model(alias), alias.path) for alias in aliases])


def _model(alias: ModelAlias) -> str:
    if alias.model_key is None:
        return "not in the registry"
    return f"{alias.model_key} (missing)" if alias.is_missing else alias.model_key
