"""How a message names what its reader can change: `timeout_s` to a Python caller, --timeout on the command line.

Errors and remarks are written once, below both, and name parameters by `parameter`, methods by `call`. The command line
sets WORDING for as long as a command runs; where nobody set it, the words are Python's. A context variable, because it
follows the steps of a call into every task and thread that works for it.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Wording(Protocol):
    """The words of one kind of reader."""

    def parameter(self, name: str, value: str | float | None) -> str:
        """A parameter; with a value, the parameter set to it. A float is a share."""

    def call(self, method: str, arguments: Sequence[str], switches: Sequence[str], load: Mapping[str, str]) -> str:
        """A method of LMStrix, called; `load` are fields of a LoadConfig."""

    def variables(self, names: Sequence[str]) -> str:
        """How to give these variables to a prompt, as the end of a sentence: "give them …"."""


class PythonWording:
    """Names as a Python caller writes them, in backquotes to tell them from the sentence."""

    def parameter(self, name: str, value: str | float | None) -> str:
        return f"`{name}`" if value is None else f"`{name}={value!r}`"

    def call(self, method: str, arguments: Sequence[str], switches: Sequence[str], load: Mapping[str, str]) -> str:
        given = [*map(repr, arguments), *(f"{name}=True" for name in switches)]
        if load:
            given.append(f"load=LoadConfig({', '.join(f'{name}={value!r}' for name, value in load.items())})")
        return f"`{method}({', '.join(given)})`"

    def variables(self, names: Sequence[str]) -> str:
        return f"give {'it' if len(names) == 1 else 'them'} in `variables`"


WORDING: ContextVar[Wording] = ContextVar("lmstrix_wording", default=PythonWording())  # noqa: B039 - it holds nothing


def parameter(name: str, value: str | float | None = None) -> str:
    """A parameter's name, or the parameter set to a value, as the reader writes it."""
    return WORDING.get().parameter(name, value)


def call(
    method: str, *arguments: str, switches: Sequence[str] = (), load: Mapping[str, str] = MappingProxyType({})
) -> str:
    """A method of LMStrix called with these texts, switches and load settings, as the reader writes it."""
    return WORDING.get().call(method, arguments, switches, load)


def variables(names: Sequence[str]) -> str:
    """How the reader gives these variables to a prompt."""
    return WORDING.get().variables(names)
