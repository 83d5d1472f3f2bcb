"""Open connections: how long one may keep us waiting, and how many there may be.

Anybody who reaches the port can open sockets and leave them there: with half a header, with a body in drops, without a
word, or upgraded and never authenticated. Such a connection owes us something, and has a time by which it must come.
When there are too many connections, the one that has owed us something for longest makes room, so that a flood of them
keeps nobody out. What is being answered, and websockets that have authenticated, are left alone.

`Connection` stands between the transport and aiohttp's own protocol, and passes everything on.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from lmstrix.engine.faults import EngineFault
from lmstrix.ground.addresses import is_loopback

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from aiohttp import web

    State = Literal["header", "idle", "answering", "handshake", "settled"]

_NOTE_S: Final = 60.0
"""Between two lines in the log that say the same."""
_MAX_OPEN: Final = 1000
_BACKLOG: Final = 128
"""Connections the system holds for us while the loop is busy; aiohttp's own default."""


def _most_connections() -> int:
    """How many may be open: at most half of the files we may have open, as models and documents need some too."""
    if sys.platform == "win32":
        return _MAX_OPEN
    import resource

    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_OPEN if open_files == resource.RLIM_INFINITY else min(_MAX_OPEN, open_files // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What a connection may take before it is somebody's. Times as in Apache's mod_reqtimeout and nginx's defaults.

    Attributes:
        header_s: until a request's header is complete, from the first byte; from the start for the first request.
        idle_s: between two requests.
        body_grace_s: until a body's pace is looked at.
        body_bytes_per_second: its least pace, on average; the slowest mobile networks have some 10 KB/s.
        handshake_bytes: what a websocket may send before it is let in.
        most: open connections in all.
        most_per_address: of one address, other than this machine's own, which all programs on it share.
    """

    header_s: float = 10.0
    idle_s: float = 75.0
    body_grace_s: float = 20.0
    body_bytes_per_second: int = 8 * 2**10
    handshake_bytes: int = 2**20
    most: int = _MAX_OPEN
    most_per_address: int = 200


class Connections:
    """All connections of one engine. `note` gets a line for the log."""

    def __init__(self, note: Callable[[str], None], limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits(most=_most_connections())
        self._note = note
        self._noted_at: float | None = None
        # In the order in which they began to wait: whoever changes its state goes to the end.
        self._open: dict[Connection, None] = {}

    async def listen(self, listener: socket.socket, runner: web.AppRunner) -> asyncio.Server:
        """Accept connections of a socket for as long as what this returns is not closed."""
        handlers = runner.server
        assert handlers is not None
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Connection(handlers(), self), sock=listener, backlog=_BACKLOG)

    def of(self, request: web.Request) -> Connection | None:
        """The connection a request came by; None when it is gone."""
        protocol = None if request.transport is None else request.transport.get_protocol()
        return protocol if isinstance(protocol, Connection) else None

    def admit(self, new: Connection) -> bool:
        """Take a connection in, unless there is no room and nobody to make some."""
        limits = self.limits
        same = [each for each in self._open if each.address == new.address]
        crowded = len(same) >= limits.most_per_address and not new.is_local
        if crowded or len(self._open) >= limits.most:
            self._tell_full(new, crowded=crowded)
            waiting = next((each for each in (same if crowded else self._open) if each.owes), None)
            if waiting is None:
                return False
            waiting.end(503, "There are too many connections, and this one has asked for nothing for longest.")
        self._open[new] = None
        return True

    def moved(self, connection: Connection) -> None:
        """A connection has begun to wait for something else."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def left(self, connection: Connection) -> None:
        """A connection is gone."""
        self._open.pop(connection, None)

    def _tell_full(self, new: Connection, *, crowded: bool) -> None:
        now = asyncio.get_running_loop().time()
        if self._noted_at is not None and now - self._noted_at < _NOTE_S:
            return
        self._noted_at = now
        count = f"{self.limits.most_per_address} connections from {new.address}" if crowded else f"{self.limits.most}"
        self._note(f"all {count} that may be open are: those that ask for nothing make room")


class Connection(asyncio.Protocol):
    """One connection. `owes` says whether we wait for its client, not the client for us."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._limits = connections.limits
        self._loop = asyncio.get_running_loop()
        self._state: State = "header"
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._received_bytes = 0
        self._admitted = False
        self.address = ""
        self.is_local = True

    @property
    def owes(self) -> bool:
        """Whether its client is to send something before anything goes on."""
        return self._state in ("header", "idle", "handshake")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self.is_local = not peer or is_loopback(self.address)
        if not self._connections.admit(self):
            self.end(503, "There are too many connections: try again later.")
            return
        self._admitted = True
        self._inner.connection_made(transport)
        self._enter("header", self._limits.header_s)

    def data_received(self, data: bytes) -> None:
        """Pass on what the client sends."""
        if self._transport is None:
            return
        self._received_bytes += len(data)
        if self._state == "idle":
            self._enter("header", self._limits.header_s)
        elif self._state == "handshake" and self._received_bytes > self._limits.handshake_bytes:
            self.end(413, "That is too much for an authentication frame.")
            return
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on that the client sends no more."""
        return self._inner.eof_received() if self._transport is not None else None

    def pause_writing(self) -> None:
        """Pass on that the client reads too slowly."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it has caught up."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that it is gone."""
        self._stop_timer()
        self._transport = None
        self._connections.left(self)
        if self._admitted:
            self._inner.connection_lost(exc)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """The header has come; the answer takes the time it takes."""
        self._received_bytes = 0
        self._enter("answering")
        try:
            yield
        finally:
            if self._transport is not None:
                self._enter("idle", self._limits.idle_s)

    def expect_body(self, request: web.Request) -> None:
        """From now on the body must come, not in drops."""
        if not request.content.is_eof():
            self._stop_timer()
            started_at = self._loop.time()
            self._timer = self._loop.call_later(self._limits.body_grace_s, self._check_body, request, started_at)

    def expect_authentication(self) -> None:
        """It has become a websocket, whose session waits for the first frame, for so long."""
        self._received_bytes = 0
        self._enter("handshake")

    def settle(self) -> None:
        """It is an authenticated websocket, and may be silent for as long as it likes."""
        self._enter("settled")

    def end(self, status: int, reason: str) -> None:
        """Close it, and tell why where the client may be reading an answer."""
        transport, self._transport = self._transport, None
        self._stop_timer()
        self._connections.left(self)
        if transport is None:
            return
        # A websocket reads no HTTP any more; and to somebody who has sent nothing there is nothing to answer.
        if self._state == "header" and (self._received_bytes or status == 503):
            transport.write(_answer(status, reason))
        transport.close()

    def _enter(self, state: State, limit_s: float | None = None) -> None:
        self._state = state
        self._stop_timer()
        self._connections.moved(self)
        if limit_s is not None:
            self._timer = self._loop.call_later(limit_s, self._expire, limit_s)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, limit_s: float) -> None:
        # The last answer may be long and its reader slow: that is no idleness yet.
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._enter(self._state, limit_s)
        else:
            self.end(408, f"The request's header was not complete after {limit_s:g} s.")

    def _check_body(self, request: web.Request, started_at: float) -> None:
        """Fail the reading of a body that comes too slowly; the answer then says so."""
        limits = self._limits
        self._timer = None
        if request.content.is_eof():
            return
        elapsed_s = self._loop.time() - started_at
        if self._received_bytes < limits.body_bytes_per_second * elapsed_s:
            request.content.set_exception(
                EngineFault(
                    f"The request's body came too slowly: {self._received_bytes} bytes in {elapsed_s:.0f} s.",
                    kind="timeout",
                )
            )
            return
        self._timer = self._loop.call_later(limits.body_grace_s, self._check_body, request, started_at)


def _answer(status: int, reason: str) -> bytes:
    """A whole HTTP answer: at this point there is no request that aiohttp could answer."""
    phrase = {408: "Request Timeout", 413: "Content Too Large", 503: "Service Unavailable"}[status]
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = json.dumps({"error": {"type": kind, "message": reason}}).encode()
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
