"""Doctor on the server that commands would use: whether it answers and serves us, and what it has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.health import Check
from lmstrix.ground.errors import BackendUnavailableError, LMStrixError
from lmstrix.ground.text import one_line
from lmstrix.ground.units import counted, format_bytes
from lmstrix.ground.wording import parameter
from lmstrix.service.doctor.failures import failed
from lmstrix.service.hung_engine import hung_engine

if TYPE_CHECKING:
    from lmstrix.ground.types import MemoryLimit
    from lmstrix.service.workspace import Workspace

_LIMITS: dict[MemoryLimit, str] = {
    "host": "what its machine has free",
    "control group": "the limit of its control group",
    "address space": "its limit of the address space",
    "graphics card": "what the graphics cards have free",
}


async def server(workspace: Workspace) -> Check:
    try:
        from lmstrix.service.connection import connect_running

        connection = await connect_running(workspace.paths, workspace.settings)
    except BackendUnavailableError as exc:
        found, _, remedy = one_line(exc).partition("; ")
        if hung_engine(workspace.paths, workspace.settings.server) is None:
            remedy = "start LM Studio and its server (lms server start), or lmstrix engine start"
        return Check(name="server", state="note", found=found, remedy=remedy)
    except (LMStrixError, OSError, ImportError) as exc:
        return failed("server", exc)
    try:
        async with workspace.deadline().step("asking the server what is loaded"):
            # A greeting needs no token and a listing does, so only this tells whether the server serves us.
            loaded = await connection.backend.list_loaded()
            told = await connection.backend.memory()
        found = f"{connection.name}, {counted(len(loaded), 'model')} loaded"
        if told is not None:
            limit = _LIMITS.get(told.limited_by, f"its own {parameter('memory_limit')}")
            kept = f", less {format_bytes(told.headroom_bytes)} that it keeps free" if told.headroom_bytes else ""
            found += f"; one more may take {format_bytes(told.available_bytes - told.headroom_bytes)} ({limit}{kept})"
        return Check(name="server", state="ok", found=found)
    except LMStrixError as exc:
        return failed("server", exc)
    finally:
        await connection.close()
