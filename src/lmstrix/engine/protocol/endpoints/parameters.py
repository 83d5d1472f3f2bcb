"""Reading the parameters of calls: a wrong one is a fault that names it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.engine.faults import EngineFault

if TYPE_CHECKING:
    from collections.abc import Mapping


def required_text(parameter: Mapping[str, Any], name: str) -> str:
    """A text that must be there."""
    value = parameter.get(name)
    if not isinstance(value, str):
        raise EngineFault(f"{name} must be text.", kind="invalid")
    return value


def optional_text(parameter: Mapping[str, Any], name: str) -> str | None:
    """A text that may be absent or null."""
    return None if parameter.get(name) is None else required_text(parameter, name)


def optional_seconds(parameter: Mapping[str, Any], name: str) -> float | None:
    """A number of milliseconds, at least 1, as seconds."""
    value = parameter.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        raise EngineFault(f"{name} must be a number of milliseconds of at least 1.", kind="invalid")
    return value / 1000


def flag(parameter: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """A boolean that may be absent."""
    value = parameter.get(name, default)
    if not isinstance(value, bool):
        raise EngineFault(f"{name} must be true or false.", kind="invalid")
    return value


def this_machine(parameter: Mapping[str, Any]) -> None:
    """Refuse a call that names another machine."""
    device = parameter.get("deviceIdentifier")
    if device is not None:
        raise EngineFault(f"There is no other machine here: {device}", kind="not_found")
