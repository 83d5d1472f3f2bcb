"""The two long exchanges over a channel, a load and a prediction, and how long to wait for them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from lmstrix.api.convert import loaded_model, number_of
from lmstrix.api.failures import Call, ServerFault, classify, translated
from lmstrix.ground.errors import StreamStalledError
from lmstrix.ground.types import Deadlines, Finished, LoadedModel, ModelKind, PromptProgress, StreamEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lmstrix.api.connection import Channel, Connection
    from lmstrix.api.convert import Json
    from lmstrix.api.prediction import PredictionReader


class Loading:
    """One load on the server. It goes on there when its caller stops waiting, so reading it is a task of its own.

    `before` are the references that stood under the wanted name before it.
    """

    def __init__(
        self,
        connection: Connection,
        call: Call,
        parameters: Json,
        *,
        instance_id: str,
        kind: ModelKind,
        before: frozenset[str],
    ) -> None:
        self.instance_id = instance_id
        self.kind = kind
        self.before = before
        self._call = call
        self._channel: Channel | None = None
        self._ratios: asyncio.Queue[float | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(connection, kind, parameters))
        self._task.add_done_callback(self._end)

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def _read(self, connection: Connection, kind: ModelKind, parameters: Json) -> LoadedModel:
        highest = -1.0
        with translated(self._call):
            async with connection.channel(kind, "loadModel", parameters) as self._channel:
                while (packet := await self._channel.receive(None)) is not None:
                    if packet.get("type") == "success":
                        return loaded_model(packet["info"])
                    ratio = number_of(packet, "progress")
                    if ratio is not None and ratio > highest:
                        highest = ratio
                        self._ratios.put_nowait(min(1.0, ratio))
        raise classify(ServerFault(title="the server ended the load without a result"), self._call)

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
        if self._channel is None:
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


class Patience:
    """The deadlines of one prediction, as times of the running loop.

    Only waiting counts against "between tokens": that deadline starts anew when the reader comes back for more, so a
    slow reader is not mistaken for a stalled server.
    """

    def __init__(self, limits: Deadlines) -> None:
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        self._started_at = self._clock()
        self._since: float | None = None
        self._advanced_at = self._started_at
        self._read_at = self._started_at
        self._ratio = -1.0

    def resume(self) -> None:
        """The reader waits again; the time it took over the last event is not the server's."""
        self._advanced_at += self._clock() - self._read_at

    def note(self, event: StreamEvent | None) -> None:
        """Something arrived: prompt progress counts when it grows, since a server repeats it while it hangs."""
        self._read_at = self._clock()
        if isinstance(event, PromptProgress):
            if event.ratio <= self._ratio:
                return
            self._ratio = event.ratio
        self._advanced_at = self._read_at

    def restart(self) -> None:
        """Generation is going on, and waiting for the next piece begins now."""
        self._since = self._clock()

    def until(self) -> float | None:
        """When waiting is over; None for never."""
        return min((at for _, _, at in self._deadlines()), default=None)

    def stage(self) -> tuple[str, float]:
        """Which deadline is the nearest one, and its seconds."""
        stage, limit_s, _ = min(self._deadlines(), key=lambda deadline: deadline[2])
        return stage, limit_s

    def _deadlines(self) -> list[tuple[str, float, float]]:
        first = self._since is None
        limits = (
            ("total", self._limits.total_s, self._started_at),
            ("silence", self._limits.silence_s, self._advanced_at),
            ("first token", self._limits.first_token_s if first else None, self._started_at),
            ("between tokens", None if first else self._limits.between_tokens_s, self._since or 0.0),
        )
        return [(stage, limit_s, since + limit_s) for stage, limit_s, since in limits if limit_s is not None]


async def next_event(channel: Channel, reader: PredictionReader, patience: Patience) -> StreamEvent:
    """The next event of a prediction; after `Finished` the channel counts as ended."""
    patience.resume()
    if reader.generated:
        patience.restart()
    while True:
        try:
            packet = await channel.receive(patience.until())
        except TimeoutError as exc:
            raise _stalled(reader, patience) from exc
        if packet is None:
            raise reader.closed_early()
        event, generating = reader.read(packet, time.perf_counter())
        patience.note(event)
        if isinstance(event, Finished):
            channel.ended = True
        if event is not None:
            return event
        if generating:
            patience.restart()


def _stalled(reader: PredictionReader, patience: Patience) -> StreamStalledError:
    stage, waited_s = patience.stage()
    wanted = {
        "first token": "sent no first token",
        "between tokens": "sent no further token",
        "silence": "made no progress",
        "total": "was not done",
    }
    return StreamStalledError(
        f"{reader.model} {wanted[stage]} within {waited_s:g} s; the answer was cancelled; raise the timeout, or look "
        "whether the server is busy",
        stage=stage,
        waited_s=waited_s,
        partial_text=reader.text,
        model_key=reader.model,
    )
