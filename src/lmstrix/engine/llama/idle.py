"""What a child takes before it loads anything, and the cards llama.cpp can use: asked of a child that then ends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from lmstrix.engine.llama.starting import send_options, start_child, told_pid

_LIMIT_S = 20.0
"""It takes 0.1 s; drivers of graphics cards may need seconds to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleChild:
    """A child without a model. `free_card_bytes` has an entry for each card with memory of its own."""

    address_space_bytes: int
    free_card_bytes: tuple[int, ...] = ()


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
    return IdleChild(address_space_bytes=idle["address_space_bytes"], free_card_bytes=tuple(idle["free_card_bytes"]))
