"""AsyncOpenAIBackend: predictions of any server that speaks OpenAI's HTTP interface, timed like LM Studio's.

Streams /chat/completions, and /completions for raw prompts, as server-sent events; asks for usage, and takes what
llama-server adds (timings, cached tokens, prompt progress). Such a server loads its models by itself, so there is
nothing here to load. Each request to this machine has a connection of its own, because servers close idle ones on
their side; to others connections are kept, which spares a handshake.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import aclosing, asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from lmstrix.api.convert import JsonView, count_of, number_of, text_of
from lmstrix.ground.errors import (
    AuthenticationError,
    BackendTimeoutError,
    BackendUnavailableError,
    ContextOverflowError,
    EmptyAnswerError,
    GenerationError,
    LMStrixError,
    ModelNotFoundError,
    StreamStalledError,
    UsageError,
)
from lmstrix.ground.types import (
    Deadlines,
    Finished,
    GenerationRequest,
    GenerationResult,
    GenerationStats,
    PromptProgress,
    StopReason,
    StreamEvent,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable

    import httpx

MOST_EVENT_BYTES = 16 * 2**20
"""A longer line is no answer but a flood."""
_STOP_REASONS: Mapping[str, StopReason] = {
    "stop": "eosFound",
    "length": "maxPredictedTokensReached",
    "tool_calls": "toolCalls",
}
_OVERFLOW_MARKS = ("exceed_context_size", "context_length_exceeded", "context size", "maximum context length")
_PASSING = frozenset((429, 502, 503, 504))
_ERROR_CHARS = 300

Json = dict[str, Any]
T = TypeVar("T")


class AsyncOpenAIBackend:
    """A server by its base URL ("http://127.0.0.1:8080/v1", with or without "openai:" before it)."""

    def __init__(self, url: str, *, api_key: str | None = None, deadlines: Deadlines | None = None) -> None:
        self._url = url.removeprefix("openai:").rstrip("/")
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no server's URL; write it like openai:http://127.0.0.1:8080/v1")
        if not parts.path.strip("/"):
            self._url += "/v1"
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._api_key = api_key
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
        async with self._reported("list its models"):
            response = await self._client().get(f"{self._url}/models", timeout=self._deadlines.request_s)
            if response.status_code != 200:
                raise self._refusal(response.status_code, response.content, "")
            body = response.json()
        entries = body.get("data") if isinstance(body, dict) else None
        return [
            name
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, Mapping) and (name := text_of(entry, "id"))
        ]

    async def stream(
        self, instance_id: str, request: GenerationRequest, *, deadlines: Deadlines | None = None
    ) -> AsyncIterator[StreamEvent]:
        """Events of one prediction of the model called `instance_id`; the last is `Finished`."""
        reader = _Reader(instance_id, started_at=time.perf_counter())
        waiting = _Waiting(deadlines or self._deadlines, reader)
        path = "completions" if request.raw_prompt is not None else "chat/completions"
        async with self._reported("answer"):
            asked = self._client().build_request(
                "POST", f"{self._url}/{path}", json=_body(instance_id, request), headers={"Accept": "text/event-stream"}
            )
            response = await waiting.on(self._client().send(asked, stream=True))
            try:
                if response.status_code != 200:
                    raise self._refusal(response.status_code, await waiting.on(response.aread()), instance_id)
                async with aclosing(_events(response)) as events:
                    while (data := await waiting.on(anext(events, None))) is not None:
                        for event in reader.read(data, time.perf_counter()):
                            waiting.restart(event)
                            yield event
            finally:
                await response.aclose()
            yield Finished(result=reader.result(time.perf_counter()))

    def _client(self) -> httpx.AsyncClient:
        import httpx

        if self._opened is None:
            near = _is_loopback(self._host)
            limits = httpx.Limits(max_keepalive_connections=0 if near else 16)
            headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            timeout = httpx.Timeout(None, connect=self._deadlines.connect_s)
            self._opened = httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout, trust_env=not near)
        return self._opened

    @asynccontextmanager
    async def _reported(self, what: str) -> AsyncGenerator[None]:
        """Let nothing but `lmstrix.ground.errors` out of the block."""
        import httpx

        address = self.address
        try:
            yield
        except httpx.TimeoutException as exc:
            raise BackendTimeoutError(
                f"{address} did not {what} in time; is it busy, or is another program on that port?", address=address
            ) from exc
        except httpx.ConnectError as exc:
            raise BackendUnavailableError(
                f"no server answers at {address} ({exc}); start it, or name another with --server", address=address
            ) from exc
        except httpx.HTTPError as exc:
            raise BackendUnavailableError(
                f"the connection to {address} was lost while it was asked to {what} ({exc or type(exc).__name__}); "
                "is the server running?",
                address=address,
            ) from exc
        except (ValueError, RecursionError) as exc:
            raise BackendUnavailableError(
                f"{address} sent an answer that cannot be read ({exc}); does it speak OpenAI's interface?",
                address=address,
            ) from exc

    def _refusal(self, status: int, content: bytes, model: str) -> LMStrixError:
        """What an HTTP error means."""
        message = _error_message(content) or f"HTTP {status}"
        if status in (401, 403):
            return AuthenticationError(f"{self.address} refuses our API key ({message}); set the one it knows")
        return _failure(message, content.decode("utf-8", "replace"), model, self.address, status)


def _failure(message: str, detail: str, model: str, address: str, status: int | None = None) -> LMStrixError:
    """What an error means, by its text and status."""
    shown = " ".join(message.split())[:_ERROR_CHARS]
    if any(mark in detail.lower() for mark in _OVERFLOW_MARKS):
        prompt_tokens, context_length = _overflow_numbers(detail)
        return ContextOverflowError(
            f"the prompt does not fit the context of {model} ({shown}); shorten it or start the server with more",
            model_key=model,
            detail=detail,
            prompt_tokens=prompt_tokens,
            context_length=context_length,
        )
    if status == 404:
        return ModelNotFoundError(
            f"{address} knows no model {model or '?'} or no such path ({shown}); ask it for its models",
            model_key=model,
        )
    if status in _PASSING:
        return BackendUnavailableError(f"{address} is not ready ({shown}); try again later", address=address)
    return GenerationError(
        f"{model} failed to answer ({shown}); the server's log tells more", model_key=model, detail=detail
    )


def _overflow_numbers(detail: str) -> tuple[int | None, int | None]:
    """Prompt and context length as llama-server tells them."""
    try:
        error = json.loads(detail).get("error")
    except (ValueError, AttributeError):
        return None, None
    if not isinstance(error, Mapping):
        return None, None
    return count_of(error, "n_prompt_tokens"), count_of(error, "n_ctx")


def _error_message(content: bytes) -> str:
    try:
        body = json.loads(content)
    except ValueError:
        return content[:_ERROR_CHARS].decode("utf-8", "replace").strip()
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, Mapping):
        return text_of(error, "message") or text_of(error, "detail") or ""
    return error if isinstance(error, str) else ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _body(model: str, request: GenerationRequest) -> Json:
    """The request as the interface wants it; what was left to the server is left out."""
    if request.tools or any(message.images for message in request.messages):
        raise UsageError("tools and images are not offered to servers that are measured by URL; leave them out")
    fields: Json = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
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


async def _events(response: httpx.Response) -> AsyncGenerator[Json]:
    """The JSON objects of a stream of server-sent events, up to its end or [DONE]."""
    data: list[bytes] = []
    async for line in _lines(response):
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif not line and data:
            joined, data = b"\n".join(data), []
            if joined == b"[DONE]":
                return
            event = json.loads(joined)
            if isinstance(event, dict):
                yield event


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes]:
    """Lines as they are complete; what the stream ends in counts as complete, with an empty line after it."""
    pending: list[bytes] = []
    size = 0
    async for piece in response.aiter_bytes():
        head, newline, rest = piece.partition(b"\n")
        pending.append(head)
        size += len(head)
        if size > MOST_EVENT_BYTES:
            raise ValueError(f"a line of more than {MOST_EVENT_BYTES:,} bytes")
        if not newline:
            continue
        lines = [b"".join(pending), *rest.split(b"\n")]
        pending = [lines.pop()]
        size = len(pending[0])
        for line in lines:
            yield line.rstrip(b"\r")
    yield b"".join(pending).rstrip(b"\r")
    yield b""


class _Reader:
    """Reads the events of one prediction. A piece of text counts as an unknown number of tokens."""

    def __init__(self, model: str, *, started_at: float) -> None:
        self.model = model
        self._started_at = started_at
        self._first_at: float | None = None
        self._last_at: float | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._finish: str | None = None
        self._usage: JsonView = {}
        self._timings: JsonView = {}
        self._cached: int | None = None

    @property
    def generated(self) -> bool:
        return self._first_at is not None

    @property
    def text(self) -> str:
        return "".join(self._text)

    def read(self, event: JsonView, at: float) -> list[StreamEvent]:
        """The stream events of one event of the server."""
        if "error" in event:
            content = json.dumps(event).encode()
            raise _failure(_error_message(content), content.decode(), self.model, "the server")
        self._usage = _object(event, "usage") or self._usage
        self._timings = _object(event, "timings") or self._timings
        out: list[StreamEvent] = []
        if progress := _object(event, "prompt_progress"):
            out.append(self._progress(progress))
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, Mapping):
                self._finish = text_of(choice, "finish_reason") or self._finish
                out += self._deltas(choice)
        if any(isinstance(each, TextDelta) for each in out):
            self._first_at = at if self._first_at is None else self._first_at
            self._last_at = at
        return out

    def _progress(self, progress: JsonView) -> PromptProgress:
        total, done = count_of(progress, "total"), count_of(progress, "processed")
        cached = count_of(progress, "cache")
        self._cached = cached if cached is not None else self._cached
        ratio = min(1.0, done / total) if total and done is not None else 0.0
        return PromptProgress(ratio=ratio, processed_tokens=done, total_tokens=total, cached_tokens=cached)

    def _deltas(self, choice: JsonView) -> list[TextDelta]:
        delta = _object(choice, "delta")
        reasoning = text_of(delta, "reasoning_content") or text_of(delta, "reasoning")
        text = text_of(delta, "content") or text_of(choice, "text")
        deltas = []
        if reasoning:
            self._reasoning.append(reasoning)
            deltas.append(TextDelta(text=reasoning, reasoning=True))
        if text:
            self._text.append(text)
            deltas.append(TextDelta(text=text))
        return deltas

    def result(self, at: float) -> GenerationResult:
        """What the whole came to. Raises EmptyAnswerError for a stream that ended without anything."""
        completion_tokens = count_of(self._usage, "completion_tokens")
        if completion_tokens is None:
            completion_tokens = count_of(self._timings, "predicted_n")
        if not self.generated and not completion_tokens:
            raise EmptyAnswerError(
                f"{self.model} answered nothing and the server gave no reason; look at its log", model_key=self.model
            )
        if self._finish is None and not self._usage and not self._timings:
            raise GenerationError(
                f"the answer of {self.model} broke off; look at the server's log",
                model_key=self.model,
                detail=self.text,
            )
        return GenerationResult(
            text=self.text,
            stats=self._stats(completion_tokens, at),
            model_key=self.model,
            instance_id=self.model,
            reasoning="".join(self._reasoning),
        )

    def _stats(self, completion_tokens: int | None, at: float) -> GenerationStats:
        details = _object(self._usage, "prompt_tokens_details")
        cached = count_of(details, "cached_tokens")
        if cached is None:
            cached = count_of(self._timings, "cache_n")
        prompt_ms, predicted_ms = number_of(self._timings, "prompt_ms"), number_of(self._timings, "predicted_ms")
        return GenerationStats(
            stop_reason=_STOP_REASONS.get(self._finish or ""),
            prompt_tokens=count_of(self._usage, "prompt_tokens"),
            completion_tokens=completion_tokens,
            total_tokens=count_of(self._usage, "total_tokens"),
            cached_tokens=self._cached if cached is None else cached,
            ttft_s=None if self._first_at is None else self._first_at - self._started_at,
            total_s=at - self._started_at,
            server_ttft_s=None if prompt_ms is None else prompt_ms / 1000,
            server_total_s=None if prompt_ms is None or predicted_ms is None else (prompt_ms + predicted_ms) / 1000,
            decode_tokens_per_second=self._decode_rate(completion_tokens),
        )

    def _decode_rate(self, completion_tokens: int | None) -> float | None:
        """Tokens after the first over the time they took; None when there is no such span."""
        if self._first_at is None or self._last_at is None or not completion_tokens or completion_tokens < 2:
            return None
        span_s = self._last_at - self._first_at
        return (completion_tokens - 1) / span_s if span_s > 0 else None


def _object(source: JsonView, name: str) -> JsonView:
    value = source.get(name)
    return value if isinstance(value, Mapping) else {}


class _Waiting:
    """The deadlines of one prediction. Prompt progress that grows counts as life, and so does text."""

    def __init__(self, limits: Deadlines, reader: _Reader) -> None:
        self._limits = limits
        self._reader = reader
        self._clock = asyncio.get_running_loop().time
        self._started_at = self._moved_at = self._text_at = self._clock()
        self._ratio = -1.0

    def restart(self, event: StreamEvent) -> None:
        """Something came."""
        now = self._clock()
        if isinstance(event, PromptProgress):
            if event.ratio <= self._ratio:
                return
            self._ratio = event.ratio
        else:
            self._text_at = now
        self._moved_at = now

    def _nearest(self) -> tuple[str, float, float] | None:
        """The deadline that passes first: its stage, its seconds, and when."""
        limits = self._limits
        generating = self._reader.generated
        all_limits = (
            ("total", limits.total_s, self._started_at),
            ("silence", limits.silence_s, self._moved_at),
            ("first token", None if generating else limits.first_token_s, self._started_at),
            ("between tokens", limits.between_tokens_s if generating else None, self._text_at),
        )
        known = [(stage, limit_s, since + limit_s) for stage, limit_s, since in all_limits if limit_s is not None]
        return min(known, key=lambda deadline: deadline[2], default=None)

    async def on(self, awaited: Awaitable[T]) -> T:
        """Await within the nearest deadline. Raises StreamStalledError when it passes."""
        nearest = self._nearest()
        if nearest is None:
            return await awaited
        stage, limit_s, when = nearest
        try:
            async with asyncio.timeout_at(when) as patience:
                return await awaited
        except TimeoutError as exc:
            if not patience.expired():
                raise
            raise StreamStalledError(
                f"{self._reader.model} did not go on within {limit_s:g} s ({stage}); the answer was cancelled; raise "
                "the timeout, or look whether the server is busy",
                stage=stage,
                waited_s=limit_s,
                partial_text=self._reader.text,
                model_key=self._reader.model,
            ) from exc
