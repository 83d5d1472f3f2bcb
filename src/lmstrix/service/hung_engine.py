"""An embedded engine of this home that runs and does not answer: starting another is no remedy, ending it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.ground.paths import Paths

REMEDY = "lmstrix engine stop ends it, lmstrix engine start begins anew"


def hung_engine(paths: Paths, server: str) -> str | None:
    """What hangs, where a server that does not answer is our engine; `server` is the setting of that name."""
    from lmstrix.engine.state_file import engine_status

    status = engine_status(paths.home)
    if not status.running or server not in ("auto", "embedded", status.address):
        return None
    return f"the engine at {status.address} (process {status.pid}) runs and does not answer"
