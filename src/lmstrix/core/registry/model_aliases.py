"""Names of the user's for models: `fast` for a model of a long path. Pure.

They stand in the registry beside the models, each for a path, and go with it where the model moves or is merged. They
are something else than the settings' [aliases], which stand for words of a command line.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.registry.naming import CURRENT
from lmstrix.ground.errors import UsageError
from lmstrix.ground.model_names import exact_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lmstrix.core.registry.json_fields import Json
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry

_ALIAS = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAlias:
    """A name of the user's for a model. `model_key` is None where the model is not in the registry (any more)."""

    alias: str
    path: str
    model_key: str | None
    is_missing: bool = False


def check_alias(word: str, records: Iterable[ModelRecord]) -> str:
    """The alias as it is stored. Raises UsageError where it would not be read as one again, or never be reached."""
    alias = word.strip()
    if not _ALIAS.fullmatch(alias):
        raise UsageError(f"{word!r} is no alias: letters, digits, and . - _ after the first of them")
    if alias == CURRENT:
        raise UsageError(f"{CURRENT} names the model that is loaded, and can be no alias")
    shadowing = shadowed_by(alias, records)
    if shadowing is not None:
        raise UsageError(f"{alias!r} is the name of {shadowing} already, which goes before an alias; choose another")
    return alias


def shadowed_by(alias: str, records: Iterable[ModelRecord]) -> str | None:
    """The path of a model whose own name the alias is: then that model is meant, and the alias has no effect."""
    return next(iter(exact_names(alias, [(record.path, record.model_key) for record in records])), None)


def model_aliases(registry: ModelRegistry) -> list[ModelAlias]:
    """All of them, by name, with what each stands for."""
    found = []
    for alias, path in sorted(readable(registry.aliases).items()):
        record = registry.get(path)
        key = record.model_key if record is not None else None
        gone = record is not None and record.is_missing
        found.append(ModelAlias(alias=alias, path=path, model_key=key, is_missing=gone))
    return found


def by_path(aliases: Mapping[str, Json]) -> Mapping[str, list[str]]:
    """The aliases of each model."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for alias, path in readable(aliases).items():
        found[path].append(alias)
    return found


def readable(aliases: Mapping[str, Json]) -> dict[str, str]:
    """Without what this version cannot read as a path; that stays in the file."""
    return {alias: path for alias, path in aliases.items() if isinstance(path, str)}
