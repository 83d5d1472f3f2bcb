"""The file of targets that `bench --targets` measures: servers, and which models of each.

[[target]]
name = "box"
address = "192.168.1.20:1234"            # LM Studio, or our engine

[[target]]
name = "hosted"
address = "openai:https://api.example.com/v1"
key_variable = "EXAMPLE_KEY"             # the environment variable that holds the token, never the token
models = ["some-model"]                  # without it all of the server
leave_out = ["seed", "top_k"]            # parameters that this server refuses
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError
from lmstrix.loaders.prompts import load_document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FIELDS = ("name", "address", "key_variable", "models", "leave_out")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetServer:
    """One server to measure. No `models` means all of it."""

    name: str
    address: str
    key_variable: str | None = None
    models: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()


def load_targets(path: Path) -> tuple[TargetServer, ...]:
    """The servers of a file. Raises PromptError where it cannot be read, UsageError naming the entry that is wrong."""
    tables = load_document(path).tables
    entries = tables.get("target")
    unknown = next((name for name in tables if name != "target"), None)
    if unknown is not None or not isinstance(entries, list) or not entries:
        what = f"{unknown!r} is unknown" if unknown is not None else "there is no [[target]]"
        raise UsageError(f"{path}: {what}; write a [[target]] with name and address per server")
    targets = tuple(_target(f"{path}, target {number}", entry) for number, entry in enumerate(entries, 1))
    names = [target.name for target in targets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: two targets are called {twice!r}; their results could not be told apart")
    return targets


def _target(where: str, entry: object) -> TargetServer:
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is no table; write [[target]] above its lines")
    unknown = next((name for name in entry if name not in _FIELDS), None)
    if unknown is not None:
        raise UsageError(f"{where}: {unknown!r} is unknown (there are: {', '.join(_FIELDS)})")
    variable = _text(where, entry, "key_variable", required=False)
    if variable is not None and not _VARIABLE.fullmatch(variable):
        # Not repeated in the message: who wrote the token itself would find it in a log.
        raise UsageError(f"{where}: key_variable is the name of an environment variable, such as EXAMPLE_KEY")
    return TargetServer(
        name=_text(where, entry, "name") or "",
        address=_text(where, entry, "address") or "",
        key_variable=variable,
        models=_texts(where, entry, "models"),
        leave_out=_texts(where, entry, "leave_out"),
    )


def _text(where: str, entry: Mapping[str, object], name: str, *, required: bool = True) -> str | None:
    value = entry.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f'{where} needs {name} = "…"' if value is None else f"{where}: {name} is to be a text")
    return value


def _texts(where: str, entry: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = entry.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
        raise UsageError(f'{where}: {name} is to be a list of texts, such as ["one", "other"]')
    return tuple(dict.fromkeys(value))
