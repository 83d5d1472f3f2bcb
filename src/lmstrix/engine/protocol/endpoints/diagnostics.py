"""`/diagnostics`: the log as it happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmstrix.engine.identity import llama_version
from lmstrix.engine.protocol.presentation import log_packet
from lmstrix.engine.protocol.session import EndpointNamespace, ServerChannel

if TYPE_CHECKING:
    from lmstrix.engine.records import LogEvent
    from lmstrix.engine.state import EngineState


def diagnostics_namespace(state: EngineState) -> EndpointNamespace:
    """`/diagnostics`."""

    async def stream_logs(channel: ServerChannel) -> None:
        """Every line from now on, until the client says stop."""
        with state.logs.listen() as lines:
            # A task of its own, since the word to stop comes while it waits for a line that may never come.
            streaming = asyncio.create_task(_stream(channel, lines))
            channel.on_stop(streaming.cancel)
            await asyncio.wait([streaming])
            if not streaming.cancelled():
                streaming.result()

    return EndpointNamespace(calls={}, channels={"streamLogs": stream_logs})


async def _stream(channel: ServerChannel, lines: asyncio.Queue[LogEvent]) -> None:
    while True:
        await channel.send(log_packet(await lines.get(), llama_version()))
