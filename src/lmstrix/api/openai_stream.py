"""What OpenAI's interface streams -> stream events and, at the end, the result: server-sent events and their content.

The reader is pure; the clock is handed in. What llama-server adds is read too: timings, cached tokens, prompt progress.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lmstrix.api.convert import Json, JsonView, count_of, number_of, object_of, text_of
from lmstrix.api.prediction import decode_rate
from lmstrix.ground.errors import (
    BackendUnavailableError,
    ContextOverflowError,
    EmptyAnswerError,
    GenerationError,
    LMStrixError,
    ModelNotFoundError,
)
from lmstrix.ground.types import GenerationResult, GenerationStats, PromptProgress, StopReason, StreamEvent, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx

MOST_EVENT_BYTES = 16 * 2**20
"""A longer line is no answer but a flood."""
_STOP_REASONS: Mapping[str, StopReason] = {
    "stop": "eosFound",
    "length": "maxPredictedTokensReached",
    "tool_calls": "toolCalls",
}
_OVERFLOW_MARKS = ("exceed_context_size", "context_length_exceeded", "context size", "maximum context length")
_NOT_READY = frozenset((429, 502, 503, 504))  # busy, or still loading its model
_ERROR_CHARS = 300


async def server_sent_events(response: httpx.Response) -> AsyncGenerator[Json]:
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
        # Lines are cut by hand: httpx's own splitter also cuts at U+2028, which JSON allows within a string.
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


class OpenAIReader:
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
        # A failure can come inside a stream that began with status 200.
        if "error" in event:
            content = json.dumps(event).encode()
            raise openai_failure(error_message(content), content.decode(), self.model, "the server")
        self._usage = object_of(event, "usage") or self._usage
        self._timings = object_of(event, "timings") or self._timings
        out: list[StreamEvent] = []
        if progress := object_of(event, "prompt_progress"):
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
        delta = object_of(choice, "delta")
        # Servers disagree on the name: llama-server says reasoning_content, others reasoning.
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
        if completion_tokens is None:  # llama-server sends timings even where it sends no usage
            completion_tokens = count_of(self._timings, "predicted_n")
        if not self.generated and not completion_tokens:
            raise EmptyAnswerError(
                f"{self.model} answered nothing and the server gave no reason; look at its log", model_key=self.model
            )
        # A stream that ends without a reason, a count or timings was cut, even if it closed politely.
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
        details = object_of(self._usage, "prompt_tokens_details")
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
            server_prefill_tokens_per_second=number_of(self._timings, "prompt_per_second"),
            # A rate of 0 is llama-server's word for an answer too short to have one.
            server_decode_tokens_per_second=number_of(self._timings, "predicted_per_second") or None,
            decode_tokens_per_second=decode_rate(self._first_at, self._last_at, completion_tokens),
        )


def openai_failure(message: str, detail: str, model: str, address: str, status: int | None = None) -> LMStrixError:
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
    if status in _NOT_READY:
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


def error_message(content: bytes) -> str:
    try:
        body = json.loads(content)
    except ValueError:
        return content[:_ERROR_CHARS].decode("utf-8", "replace").strip()
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, Mapping):
        return text_of(error, "message") or text_of(error, "detail") or ""
    return error if isinstance(error, str) else ""
