"""One client on one websocket: authentication, then calls and channels side by side until the socket closes.

Calls and channels run as tasks; every task writes its own frames, whole, so frames of one channel keep their order and
a generated token costs one write and no task. A channel ends with exactly one frame: channelClose, or channelError.
When the client goes, everything it still had running is cancelled: predictions stop and unfinished loads are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from aiohttp import WSMsgType, web

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.protocol import wire
from lmstrix.ground.log_text import failure_text

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lmstrix.engine.access import ClientIdentity
    from lmstrix.engine.records import FragmentEvent

AUTH_TIMEOUT_S: Final = 10.0
MAX_WARNINGS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """What one connection may have under way; more is refused, call by call, until some have ended."""

    calls: int = 1024
    """Calls and open channels: fifty clients of one program share a connection, and each asks a few things at once."""
    characters: int = 256 * 2**20
    """Of their frames: four of the longest there can be."""


LIMITS: Final = SessionLimits()
_WARNING_KINDS: Final = {"rpc": "rpcEndpointUnknown", "channel": "channelEndpointUnknown"}


class Socket(Protocol):
    """The part of a websocket a session writes to."""

    async def send_str(self, data: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcRequest:
    """What a remote call gets: who asks, and for what."""

    client: ClientIdentity
    parameter: Mapping[str, Any]


class ServerChannel:
    """What a channel's handler gets: who asks, for what, a way to send packets, and the word to stop."""

    def __init__(self, socket: Socket, channel_id: int, client: ClientIdentity, parameter: Mapping[str, Any]) -> None:
        self.client = client
        self.parameter = parameter
        self.stopped = asyncio.Event()
        self._socket = socket
        self._id = channel_id
        self._on_stop: Callable[[], object] | None = None

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one packet."""
        await self._socket.send_str(wire.channel_send(self._id, message))

    async def send_fragment(self, event: FragmentEvent, *, tokens: bool) -> None:
        """Send one piece of generated text."""
        await self._socket.send_str(wire.channel_fragment(self._id, event, tokens))

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Call back when the client says cancel or stop; at once when it already did."""
        # A client may cancel before the handler has come as far as listening.
        self._on_stop = callback
        if self.stopped.is_set():
            callback()

    def receive(self, message: wire.Json) -> None:
        """Take a packet from the client; the only ones there are mean stop."""
        if isinstance(message, Mapping) and message.get("type") in ("cancel", "stop") and not self.stopped.is_set():
            self.stopped.set()
            if self._on_stop is not None:
                self._on_stop()


RpcHandler: TypeAlias = Callable[[RpcRequest], Awaitable[Any]]
ChannelHandler: TypeAlias = Callable[[ServerChannel], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointNamespace:
    """The endpoints behind one path. A void call returns wire.ABSENT."""

    calls: Mapping[str, RpcHandler]
    channels: Mapping[str, ChannelHandler]


class Session:
    """Serves one authenticated client on one namespace until it leaves."""

    def __init__(
        self, socket: Socket, namespace: EndpointNamespace, client: ClientIdentity, log: Callable[[str], None]
    ) -> None:
        self._socket = socket
        self._namespace = namespace
        self._client = client
        self._log = log
        self._channels: dict[int, ServerChannel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._characters_under_way = 0
        self._warnings_left = MAX_WARNINGS

    async def receive(self, text: str) -> None:
        """Handle one frame."""
        try:
            frame = wire.parse_frame(text)
        except wire.FrameError as exc:
            await self._warn(str(exc))
            return
        match frame:
            case wire.RpcCall():
                await self._start_call(frame, len(text))
            case wire.ChannelCreate():
                await self._start_channel(frame, len(text))
            case wire.UnreadableCall():
                refuse = wire.rpc_error if frame.kind == "rpcCall" else wire.channel_error
                await self._socket.send_str(refuse(frame.id, EngineFault(frame.why, kind="invalid")))
            case wire.ChannelSend():
                channel = self._channels.get(frame.channel_id)
                if channel is not None:  # a packet for a finished channel has only crossed our last one
                    channel.receive(frame.message)
            case wire.SignalSubscribe():
                await self._socket.send_str(wire.signal_error(frame, _unknown_endpoint(frame.endpoint)))
            case wire.KeepAlive():
                await self._socket.send_str(wire.KEEP_ALIVE_ACK)
            case wire.ClientWarning():
                self._log(f"the client did not understand us: {frame.warning}")

    async def close(self) -> None:
        """Cancel what still runs, and wait until it has let go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _start_call(self, frame: wire.RpcCall, size: int) -> None:
        handler = self._namespace.calls.get(frame.endpoint)
        if handler is None:
            # Both: the warning is for whoever reads the client's log, the error ends the call that waits.
            await self._warn_endpoint("rpc", frame.endpoint)
            await self._socket.send_str(wire.rpc_error(frame.call_id, _unknown_endpoint(frame.endpoint)))
            return
        if (overload := self._overload(size)) is not None:
            await self._socket.send_str(wire.rpc_error(frame.call_id, overload))
            return
        self._spawn(self._run_call(handler, frame), size)

    async def _start_channel(self, frame: wire.ChannelCreate, size: int) -> None:
        handler = self._namespace.channels.get(frame.endpoint)
        if handler is None:
            await self._warn_endpoint("channel", frame.endpoint)
            await self._socket.send_str(wire.channel_error(frame.channel_id, _unknown_endpoint(frame.endpoint)))
            return
        if frame.channel_id in self._channels:
            await self._warn(f"channel {frame.channel_id} is already open", "channelAlreadyOpen")
            return
        if (overload := self._overload(size)) is not None:
            await self._socket.send_str(wire.channel_error(frame.channel_id, overload))
            return
        try:
            channel = ServerChannel(self._socket, frame.channel_id, self._client, _parameter(frame.parameter))
        except EngineFault as fault:
            await self._socket.send_str(wire.channel_error(frame.channel_id, fault))
            return
        # Before the task runs: a cancel in the very next frame must find the channel.
        self._channels[frame.channel_id] = channel
        self._spawn(self._run_channel(handler, channel, frame.channel_id), size)

    def _overload(self, size: int) -> EngineFault | None:
        """Why a call of `size` characters cannot be taken beside those under way, if it cannot."""
        if len(self._tasks) >= LIMITS.calls:
            what = f"{LIMITS.calls} calls are under way"
        # One that is alone may be as large as a message can be.
        elif self._tasks and self._characters_under_way + size > LIMITS.characters:
            what = f"the calls under way hold {LIMITS.characters // 2**20} MiB"
        else:
            return None
        return EngineFault(
            f"This connection does too much at once: {what}.", kind="refused", suggestion="Wait until some have ended."
        )

    def _spawn(self, work: Any, size: int) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._characters_under_way += size
        # A loop keeps only weak references to tasks.
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._forget(ended, size))

    def _forget(self, ended: asyncio.Task[None], size: int) -> None:
        self._tasks.discard(ended)
        self._characters_under_way -= size

    async def _run_call(self, handler: RpcHandler, frame: wire.RpcCall) -> None:
        try:
            result = await handler(RpcRequest(client=self._client, parameter=_parameter(frame.parameter)))
            answer = wire.rpc_result(frame.call_id, result)
        except EngineFault as fault:
            answer = wire.rpc_error(frame.call_id, fault)
        except Exception as exc:  # noqa: BLE001 - the edge of a request: the client must get an answer, whatever broke
            answer = wire.rpc_error(frame.call_id, self._internal(frame.endpoint, exc))
        await self._last_word(answer)

    async def _run_channel(self, handler: ChannelHandler, channel: ServerChannel, channel_id: int) -> None:
        try:
            await handler(channel)
            last = wire.channel_close(channel_id)
        except EngineFault as fault:
            last = wire.channel_error(channel_id, fault)
        except ConnectionError:  # the client is gone; there is nobody to tell
            return
        except Exception as exc:  # noqa: BLE001 - as above
            last = wire.channel_error(channel_id, self._internal("channel", exc))
        finally:
            # Before the last frame: a client may open the same number again as soon as it has read that.
            del self._channels[channel_id]
        await self._last_word(last)

    async def _last_word(self, text: str) -> None:
        with contextlib.suppress(ConnectionError):
            await self._socket.send_str(text)

    def _internal(self, endpoint: str, exc: Exception) -> EngineFault:
        self._log(f"endpoint {endpoint} failed: {failure_text(exc)}")
        return EngineFault(
            "Internal error of the embedded engine.", kind="internal", cause=f"{type(exc).__name__}: {exc}"
        )

    async def _warn_endpoint(self, what: str, endpoint: str) -> None:
        await self._warn(f"Received {what} for unknown endpoint, endpoint = {endpoint}", _WARNING_KINDS[what])

    async def _warn(self, text: str, kind: str = "unknown") -> None:
        self._log(f"warned a client: {text}")
        # Clients print every warning; one that speaks a newer protocol would flood its user.
        if self._warnings_left > 0:
            self._warnings_left -= 1
            await self._socket.send_str(wire.warning(text, kind))


def _parameter(value: object) -> Mapping[str, Any]:
    """A parameter as an object; one that is absent or null is an empty one."""
    # Some clients leave the field out, others send null; both mean a call without parameters.
    if value is wire.ABSENT or value is None:
        return {}
    if not isinstance(value, Mapping):
        raise EngineFault(f"A parameter must be an object, not {type(value).__name__}.", kind="invalid")
    return value


def _unknown_endpoint(endpoint: str) -> EngineFault:
    return EngineFault(f"Unknown endpoint: {endpoint}", kind="unsupported")


async def serve_websocket(
    socket: web.WebSocketResponse,
    namespace: EndpointNamespace,
    *,
    authenticate: Callable[[ClientIdentity], str | None],
    connected: Callable[[ClientIdentity], AbstractContextManager[None]],
    log: Callable[[str], None],
) -> None:
    """Run one websocket from its authentication frame to its end.

    `authenticate` returns the reason for a refusal; `connected` is entered for as long as an accepted client stays.
    """
    client = await _read_auth(socket)
    if client is None:
        with contextlib.suppress(ConnectionError):
            await socket.send_str(wire.auth_result(f"No authentication frame came within {AUTH_TIMEOUT_S:g} s"))
        await socket.close()
        return
    refusal = authenticate(client)
    # Answered even when refused: the reason is what the SDK shows its user.
    await socket.send_str(wire.auth_result(refusal))
    if refusal is not None:
        log(f"refused client {client.identifier!r}: {refusal}")
        await socket.close()
        return
    session = Session(socket, namespace, client, log)
    with connected(client), contextlib.suppress(ConnectionError):
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await session.receive(message.data)
        finally:
            await session.close()


async def _read_auth(socket: web.WebSocketResponse) -> ClientIdentity | None:
    """The first readable authentication frame, or None when none comes in time; other frames are passed over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(AUTH_TIMEOUT_S):
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    with contextlib.suppress(wire.FrameError):
                        return wire.parse_auth(message.data)
    return None
