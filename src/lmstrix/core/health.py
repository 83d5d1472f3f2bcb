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
