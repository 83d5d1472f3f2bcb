"""`/diagnostics`: the log as it happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmstrix.engine.protocol.presentation import log_packet
from lmstrix.engine.protocol.session import Channel, Namespace
from lmstrix.engine.state import llama_version

if TYPE_CHECKING:
    from lmstrix.engine.records import LogEvent
    from lmstrix.engine.state import EngineState


def diagnostics_namespace(state: EngineState) -> Namespace:
    """`/diagnostics`."""

    async def stream_logs(channel: Channel) -> None:
        """Every line from now on, until the client says stop."""
        with state.logs.listen() as lines:
            streaming = asyncio.create_task(_stream(channel, lines))
            channel.on_stop(streaming.cancel)
            await asyncio.wait([streaming])
            if not streaming.cancelled():
                streaming.result()

    return Namespace(calls={}, channels={"streamLogs": stream_logs})


async def _stream(channel: Channel, lines: asyncio.Queue[LogEvent]) -> None:
    while True:
        await channel.send(log_packet(await lines.get(), llama_version()))
