"""`models alias`: names of the user's for models, kept in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.registry.model_aliases import ModelAlias, check_alias, model_aliases
from lmstrix.core.registry.tags import all_tags
from lmstrix.ground.errors import UsageError
from lmstrix.ground.units import counted

if TYPE_CHECKING:
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.service.workspace import Workspace


def aliases(workspace: Workspace) -> list[ModelAlias]:
    """All aliases of models, by name."""
    return model_aliases(workspace.registry())


def choose_alias(workspace: Workspace, word: str, model: str) -> ModelAlias:
    """Let a word stand for a model, in place of what it stood for. Raises ModelNotFoundError, UsageError."""
    registry = workspace.registry()
    record, alias = registry.find(model), check_alias(word, registry)

    def change(current: ModelRegistry) -> object:
        before = current.aliases.get(alias)
        current.aliases[alias] = record.path
        return before

    before = workspace.store.update(change)
    if before is not None and before != record.path:
        workspace.notify(f"{alias} stood for {before} until now")
    tagged = sum(1 for each in registry if alias.lower() in all_tags(each))
    if tagged:
        workspace.notify(
            f"{alias} is also a tag of {counted(tagged, 'model')}, which tag:{alias.lower()} names from now on"
        )
    return ModelAlias(alias=alias, path=record.path, model_key=record.model_key, is_missing=record.is_missing)


def remove_alias(workspace: Workspace, alias: str) -> ModelAlias:
    """Let an alias stand for nothing any more; returns what it was. Raises UsageError where there is none."""
    known = {each.alias: each for each in aliases(workspace)}
    if alias not in known:
        there_are = f"there are: {', '.join(known)}" if known else "there is none"
        raise UsageError(f"no model has the alias {alias!r}; {there_are}")
    workspace.store.update(lambda registry: registry.aliases.pop(alias, None))
    return known[alias]
