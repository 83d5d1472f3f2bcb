"""What the commands about the registry itself return. Records alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedModel:
    """A model with the tags the user gave it and those that follow from what it is."""

    model_key: str
    path: str
    tags: tuple[str, ...]
    derived: tuple[str, ...]
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryBackup:
    """A copy of the registry. `models` and `tested` are None where it cannot be read."""

    name: str
    file: Path
    written_at: datetime
    size_bytes: int
    models: int | None
    tested: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedModel:
    """A model that was taken out, or would be; `results` is how many test results go with it."""

    model_key: str
    path: str
    missing_since: datetime | None
    results: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedModels:
    """What `add` found: the paths of models that are new, of those known before, and the folder they lie in."""

    models_dir: Path
    added: tuple[str, ...]
    known: tuple[str, ...]
    problems: tuple[str, ...]
