"""The SDK's websocket sessions, with deadlines, reconnection and raw packets.

The SDK's asynchronous client has no deadlines, connects five namespaces in a row where two do, and leaves a session
whose socket broke unusable. So its sessions are taken one by one, each connected when first needed and replaced when
its socket is gone; requests and packets are plain JSON, because the SDK's typed ones drop fields. Exceptions leave this
module as the SDK raises them.

That takes names the SDK keeps private, in this module alone (and `_raw_error`, the server's error unread, in
`api.failures`): the session classes `_Async…Session…` with their `_create_channel` and `_resource_manager`; the
client's `_task_manager`, and its `_auth_details` with `_format_auth_message`, since 1.5 knows no API token; the
`_AsyncLMStudioWebsocket` and its handler's `_enqueue_message`, because a frame that is `null` puts the SDK into an
endless loop; `_lmsws._ws_handler._ws`, which tells whether a socket still stands; and what a `ChannelEndpoint` is made
of. They are those of lmstudio 1.5 and may change in any 1.x: the dependency must not reach beyond the minor version the
tests have seen.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import lmstudio
from httpx_ws import aconnect_ws
from lmstudio._ws_impl import AsyncWebsocketHandler
from lmstudio.async_api import (
    AsyncChannel,
    _AsyncLMStudioWebsocket,
    _AsyncSession,
    _AsyncSessionEmbedding,
    _AsyncSessionFiles,
    _AsyncSessionLlm,
    _AsyncSessionSystem,
)
from lmstudio.json_api import ChannelEndpoint, ChannelFinishedEvent, ChannelRxEvent

from lmstrix.api.failures import is_broken_connection
from lmstrix.api.http_client import open_http
from lmstrix.api.retry import with_retries
from lmstrix.ground.access import ANY_SERVER, ServerAccess
from lmstrix.ground.errors import SettingsError
from lmstrix.ground.tasks import within

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping

    from lmstudio.schemas import AnyLMStudioStruct

    from lmstrix.api.convert import Json, JsonView
    from lmstrix.ground.types import ServerInfo

WireNamespace = Literal["llm", "embedding", "system", "files", "runtime"]


class _RuntimeSession(_AsyncSession):
    """The namespace of engines and hardware, for which the SDK has no session."""

    API_NAMESPACE = "runtime"


_SESSION_TYPES: Mapping[str, type[_AsyncSession]] = {
    "llm": _AsyncSessionLlm,
    "embedding": _AsyncSessionEmbedding,
    "system": _AsyncSessionSystem,
    "files": _AsyncSessionFiles,
    "runtime": _RuntimeSession,
}
_HANG_UP_S = 0.5  # for each step of closing: a server that says nothing to a goodbye is left without one
_TOKEN_PREFIX = "sk-lm-"  # noqa: S105 - the public shape of every token, not one
# The SDK logs under the names of its classes, and of ours that stand in for them; without a handler of their own its
# warnings would land on the user's terminal.
_SDK_LOGGERS = (
    "_Handler",
    "_Websocket",
    "ChannelHandler",
    "AsyncRemoteCall",
    "RemoteCallHandler",
    "RawEndpoint",
)


class _Parameters:
    """Request parameters in the form the SDK sends: something with `to_dict`."""

    def __init__(self, parameters: Json) -> None:
        self._parameters = parameters

    def to_dict(self) -> Json:
        return self._parameters


class RawEndpoint(ChannelEndpoint[dict[str, Any], ChannelRxEvent[Any], dict[str, Any]]):
    """A channel whose packets are taken as they are; its result is the last one."""

    def __init__(self, endpoint: str, parameters: Json) -> None:
        super().__init__({})
        self._API_ENDPOINT = endpoint
        self._NOTICE_PREFIX = endpoint
        self._creation_params = parameters

    def iter_message_events(self, contents: JsonView | None) -> Iterable[ChannelRxEvent[Any]]:
        yield ChannelFinishedEvent(None) if contents is None else ChannelRxEvent(contents)

    def handle_rx_event(self, event: ChannelRxEvent[Any]) -> None:
        if event.arg is None:
            self._is_finished = True
        else:
            self._result = event.arg


class _Handler(AsyncWebsocketHandler):
    """Reads one socket. The SDK's own takes a `null` for the end, and then reads nothing from nowhere for ever.

    And it opens the socket with a client of its own: without headers of ours, with the system's certificates alone,
    which take 30 ms to read even where the socket is a plain one, and through a proxy even to this machine.
    """

    access: ServerAccess = ANY_SERVER

    async def _handle_ws(self) -> None:
        # What the SDK does, but for the client that the socket is opened with.
        async with AsyncExitStack() as stack:
            try:
                http = open_http(self._ws_url.replace("ws", "http", 1), access=replace(self.access, api_token=None))
                await stack.enter_async_context(http)
                self._ws = await stack.enter_async_context(aconnect_ws(self._ws_url, http))
            except Exception as exc:
                self._connection_failure = exc
                raise
            try:
                if await self._authenticate():
                    self._connection_attempted.set()
                    await self._receive_messages()
            finally:
                await self.notify_client_termination()
                self._ws = None

    async def _enqueue_message(self, message: Any) -> bool:
        if not isinstance(message, dict):
            # As when the socket breaks: whoever waits for an answer on it hears of it, and the next call reconnects.
            raise lmstudio.LMStudioWebsocketError(f"Received a frame that is no object: {str(message)[:40]}")
        return await super()._enqueue_message(message)


class _Websocket(_AsyncLMStudioWebsocket):
    """The SDK's socket of one session, read by our handler."""

    def __init__(self, client: lmstudio.AsyncClient, url: str, access: ServerAccess) -> None:
        super().__init__(client._task_manager, url, client._auth_details)
        self._ws_handler = _Handler(client._task_manager, url, client._auth_details)
        self._ws_handler.access = access


class ClientChannel:
    """One open channel. `receive` may be cancelled and called again.

    `ended` is set once nothing more will come. Whoever reads the last packet sets it too: nobody waits for the close.
    """

    def __init__(self, channel: AsyncChannel[Any]) -> None:
        self._channel = channel
        self._packets = channel.rx_stream()
        self.ended = False

    async def receive(self) -> JsonView | None:
        """The next packet, None once the server closed the channel."""
        try:
            packet = await anext(self._packets, None)
        except asyncio.CancelledError:
            # A generator ends with the wait that was cancelled in it, and what follows the cancel is yet to be read.
            self._packets = self._channel.rx_stream()
            raise
        except Exception:
            self.ended = True
            raise
        self.ended = packet is None
        return packet

    async def ask_to_stop(self) -> None:
        """Tell the server to cancel. A connection that breaks here is reported to the next reader of the channel."""
        with suppress(lmstudio.LMStudioError, OSError):
            async with asyncio.timeout(_HANG_UP_S):
                await self._channel.cancel()

    async def cancel(self, grace_s: float) -> None:
        """Tell the server to cancel, and give it up to `grace_s` to say it has; nothing to do once it ended."""
        if self.ended:
            return
        until = asyncio.get_running_loop().time() + grace_s
        await self.ask_to_stop()
        with suppress(lmstudio.LMStudioError, OSError):  # TimeoutError is an OSError
            async with asyncio.timeout_at(until):
                while await self.receive() is not None:
                    pass

    async def aclose(self) -> None:
        """Stop reading; the SDK then ignores what still comes."""
        await cast("AsyncGenerator[Any]", self._packets).aclose()


class WireConnection:
    """The sessions to one server. Everything runs on the loop of the first call."""

    def __init__(self, server: ServerInfo, *, access: ServerAccess = ANY_SERVER, connect_s: float | None = 5.0) -> None:
        self._url = server.websocket_url
        self._access = access
        self._connect_s = connect_s
        self._client = lmstudio.AsyncClient(server.address)
        if access.api_token:  # before the first connection: the SDK reads it when it connects
            self._client._auth_details = self._client._format_auth_message(*_split_token(access.api_token))
        self._sessions: dict[WireNamespace, _AsyncSession] = {}
        self._locks: dict[WireNamespace, asyncio.Lock] = {}
        for name in _SDK_LOGGERS:
            logger = logging.getLogger(name)
            if not logger.handlers:
                logger.addHandler(logging.NullHandler())

    async def session(self, namespace: WireNamespace) -> _AsyncSession:
        """A session whose socket stands, connected now if it does not."""
        session = self._sessions.get(namespace)
        if session is not None and _stands(session):
            return session
        connect = partial(self._connect, namespace)
        return await with_retries(
            connect, passes=is_broken_connection, limit_s=self._connect_s, retries=self._access.retries
        )

    async def _connect(self, namespace: WireNamespace) -> _AsyncSession:
        async with self._locks.setdefault(namespace, asyncio.Lock()):
            session = self._sessions.get(namespace)
            if session is not None and _stands(session):
                return session  # connected by another call while this one waited for the lock
            if session is not None:
                await _hang_up(session)
            # Its tasks belong to the loop that enters it, so it is entered here and not in the constructor.
            if not self._client._task_manager.activated:
                await self._client._task_manager.__aenter__()
            session = _SESSION_TYPES[namespace](self._client)
            # What its `connect` does, but for the handler.
            websocket = _Websocket(self._client, f"{self._url}/{namespace}", self._access)
            session._lmsws = await session._resource_manager.enter_async_context(websocket)
            self._sessions[namespace] = session
            return session

    async def call(self, namespace: WireNamespace, endpoint: str, parameters: Json | None) -> Any:
        """The raw result of a remote call."""
        session = await self.session(namespace)
        packed = cast("AnyLMStudioStruct", _Parameters(parameters)) if parameters is not None else None
        return await session.remote_call(endpoint, packed)

    @asynccontextmanager
    async def channel(self, namespace: WireNamespace, endpoint: str, parameters: Json) -> AsyncIterator[ClientChannel]:
        """An open channel; leaving it does not stop the server, `ClientChannel.cancel` does."""
        session = await self.session(namespace)
        opening = session._create_channel(RawEndpoint(endpoint, parameters))
        channel = ClientChannel(await _entered(opening))
        try:
            yield channel
        finally:
            await channel.aclose()
            await opening.__aexit__(None, None, None)

    async def close(self) -> None:
        """Close every session."""
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(_hang_up(session) for session in sessions))
        await within(_HANG_UP_S, self._client._task_manager.__aexit__(None, None, None))


async def _entered(opening: AbstractAsyncContextManager[AsyncChannel[Any]]) -> AsyncChannel[Any]:
    """The open channel. Cancelled meanwhile, it is opened all the same and the server told to stop.

    The request may have reached the server when the cancellation comes; untold, the server would work for nobody.
    """
    task = asyncio.ensure_future(opening.__aenter__())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(lmstudio.LMStudioError, OSError):
            async with asyncio.timeout(_HANG_UP_S):
                await (await task).cancel()
        await opening.__aexit__(None, None, None)
        raise


def _stands(session: _AsyncSession) -> bool:
    websocket = session._lmsws
    return websocket is not None and websocket._ws_handler._ws is not None


async def _hang_up(session: _AsyncSession) -> None:
    await within(_HANG_UP_S, session.disconnect())


def _split_token(token: str) -> tuple[str, str]:
    """An API token as the identifier and pass key of the greeting frame."""
    identifier, colon, passkey = token.removeprefix(_TOKEN_PREFIX).partition(":")
    if not (token.startswith(_TOKEN_PREFIX) and identifier and colon and passkey):
        raise SettingsError("the API token is not of the form sk-lm-xxxxxxxx:yyyy…; copy it again from LM Studio")
    return identifier, passkey
