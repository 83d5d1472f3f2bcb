"""Small state between runs: the model used last, and which server each choice led to. Losing it costs nothing, so it is
never an error.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from lmstrix.core.registry.places import Place, place_here
from lmstrix.ground.files import PRIVATE, make_private_folder, write_whole
from lmstrix.ground.held_files import read_whole

if TYPE_CHECKING:
    from pathlib import Path

_MODEL, _SERVERS = "last_used_model", "servers"
_MOST_SERVERS = 16  # scripts may use another port each time


class LastUsed:
    """The model key of the last answer that succeeded, and where the servers in use were, in `file`."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> str | None:
        """The key, or None when there is none or the file cannot be read."""
        key = self._read().get(_MODEL)
        return key if isinstance(key, str) else None

    def write(self, model_key: str) -> None:
        """Remember a key."""
        self._write({_MODEL: model_key})

    def place(self, choice: str) -> Place | None:
        """Where the server was that a choice ("auto", an address) led to the last time; None when there was none."""
        match self._servers().get(choice):
            case {"engine": str(engine), "host": str(host), "is_here": bool(is_here)}:
                # This machine may have another name by now.
                return place_here(engine) if is_here else Place(engine=engine, host=host, is_here=False)
        return None

    def write_place(self, choice: str, place: Place) -> None:
        """Remember where the server is that a choice led to."""
        servers = {name: known for name, known in self._servers().items() if name != choice}
        servers[choice] = {"engine": place.engine, "host": place.host, "is_here": place.is_here}
        self._write({_SERVERS: dict(list(servers.items())[-_MOST_SERVERS:])})

    def _servers(self) -> dict[str, Any]:
        servers = self._read().get(_SERVERS)
        return servers if isinstance(servers, dict) else {}

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(read_whole(self._file))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, changes: dict[str, Any]) -> None:
        old = self._read()
        new = old | changes
        # The file is written only when it changes: most answers come from the same model, and reading costs less.
        if new == old:
            return
        with contextlib.suppress(OSError):
            make_private_folder(self._file.parent)
            write_whole(self._file, json.dumps(new) + "\n", mode=PRIVATE, durable=False)
