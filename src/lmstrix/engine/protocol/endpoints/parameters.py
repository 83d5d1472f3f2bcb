"""Reading the parameters of calls: a wrong one is a fault that names it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.values import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping


_LONGEST_MS: Final = 2**53
"""The largest whole number of JavaScript; whoever wants no end sends it."""


def required_text(parameter: Mapping[str, Any], name: str) -> str:
    """A text that must be there."""
    value = parameter.get(name)
    if not isinstance(value, str):
        raise EngineFault(f"{name} must be text.", kind="invalid")
    return value


def optional_text(parameter: Mapping[str, Any], name: str) -> str | None:
    """A text that may be absent or null."""
    return None if parameter.get(name) is None else required_text(parameter, name)


def optional_object(parameter: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object that may be absent or null, which is an empty one."""
    value = parameter.get(name)
    return {} if value is None else read_object(name, value)


def optional_seconds(parameter: Mapping[str, Any], name: str) -> float | None:
    """A number of milliseconds, at least 1, as seconds."""
    value = parameter.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= _LONGEST_MS:
        raise EngineFault(f"{name} must be a number of milliseconds from 1 to {_LONGEST_MS:,}.", kind="invalid")
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
