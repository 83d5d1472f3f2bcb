"""Where results hold: an engine on a machine. What fits on one says nothing about another. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.addresses import host_name, host_of, is_local

if TYPE_CHECKING:
    from lmstrix.ground.types import ServerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An engine ("lmstudio", "embedded") on a machine. `is_here`: on this machine."""

    engine: str
    host: str
    is_here: bool = True

    def holds(self, engine: str, host: str | None) -> bool:
        """Whether what was measured on this engine and host holds here."""
        # Results that do not say where they are from are older than the choice of another machine.
        return engine == self.engine and (host == self.host if host is not None else self.is_here)


def place_of(server: ServerInfo) -> Place:
    """The place a server is at."""
    return Place(engine=server.engine, host=host_of(server.address), is_here=is_local(server.address))


def place_here(engine: str) -> Place:
    """An engine on this machine."""
    return Place(engine=engine, host=host_name())
