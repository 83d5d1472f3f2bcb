"""What a child takes before it loads anything, and what llama.cpp can compute on: asked of a child that then ends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from lmstrix.engine.llama.starting import send_options, start_child, told_pid

_LIMIT_S = 20.0
"""It takes 0.1 s; drivers of graphics cards may need seconds to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableGraphics:
    """Graphics that this build of llama.cpp can use. `backend` is its name there, such as "CUDA0" or "Vulkan1".

    Where they are `integrated`, their memory is the machine's.
    """

    backend: str
    name: str
    integrated: bool
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleChild:
    """A child without a model. `system_info` is llama.cpp's own line on the processor features it was built for."""

    address_space_bytes: int
    graphics: tuple[UsableGraphics, ...] = ()
    system_info: str = ""

    @property
    def free_card_bytes(self) -> tuple[int, ...]:
        """An entry for each card. Integrated graphics are none: the machine's memory is counted already."""
        return tuple(device.free_bytes for device in self.graphics if not device.integrated)


async def ask_idle_child() -> IdleChild | None:
    """Start one and ask it; None when none can be started, and so no model loaded."""
    child = await start_child(stderr=asyncio.subprocess.DEVNULL)
    line = b""
    try:
        async with asyncio.timeout(_LIMIT_S):
            if await told_pid(child.stdout) is not None:
                # The end of its input would end it, so that is left open until it has answered.
                send_options(child, {"model": None, "address_space_bytes": None, "watcher": False})
                line = await child.stdout.readline()
    except (TimeoutError, ConnectionError):
        line = b""
    finally:
        child.kill()
        child.stdin.close()
        await asyncio.shield(child.process.wait())
    idle = json.loads(line).get("idle") if line else None
    if idle is None:
        return None
    return IdleChild(
        address_space_bytes=idle["address_space_bytes"],
        graphics=tuple(UsableGraphics(**device) for device in idle["graphics"]),
        system_info=idle["system_info"],
    )
