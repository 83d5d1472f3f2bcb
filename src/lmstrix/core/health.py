"""What `doctor` found on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of `doctor`: what was looked at, what was found, and the remedy where it is not well."""

    name: str
    state: Literal["ok", "note", "problem"]
    found: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """All checks."""

    checks: tuple[Check, ...]

    @property
    def problems(self) -> int:
        return sum(check.state == "problem" for check in self.checks)

    @property
    def ok(self) -> bool:
        return self.problems == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """Something to change: what it gains, and the command that does it. `factor` orders them: 2.0 doubles something."""

    gain: str
    how: str
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """What was found of a model, in numbers; None where it is not known.

    `context_length` is the one that `predicted_bytes` are of; `predicted_limit` is the longest predicted to fit.
    `bandwidth_tokens_per_second` is what memory allows where each token reads the weights once.
    """

    declared_context_length: int | None = None
    tested_context_length: int | None = None
    saved_context_length: int | None = None
    loaded_context_length: int | None = None
    context_length: int | None = None
    predicted_bytes: int | None = None
    measured_bytes: int | None = None
    budget_bytes: int | None = None
    predicted_limit: int | None = None
    decode_tokens_per_second: float | None = None
    bandwidth_bytes_per_s: float | None = None
    bandwidth_tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport(DoctorReport):
    """All checks of one model, and what to change, the greatest gain first."""

    model_key: str
    figures: ModelFigures
    improvements: tuple[Improvement, ...]
