"""What scans and context tests come to, under the names of the earlier LMStrix too."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from lmstrix.core.context.report import ContextOutcome
from lmstrix.core.registry.listing import ScanReport
from lmstrix.earlier.models import Model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lmstrix.core.registry.records import ModelRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(ScanReport):
    """A scan, which was once the list of the models found."""

    found: tuple[Model, ...]

    @classmethod
    def of(cls, report: ScanReport, records: Iterable[ModelRecord]) -> Self:
        """The same report."""
        return cls(**_values(report), found=tuple(Model.of(record) for record in records))

    @property
    def models_found(self) -> int:
        """How many models there are."""
        return self.models

    def __iter__(self) -> Iterator[Model]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, place: int) -> Model:
        return self.found[place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(ContextOutcome):
    """What a context test came to, under the earlier names too."""

    declared: int | None = None

    @classmethod
    def of(cls, outcome: ContextOutcome, declared: int | None) -> Self:
        """The same outcome, of a model that declares so many tokens."""
        return cls(**_values(outcome), declared=declared)

    @property
    def optimal_context(self) -> int | None:
        """The context to use."""
        return self.result.tested_context_length or None

    tested_max_context = optimal_context

    @property
    def succeeded(self) -> bool:
        """Whether any context was proven."""
        return self.optimal_context is not None

    @property
    def efficiency(self) -> float:
        """Tested per declared context length."""
        return (self.optimal_context or 0) / (self.declared or self.optimal_context or 1)

    @property
    def error(self) -> str | None:
        """Why nothing was proven."""
        return self.refused or self.result.error


def _values(record: ScanReport | ContextOutcome) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}
