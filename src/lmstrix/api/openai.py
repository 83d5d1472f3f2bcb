"""AsyncOpenAIBackend: predictions of any server that speaks OpenAI's HTTP interface, timed like LM Studio's.

Streams /chat/completions, and /completions for raw prompts, and asks for usage. Such a server loads its models by
itself, so there is nothing here to load.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from lmstrix.api.convert import Json, count_of, list_of, mapping_or_none, object_of, text_of
from lmstrix.api.http_client import open_http, read
from lmstrix.api.openai_stream import OpenAIReader, error_message, openai_failure, server_sent_events
from lmstrix.ground.access import ANY_SERVER, ServerAccess
from lmstrix.ground.errors import (
    AuthenticationError,
    BackendTimeoutError,
    BackendUnavailableError,
    LMStrixError,
    UsageError,
)
from lmstrix.ground.types import Deadlines, Finished, GenerationRequest, StreamEvent
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection

    import httpx


_NEEDED = frozenset(("model", "stream", "messages", "prompt"))


class OfferedModel(NamedTuple):
    """A model by its name at a server; its file's size and quantization where the server tells them."""

    name: str
    size_bytes: int | None = None
    quantization: str | None = None


class AsyncOpenAIBackend:
    """A server by its base URL ("http://127.0.0.1:8080/v1", with or without "openai:" before it).

    `leave_out` names parameters that requests are not to carry, where a server refuses what it does not know.
    """

    def __init__(
        self,
        url: str,
        *,
        access: ServerAccess = ANY_SERVER,
        deadlines: Deadlines | None = None,
        leave_out: Collection[str] = (),
    ) -> None:
        needed = next((name for name in leave_out if name in _NEEDED), None)
        if needed is not None:
            raise UsageError(f"{needed!r} cannot be left out: without it there is no request")
        self._leave_out = frozenset(leave_out)
        self._url = url.removeprefix("openai:").rstrip("/")
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no server's URL; write it like openai:http://127.0.0.1:8080/v1")
        # People give the host and port that a server prints; the interface is below /v1.
        if not parts.path.strip("/"):
            self._url += "/v1"
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._access = access
        self._deadlines = deadlines or Deadlines()
        self._opened: httpx.AsyncClient | None = None

    @property
    def address(self) -> str:
        """host:port."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    @property
    def url(self) -> str:
        """The base URL in use."""
        return self._url

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()

    async def list_models(self) -> list[str]:
        """The names of the models the server offers."""
        return [model.name for model in await self.offered_models()]

    async def offered_models(self) -> list[OfferedModel]:
        """The models the server offers, with what it says of their files."""
        import httpx

        async with self._reported("list its models"):
            try:
                response = await read(self._client(), "models", limit_s=self._deadlines.request_s)
            except httpx.HTTPStatusError as exc:
                response = exc.response  # not ready, however often it was asked
            if response.status_code != 200:
                raise self._refusal(response.status_code, response.content, "")
            entries = list_of(mapping_or_none(response.json()) or {}, "data")
        return [
            OfferedModel(name, count_of(meta := object_of(entry, "meta"), "size"), text_of(meta, "ftype"))
            for entry in entries
            if isinstance(entry, Mapping) and (name := text_of(entry, "id"))
        ]

    async def runtime(self) -> str | None:
        """What runs the models, where the server says so; llama-server does, beside OpenAI's interface."""
        import httpx

        try:
            response = await self._client().get(str(httpx.URL(self._url).copy_with(path="/props")))
            told = text_of(mapping_or_none(response.json()) or {}, "build_info")
        except (httpx.HTTPError, ValueError, RecursionError):
            return None  # a benchmark needs no more than the interface itself
        return f"llama.cpp {told}" if told is not None else None

    async def stream(self, instance_id: str, request: GenerationRequest) -> AsyncGenerator[StreamEvent]:
        """Events of one prediction of the model called `instance_id`; the last is `Finished`."""
        reader = OpenAIReader(instance_id, started_at=time.perf_counter())
        path = "completions" if request.raw_prompt is not None else "chat/completions"
        async with self._reported("answer"):
            fields = _body(instance_id, request)
            body = {name: value for name, value in fields.items() if name not in self._leave_out}
            headers = {"Accept": "text/event-stream"}
            async with self._client().stream("POST", path, json=body, headers=headers) as response:
                if response.status_code != 200:
                    raise self._refusal(response.status_code, await response.aread(), instance_id)
                async with aclosing(server_sent_events(response)) as events:
                    async for data in events:
                        for event in reader.read(data, time.perf_counter()):
                            yield event
            yield Finished(result=reader.result(time.perf_counter()))

    def _client(self) -> httpx.AsyncClient:
        if self._opened is None:
            connect_s = self._deadlines.connect_s
            self._opened = open_http(self._url, access=self._access, connect_s=connect_s, proxies=True)
        return self._opened

    @asynccontextmanager
    async def _reported(self, what: str) -> AsyncGenerator[None]:
        """Let nothing but `lmstrix.ground.errors` out of the block."""
        import httpx

        address = self.address
        try:
            yield
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise BackendTimeoutError(
                f"{address} did not {what} in time; is it busy, or is another program on that port?", address=address
            ) from exc
        except httpx.ConnectError as exc:
            raise BackendUnavailableError(
                f"no server answers at {address} ({exc}); start it, or name another with {parameter('server')}",
                address=address,
            ) from exc
        except httpx.HTTPError as exc:
            raise BackendUnavailableError(
                f"the connection to {address} was lost while it was asked to {what} ({exc or type(exc).__name__}); "
                "is the server running?",
                address=address,
            ) from exc
        except (ValueError, RecursionError) as exc:  # no JSON, or JSON nested to break a reader
            raise BackendUnavailableError(
                f"{address} sent an answer that cannot be read ({exc}); does it speak OpenAI's interface?",
                address=address,
            ) from exc

    def _refusal(self, status: int, content: bytes, model: str) -> LMStrixError:
        """What an HTTP error means."""
        message = error_message(content) or f"HTTP {status}"
        if status in (401, 403):
            return AuthenticationError(f"{self.address} refuses our API key ({message}); set the one it knows")
        return openai_failure(message, content.decode("utf-8", "replace"), model, self.address, status)


def _body(model: str, request: GenerationRequest) -> Json:
    """The request as the interface wants it, without what is left to the server."""
    if request.tools or any(message.images for message in request.messages):
        raise UsageError("tools and images are not offered to servers that are measured by URL; leave them out")
    fields: Json = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},  # without it a stream carries no token counts
        "return_progress": True,  # llama-server; others ignore it
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "min_p": request.min_p,
        "seed": request.seed,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "stop": list(request.stop) or None,
    }
    if request.raw_prompt is not None:
        fields["prompt"] = request.raw_prompt
    else:
        fields["messages"] = [{"role": message.role, "content": message.text} for message in request.messages]
    return {name: value for name, value in fields.items() if value is not None}
