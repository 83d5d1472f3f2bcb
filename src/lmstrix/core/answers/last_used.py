"""Small state between runs: the model used last, and which server each choice led to. Losing it costs nothing, so it is
never an error.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from lmstrix.core.answers.state_file import change_state, read_state, write_state
from lmstrix.core.registry.places import Place, place_here

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MODEL, _SERVERS = "last_used_model", "servers"
_MOST_SERVERS = 16  # scripts may use another port each time


class LastUsed:
    """The model key of the last answer that succeeded, and where the servers in use were, in `file`. What the `earlier`
    LMStrix noted counts until there is an answer of ours.
    """

    def __init__(self, file: Path, *, earlier: Path | None = None) -> None:
        self._file = file
        self._earlier = earlier

    def read(self) -> str | None:
        """The key, or None when there is none or the file cannot be read."""
        key = read_state(self._file).get(_MODEL)
        if key is None and self._earlier is not None:
            key = read_state(self._earlier).get(_MODEL)
        return key if isinstance(key, str) else None

    def write(self, model_key: str) -> None:
        """Remember a key."""
        with contextlib.suppress(OSError):
            write_state(self._file, {_MODEL: model_key})

    def place(self, choice: str) -> Place | None:
        """Where the server was that a choice ("auto", an address) led to the last time; None when there was none."""
        match _servers(read_state(self._file)).get(choice):
            case {"engine": str(engine), "host": str(host), "is_here": bool(is_here)}:
                # This machine may have another name by now.
                return place_here(engine) if is_here else Place(engine=engine, host=host, is_here=False)
        return None

    def write_place(self, choice: str, place: Place) -> None:
        """Remember where the server is that a choice led to."""

        def change(state: Mapping[str, Any]) -> Mapping[str, Any]:
            servers = {name: known for name, known in _servers(state).items() if name != choice}
            servers[choice] = {"engine": place.engine, "host": place.host, "is_here": place.is_here}
            return {_SERVERS: dict(list(servers.items())[-_MOST_SERVERS:])}

        with contextlib.suppress(OSError):
            change_state(self._file, change)


def _servers(state: Mapping[str, Any]) -> dict[str, Any]:
    servers = state.get(_SERVERS)
    return servers if isinstance(servers, dict) else {}
