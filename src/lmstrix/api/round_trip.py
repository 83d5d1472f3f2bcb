"""The network's own round trip to a server: how long a TCP connection takes to open.

A handshake is one round trip that the kernels answer, so neither the server's program nor its load is in it. The name
is resolved before. Through a proxy it would be the way to the proxy.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from statistics import median

_TIMES = 9
_LIMIT_S = 5.0


async def round_trip_s(address: str) -> float | None:
    """The median of a few round trips to `address` (host:port), in seconds; None where none could be made."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_LIMIT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port))
            trips = [await _trip(str(found[0][4][0]), int(port)) for _ in range(_TIMES)]
    except (OSError, TimeoutError):
        return None
    return median(trips)


async def _trip(host: str, port: int) -> float:
    began = time.perf_counter()
    _, writer = await asyncio.open_connection(host, port)
    took_s = time.perf_counter() - began
    writer.close()
    # The other side may already have hung up, which is nothing to anybody here.
    with suppress(OSError):
        await writer.wait_closed()
    return took_s
