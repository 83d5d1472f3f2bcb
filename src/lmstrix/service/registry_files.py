"""RegistryFiles: the use cases about the registry itself by name, one line each; part of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lmstrix.core.registry.checking import Finding
    from lmstrix.core.registry.keeping import (
        AddedModels,
        RegistryBackup,
        RegistryStats,
        RemovedModel,
        RestoredRegistry,
        TaggedModel,
    )
    from lmstrix.core.registry.merging import MergeReport
    from lmstrix.core.registry.model_aliases import ModelAlias
    from lmstrix.service.workspace import Workspace


class RegistryFiles:
    """What is done to the registry of a workspace. No server is asked. Imports as `LMStrixService` does."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def tagged_models(self, model: str | None = None) -> list[TaggedModel]:
        """The tags of one model, of those with a tag, or of all."""
        from lmstrix.service.registry_keeping import tagged_models

        return tagged_models(self._workspace, model)

    def tag(self, model: str, tags: Sequence[str]) -> TaggedModel:
        """Give a model tags."""
        from lmstrix.service.registry_keeping import tag

        return tag(self._workspace, model, tags)

    def untag(self, model: str, tags: Sequence[str]) -> TaggedModel:
        """Take tags from a model; all of its own where none is named."""
        from lmstrix.service.registry_keeping import untag

        return untag(self._workspace, model, tags)

    def note(self, model: str, text: str) -> TaggedModel:
        """Note something of a model."""
        from lmstrix.service.registry_keeping import note

        return note(self._workspace, model, text)

    def aliases(self) -> list[ModelAlias]:
        """The user's names for models."""
        from lmstrix.service.aliasing import aliases

        return aliases(self._workspace)

    def choose_alias(self, alias: str, model: str) -> ModelAlias:
        """Give a model a name of the user's."""
        from lmstrix.service.aliasing import choose_alias

        return choose_alias(self._workspace, alias, model)

    def remove_alias(self, alias: str) -> ModelAlias:
        """Take such a name away."""
        from lmstrix.service.aliasing import remove_alias

        return remove_alias(self._workspace, alias)

    def add(self, place: Path) -> AddedModels:
        """Take in models outside the models folder."""
        from lmstrix.service.registry_adding import add

        return add(self._workspace, place)

    def remove(self, model: str) -> RemovedModel:
        """Take a model out, with its results."""
        from lmstrix.service.registry_keeping import remove

        return remove(self._workspace, model)

    def prune(self, *, older_than_s: float = 0.0, dry_run: bool = False) -> list[RemovedModel]:
        """Take out the models that have been missing for so long."""
        from lmstrix.service.registry_keeping import prune

        return prune(self._workspace, older_than_s=older_than_s, dry_run=dry_run)

    def export(self, file: Path, wanted: str | None = None) -> list[str]:
        """Write the registry, or some of its models, into a file; returns their paths."""
        from lmstrix.service.registry_keeping import export

        return export(self._workspace, file, wanted)

    def merge(self, other: Path, *, dry_run: bool = False) -> MergeReport:
        """Take in what another registry knows more or newer."""
        from lmstrix.service.registry_keeping import merge

        return merge(self._workspace, other, dry_run=dry_run)

    def stats(self, *, span_s: float) -> RegistryStats:
        """What the registry holds, and how its models were used in the last `span_s`."""
        from lmstrix.service.registry_stats import stats

        return stats(self._workspace, span_s=span_s)

    def validate(self, *, fix: bool = False) -> list[Finding]:
        """What is wrong in the registry, mended where `fix`."""
        from lmstrix.service.registry_stats import validate

        return validate(self._workspace, fix=fix)

    def backup(self, file: Path | None = None) -> RegistryBackup:
        """Copy the registry into a file."""
        from lmstrix.service.registry_keeping import backup

        return backup(self._workspace, file)

    def restorable(self) -> list[RegistryBackup]:
        """The copies that can be put back, newest first."""
        from lmstrix.service.registry_keeping import restorable

        return restorable(self._workspace)

    def restore(self, name: str) -> RestoredRegistry:
        """Put a copy in the place of the registry."""
        from lmstrix.service.registry_keeping import restore

        return restore(self._workspace, name)
