"""Server-sent events. Headers go out with the first event, so that a failure before it still has a status."""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

_HEADERS: Final = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}


class EventStream:
    """The events of one response."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(headers=_HEADERS)

    @property
    def started(self) -> bool:
        """Whether anything went out, so that failures have to follow as events."""
        return self.response.prepared

    async def send(self, data: dict[str, Any] | str, event: str | None = None) -> None:
        """Send one event; text goes out as it is."""
        if not self.response.prepared:
            await self.response.prepare(self._request)
        text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
        head = f"event: {event}\n" if event else ""
        await self.response.write(f"{head}data: {text}\n\n".encode())

    async def end(self) -> web.StreamResponse:
        """Close the stream."""
        await self.response.write_eof()
        return self.response
