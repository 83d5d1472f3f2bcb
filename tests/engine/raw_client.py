"""A websocket client that shows the frames as they are: what SDKs hide is what these tests are about."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GUEST = {"authVersion": 1, "clientIdentifier": "guest:test", "clientPasskey": "secret"}


class RawClient:
    """One authenticated websocket. Ids count from 0, calls and channels together, as in JavaScript."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.warnings: list[dict[str, Any]] = []
        self._ids = itertools.count()
        self._waiting: dict[tuple[str, int], asyncio.Queue[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.socket:
            frame = json.loads(message.data)
            if frame["type"] == "communicationWarning":
                self.warnings.append(frame)
                continue
            key = ("rpc", frame["callId"]) if "callId" in frame else ("channel", frame["channelId"])
            await self._waiting[key].put(frame)

    async def send(self, frame: dict[str, Any]) -> None:
        """Send a frame."""
        await self.socket.send_str(json.dumps(frame))

    async def rpc(self, endpoint: str, parameter: Any = None) -> dict[str, Any]:
        """Call, and return the whole answering frame."""
        call_id = next(self._ids)
        answers = self._waiting[("rpc", call_id)] = asyncio.Queue()
        frame = {"type": "rpcCall", "endpoint": endpoint, "callId": call_id}
        await self.send(frame if parameter is None else {**frame, "parameter": parameter})
        async with asyncio.timeout(30):
            return await answers.get()

    async def open(self, endpoint: str, parameter: Any = None) -> RawChannel:
        """Open a channel."""
        channel_id = next(self._ids)
        packets = self._waiting[("channel", channel_id)] = asyncio.Queue()
        frame = {"type": "channelCreate", "endpoint": endpoint, "channelId": channel_id}
        await self.send(frame if parameter is None else {**frame, "creationParameter": parameter})
        return RawChannel(self, channel_id, packets)

    async def channel(self, endpoint: str, parameter: Any = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Open a channel and read it out: (messages, terminal frame)."""
        return await (await self.open(endpoint, parameter)).rest()

    async def load(
        self, key: str, fields: dict[str, Any] | None = None, *, identifier: str | None = None
    ) -> dict[str, Any]:
        """Load a model on this namespace and return its info."""
        parameter: dict[str, Any] = {"modelKey": key, "loadConfigStack": stack(fields or {})}
        if identifier is not None:
            parameter["identifier"] = identifier
        messages, last = await self.channel("loadModel", parameter)
        assert last["type"] == "channelClose", last
        info: dict[str, Any] = messages[-1]["info"]
        return info

    async def close(self) -> None:
        """Leave."""
        await self.socket.close()
        await self._reader


class RawChannel:
    """An open channel."""

    def __init__(self, client: RawClient, channel_id: int, packets: asyncio.Queue[dict[str, Any]]) -> None:
        self._client = client
        self.channel_id = channel_id
        self.packets = packets

    async def next(self) -> dict[str, Any]:
        """The next frame."""
        async with asyncio.timeout(30):
            return await self.packets.get()

    async def say(self, kind: str) -> None:
        """Send a packet such as cancel."""
        await self._client.send({"type": "channelSend", "channelId": self.channel_id, "message": {"type": kind}})

    async def rest(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What is still to come: (messages, terminal frame)."""
        messages = []
        while (frame := await self.next())["type"] == "channelSend":
            messages.append(frame["message"])
        return messages, frame


@asynccontextmanager
async def connected(address: str, namespace: str, auth: dict[str, Any] | None = None) -> AsyncIterator[RawClient]:
    """A client on a namespace."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{address}/{namespace}") as socket:
        await socket.send_str(json.dumps(auth or GUEST))
        assert json.loads(await socket.receive_str()) == {"success": True}
        client = RawClient(socket)
        try:
            yield client
        finally:
            await client.close()


def stack(fields: dict[str, Any]) -> dict[str, Any]:
    """A config stack with one layer."""
    config = {"fields": [{"key": key, "value": value} for key, value in fields.items()]}
    return {"layers": [{"layerName": "apiOverride", "config": config}]}


def query(identifier: str) -> dict[str, Any]:
    """A specifier by name."""
    return {"type": "query", "query": {"identifier": identifier}}


def chat(text: str) -> dict[str, Any]:
    """A history of one user message."""
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}


def prediction(identifier: str, text: str, **fields: Any) -> dict[str, Any]:
    """The parameter of `predict`."""
    named = {f"llm.prediction.{key}": value for key, value in fields.items()}
    return {"modelSpecifier": query(identifier), "history": chat(text), "predictionConfigStack": stack(named)}
