"""What is said where a check of doctor could not be made."""

from __future__ import annotations

from lmstrix.core.health import Check
from lmstrix.ground.text import one_line


def failed(name: str, failure: Exception) -> Check:
    """The check of that name, with what kept it from being made."""
    if isinstance(failure, ModuleNotFoundError):
        found = f"not examined: the package {failure.name} is missing"
        return Check(name=name, state="problem", found=found, remedy="pip install lmstrix")
    return Check(name=name, state="problem", found=one_line(failure))
