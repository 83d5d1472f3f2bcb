"""Tool names as the model is shown them (`llm.prediction.toolNaming`), and the way back to the client's own. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

Tools: TypeAlias = tuple[Mapping[str, Any], ...]


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name) or ["tool"]


def _camel_case(name: str) -> str:
    first, *others = _words(name)
    return first.lower() + "".join(word.capitalize() for word in others)


TOOL_NAMINGS: Final[Mapping[str, Callable[[str], str]]] = {
    "passThrough": str,
    "removeSpecial": lambda name: re.sub(r"[^A-Za-z0-9_]+", "_", name),
    "snakeCase": lambda name: "_".join(word.lower() for word in _words(name)),
    "camelCase": _camel_case,
}


def renamed(tools: Tools, naming: str) -> tuple[Tools, dict[str, str]]:
    """Tools with the names the model is shown, and the way back. A name two tools would share stays as it is."""
    back: dict[str, str] = {}
    shown = []
    for tool in tools:
        original = tool["function"]["name"]
        name = TOOL_NAMINGS[naming](original)
        # Two tools under one name could not be told apart when the model calls one.
        name = original if name in back else name
        back[name] = original
        shown.append(with_name(tool, name))
    return tuple(shown), back


def with_name(tool: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The tool under another name."""
    return {**tool, "function": {**tool["function"], "name": name}}
