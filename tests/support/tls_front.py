"""A TLS listener before a plain server, as a reverse proxy is: it keeps the head of each connection's first request."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

CERTIFICATE = Path(__file__).parent.parent / "data" / "tls" / "certificate.pem"
"""Signed by itself, for 127.0.0.1, for a hundred years."""


class TlsFront:
    """Hands on what comes over TLS to the plain server at `address`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._behind = (host, int(port))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.heads: list[str] = []
        self.address = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(timeout=10)
        self.address = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # Sockets that were aborted are closed by the loop, in its next turns.
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = [writer]
        with suppress(OSError, asyncio.IncompleteReadError), _aborted(opened):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            behind, to_server = await asyncio.open_connection(*self._behind)
            opened.append(to_server)
            to_server.write(head)
            await asyncio.gather(_pump(reader, to_server), _pump(behind, writer))


@contextmanager
def _aborted(opened: list[asyncio.StreamWriter]) -> Iterator[None]:
    """Leave no socket to the garbage collector, however the block ends."""
    try:
        yield
    finally:
        for each in opened:
            each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
