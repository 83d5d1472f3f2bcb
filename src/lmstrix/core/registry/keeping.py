"""What the commands about the registry itself return. Records alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from lmstrix.core.history.usage import ModelUsage


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
class RestoredRegistry:
    """A copy that was put in the place of the registry; `replaced` is the copy of what stood there."""

    backup: RegistryBackup
    replaced: RegistryBackup | None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryStats:
    """What the registry holds. Counts are of the models that are there, except `missing`; `results` are by engine and
    machine, of all models. `usage` is of the last `span_s`.
    """

    models: int
    missing: int
    size_bytes: int
    status: Mapping[str, int]
    formats: Mapping[str, int]
    quantizations: Mapping[str, int]
    quantization_bytes: Mapping[str, int]
    results: Mapping[str, int]
    tags: Mapping[str, int]
    span_s: float
    usage: tuple[ModelUsage, ...]
