"""One load over a channel: it goes on at the server when its caller stops waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmstrix.api.convert import loaded_model, number_of
from lmstrix.api.failures import translated
from lmstrix.api.fault_rules import classify
from lmstrix.api.faults import ServerFault, ServerRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lmstrix.api.connection import ClientChannel, WireConnection
    from lmstrix.api.convert import Json
    from lmstrix.ground.types import LoadedModel, ModelKind


class Loading:
    """One load on the server. Reading it is a task of its own, so that it can be followed to its end afterwards.

    `before` are the references that stood under the wanted name before it.
    """

    def __init__(
        self,
        connection: WireConnection,
        asked: ServerRequest,
        parameters: Json,
        *,
        instance_id: str,
        kind: ModelKind,
        before: frozenset[str],
    ) -> None:
        self.instance_id = instance_id
        self.kind = kind
        self.before = before
        self._asked = asked
        self._channel: ClientChannel | None = None
        self._ratios: asyncio.Queue[float | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(connection, kind, parameters))
        self._task.add_done_callback(self._end)

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def _read(self, connection: WireConnection, kind: ModelKind, parameters: Json) -> LoadedModel:
        highest = -1.0
        with translated(self._asked):
            # Kept as an attribute, because `cancel` asks the server to stop over this channel.
            async with connection.channel(kind, "loadModel", parameters) as self._channel:
                while (packet := await self._channel.receive()) is not None:
                    if packet.get("type") == "success":
                        return loaded_model(packet["info"])
                    # Servers may repeat a ratio or go back; callers are promised that it grows.
                    ratio = number_of(packet, "progress")
                    if ratio is not None and ratio > highest:
                        highest = ratio
                        self._ratios.put_nowait(min(1.0, ratio))
        raise classify(ServerFault(title="the server ended the load without a result"), self._asked)

    def _end(self, task: asyncio.Task[LoadedModel]) -> None:
        self._ratios.put_nowait(None)
        if not task.cancelled():
            task.exception()  # looked at here, so that an abandoned load that fails is not reported as forgotten

    async def progress(self) -> AsyncIterator[float]:
        """Increasing ratios until the load ends, well or not."""
        while (ratio := await self._ratios.get()) is not None:
            yield ratio

    def result(self) -> LoadedModel:
        """The instance as announced; raises what the load failed with."""
        return self._task.result()

    async def cancel(self, grace_s: float) -> None:
        """Tell the server to stop, and give it `grace_s` to do so."""
        if self.ended:
            return
        if self._channel is None:  # the server has not been asked yet
            self._task.cancel()
        else:
            await self._channel.ask_to_stop()
        await asyncio.wait({self._task}, timeout=grace_s)

    async def wait(self) -> None:
        """Until the server is done with it."""
        try:
            await asyncio.wait({self._task})
        finally:
            self._task.cancel()
