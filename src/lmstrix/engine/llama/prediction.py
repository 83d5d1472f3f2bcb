"""One prediction: a prompt prepared, a slot waited for, llama.cpp's stream read, its end explained.

The work runs in a task of its own and hands events over; whoever iterates may be slow, may leave, or may ask for a
regular end with `stop`. Prompts are sent as tokens: that makes their length exact before anything is processed, lets
overflow policies cut them, and gives each generation precisely the room that the context asked for leaves, although
llama.cpp's own context is rounded up.

Traded away: a chat with tools or images cannot be cut, because llama.cpp has to render it itself; when it overflows, it
is refused whatever the policy.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmstrix.engine.llama.client import LlamaGoneError, LlamaRefusalError
from lmstrix.engine.llama.events import (
    CompletionReader,
    ToolStreamReader,
    completion_stop,
    garbled_call_fault,
    stats_of,
)
from lmstrix.engine.llama.reasoning import ReasoningSplitter
from lmstrix.engine.llama.request import (
    chat_messages,
    generation_room,
    image_bytes,
    overflow_fault,
    sampling_fields,
    template_fields,
    trimmed,
)
from lmstrix.engine.records import (
    EngineFault,
    FragmentEvent,
    PredictionDone,
    PredictionEvent,
    PredictionInput,
    PredictionStats,
    PromptProgressEvent,
    ToolCallFailedEvent,
)

if TYPE_CHECKING:
    from lmstrix.engine.files import FileStore
    from lmstrix.engine.instance import Instance
    from lmstrix.ground.types import StopReason

_HEARTBEAT_S = 10.0
"""How often the last prompt progress is repeated: clients give up after 60 s without a message."""
_MERGED_TEXT = 4096
_LEAST_ROLLING_CONTEXT = 16
"""Shorter contexts cannot be halved and still make sense."""
_CONTEXT_FULL = "Context size has been exceeded"
_GARBLED_CALL_MARKS = ("does not match the expected", "empty grammar stack", "Failed to parse")


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A rendered prompt. `tokens` is None when images make llama.cpp tokenise it itself."""

    text: str
    tokens: list[int] | None
    images: tuple[bytes, ...] = ()


class Prediction:
    """An asynchronous iterator of events, ending with `PredictionDone` or raising `EngineFault`.

    Cancelling the iteration, or `aclose`, stops llama.cpp and ends without `PredictionDone`.
    """

    def __init__(self, instance: Instance, request: PredictionInput, files: FileStore | None) -> None:
        self._instance = instance
        self._request = request
        self._settings = request.settings
        self._files = files
        self._reader: CompletionReader | ToolStreamReader | None = None
        self._started_at = time.perf_counter()
        self._first_at: float | None = None
        self._last_at: float | None = None
        self._stop_reason: StopReason | None = None
        self._budgeted = request.settings.reasoning_budget_tokens is not None and request.raw_prompt is None
        self._output: list[str] = []
        self._events: deque[PredictionEvent] = deque()
        self._progress: PromptProgressEvent | None = None
        self._fault: EngineFault | None = None
        self._wake = asyncio.Event()
        self._finished = False
        self._ended = False
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._on_end)

    def __aiter__(self) -> Prediction:
        return self

    async def __anext__(self) -> PredictionEvent:
        while not self._events:
            if self._ended:
                if self._fault is not None:
                    fault, self._fault = self._fault, None
                    raise fault
                raise StopAsyncIteration
            await self._wait()
        return self._events.popleft()

    async def _wait(self) -> None:
        """Wait for events; while the prompt is processed, no longer than a heartbeat."""
        self._wake.clear()
        try:
            if self._first_at is not None:
                await self._wake.wait()
                return
            async with asyncio.timeout(_HEARTBEAT_S):
                await self._wake.wait()
        except TimeoutError:
            if self._progress is not None:
                self._events.append(self._progress)
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    def stop(self, reason: StopReason = "userStopped") -> None:
        """End regularly: what was generated stays, and `PredictionDone` says `reason`."""
        if not self._ended:
            self._stop_reason = reason
            self._task.cancel()

    async def aclose(self) -> None:
        """Stop llama.cpp and forget the rest."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, EngineFault):
            await self._task
        self._events.clear()
        self._fault = None

    def _emit(self, events: list[PredictionEvent]) -> None:
        for event in events:
            if isinstance(event, PromptProgressEvent):
                self._progress = event
            elif self._first_at is None:
                self._first_at = time.perf_counter()
                self._instance.generating(self)
            if isinstance(event, FragmentEvent):
                self._output.append(event.text)
            last = self._events[-1] if self._events else None
            if isinstance(last, FragmentEvent) and isinstance(event, FragmentEvent) and _mergeable(last, event):
                self._events[-1] = _merged(last, event)
            else:
                self._events.append(event)
        if events:
            self._last_at = time.perf_counter()
            self._wake.set()

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """The last word, however the task ended."""
        if task.cancelled():
            if self._stop_reason is not None:
                self._finish(self._stop_reason)
        elif (error := task.exception()) is not None:
            self._fault = (
                error if isinstance(error, EngineFault) else EngineFault(f"Internal error: {error!r}", kind="internal")
            )
        self._ended = True
        self._wake.set()

    def _finish(self, stop_reason: StopReason, stop_string: str | None = None, timings: Any = None) -> None:
        if self._finished:  # stopped in the very moment it ended by itself
            return
        self._finished = True
        reader = self._reader
        total_s = time.perf_counter() - self._started_at
        if reader is None:
            stats = PredictionStats(stop_reason=stop_reason, predicted_tokens=0, total_s=total_s)
        else:
            self._emit(reader.flush())
            stats = stats_of(
                reader,
                self._own_timings(reader) if timings is None else timings,
                stop_reason=stop_reason,
                stop_string=stop_string,
                ttft_s=None if self._first_at is None else self._first_at - self._started_at,
                total_s=total_s,
            )
        self._events.append(PredictionDone(stats=stats))
        self._instance.log("llm.prediction.output", "".join(self._output), stats=stats)

    def _own_timings(self, reader: CompletionReader | ToolStreamReader) -> dict[str, Any]:
        """Timings for a stream that was left before llama.cpp gave its own."""
        if self._first_at is None or self._last_at is None or self._last_at <= self._first_at:
            return {}
        count = reader.predicted_tokens
        return {"predicted_n": count, "predicted_per_second": (count - 1) / (self._last_at - self._first_at)}

    async def _run(self) -> None:
        with self._instance.request(self):
            try:
                await self._predict()
            except LlamaRefusalError as exc:
                if _CONTEXT_FULL not in exc.message or self._first_at is None:
                    raise self._refusal_fault(exc) from exc
                self._finish("contextLengthReached")  # slots that share a context can fill it together
            except LlamaGoneError as exc:
                raise await self._instance.gone_fault() from exc

    async def _predict(self) -> None:
        settings, instance = self._settings, self._instance
        offers_tools = bool(settings.tools) and self._request.raw_prompt is None
        prompt = await self._prepare()
        self._instance.log("llm.prediction.input", prompt.text)
        tokens = prompt.tokens
        if tokens is not None and len(tokens) >= instance.context_length:
            tokens = self._cut(tokens, offers_tools=offers_tools)
        if tokens is not None:
            self._emit([PromptProgressEvent(total_tokens=len(tokens), cached_tokens=0, processed_tokens=0)])
        async with instance.slot(self):
            if offers_tools:
                await self._call_tools(len(tokens) if tokens is not None else None)
            else:
                await self._complete(prompt, tokens)

    async def _prepare(self) -> _Prompt:
        request, instance = self._request, self._instance
        if request.raw_prompt is not None:
            return _Prompt(request.raw_prompt, await instance.tokenize(request.raw_prompt, as_prompt=True))
        images = tuple(image_bytes(request.turns, self._files))
        if images and not instance.entry.vision:
            raise EngineFault(
                f"The model {instance.entry.model_key} cannot read images: it has no vision projector (mmproj)",
                kind="unsupported",
                suggestion="Load a vision model.",
            )
        text = await instance.render(request.turns, self._settings, self._files)
        return _Prompt(text, None if images else await instance.tokenize(text, as_prompt=True), images)

    def _cut(self, tokens: list[int], *, offers_tools: bool) -> list[int]:
        policy, context_length = self._settings.overflow_policy, self._instance.context_length
        if policy == "stopAtLimit":
            raise overflow_fault(len(tokens), context_length)
        if offers_tools:
            cause = f"The overflow policy {policy} cannot cut a prompt that offers tools."
            raise overflow_fault(len(tokens), context_length, cause=cause)
        room = generation_room(context_length, self._settings.max_tokens)
        return trimmed(tokens, context_length - room, policy)

    async def _complete(self, prompt: _Prompt, tokens: list[int] | None) -> None:
        settings, instance = self._settings, self._instance
        reader = self._reader = CompletionReader(self._splitter(prompt.text), candidates=settings.log_probs)
        body = {
            **sampling_fields(settings, default_seed=instance.settings.seed),
            "stream": True,
            "return_progress": True,
            "cache_prompt": True,
        }
        while True:
            await self._stream_round(reader, {**body, **self._prompt_fields(prompt, tokens, reader)})
            final = reader.final
            if final is None:  # images: the context asked for was reached before llama.cpp's own
                self._finish("contextLengthReached")
                return
            stop_reason, stop_string = completion_stop(
                final, predicted_tokens=reader.predicted_tokens, max_tokens=settings.max_tokens
            )
            if tokens is None or stop_reason != "contextLengthReached" or self._constrained:
                following = None
            else:
                following = await self._continuation(reader, tokens)
            if following is None:
                self._finish(stop_reason, stop_string, final["timings"])
                return
            tokens = following
            reader.begin_round()

    async def _continuation(self, reader: CompletionReader, tokens: list[int]) -> list[int] | None:
        """What to go on from after a round that ran out of room: of reasoning, which ends it, or of context."""
        settings, context_length = self._settings, self._instance.context_length
        said = reader.round_ids
        if len(said) != reader.round_tokens:  # pieces of a character come without their tokens
            said = await self._instance.tokenize("".join(reader.round_text))
        in_context = len(tokens) + reader.round_tokens < context_length
        tokens = tokens + said
        if in_context and reader.reasoning and settings.reasoning_end:
            self._emit(reader.insert(settings.reasoning_end))
            tokens += await self._instance.tokenize(settings.reasoning_end)
        if reader.answering:
            self._budgeted = False
        if len(tokens) < context_length:
            return tokens
        if settings.overflow_policy == "stopAtLimit" or context_length < _LEAST_ROLLING_CONTEXT:
            return None
        return trimmed(tokens, context_length // 2, settings.overflow_policy)

    def _splitter(self, prompt: str) -> ReasoningSplitter:
        """Raw completions have no reasoning; some templates open it at the end of the prompt."""
        start, end = self._settings.reasoning_start, self._settings.reasoning_end
        if self._request.raw_prompt is not None or not start:
            return ReasoningSplitter(None, None)
        return ReasoningSplitter(start, end, inside=prompt.rstrip().endswith(start))

    @property
    def _constrained(self) -> bool:
        """Whether a grammar is at work, which cannot be resumed in the middle."""
        settings = self._settings
        return settings.json_any or settings.json_schema is not None or bool(settings.gbnf_grammar)

    def _prompt_fields(self, prompt: _Prompt, tokens: list[int] | None, reader: CompletionReader) -> dict[str, Any]:
        max_tokens = self._settings.max_tokens
        left = None if max_tokens is None else max_tokens - reader.predicted_tokens
        if tokens is None:
            media = [base64.b64encode(image).decode() for image in prompt.images]
            limit = {} if left is None else {"n_predict": left}
            return {"prompt": {"prompt_string": prompt.text, "multimodal_data": media}, **limit}
        limits = [self._instance.context_length - len(tokens)]
        if left is not None:
            limits.append(left)
        if self._budgeted and not self._constrained:
            limits.append(max(1, self._settings.reasoning_budget_tokens or 0))
        return {"prompt": tokens, "n_predict": min(limits)}

    async def _stream_round(self, reader: CompletionReader, body: dict[str, Any]) -> None:
        """One request. With images the prompt's length shows late, and the context asked for ends the round here."""
        length_known = isinstance(body["prompt"], list)
        async with self._instance.client.stream("/completion", body) as batches:
            async for batch in batches:
                if length_known:
                    self._emit(reader.feed(batch))
                elif self._feed_within_context(reader, batch):
                    return
        if reader.final is None:
            raise LlamaGoneError("the stream ended early")

    def _feed_within_context(self, reader: CompletionReader, batch: list[dict[str, Any]]) -> bool:
        """Token by token, until the context asked for is reached (then True)."""
        context_length = self._instance.context_length
        for event in batch:
            self._emit(reader.feed([event]))
            prompt_tokens = reader.prompt_tokens or 0
            if prompt_tokens >= context_length:
                raise overflow_fault(prompt_tokens, context_length)
            if reader.final is None and prompt_tokens + reader.predicted_tokens >= context_length:
                return True
        return False

    async def _call_tools(self, prompt_tokens: int | None) -> None:
        """A round that may end in tool calls: llama.cpp renders, constrains and parses."""
        settings, instance = self._settings, self._instance
        reader = self._reader = ToolStreamReader(start_tag=settings.reasoning_start, end_tag=settings.reasoning_end)
        body = {
            **sampling_fields(settings, default_seed=instance.settings.seed),
            **template_fields(settings),
            "messages": chat_messages(self._request.turns, self._files),
            "tools": list(settings.tools),
            "tool_choice": settings.tool_choice,
            "parallel_tool_calls": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
        }
        if settings.reasoning_budget_tokens is not None:
            body["thinking_budget_tokens"] = settings.reasoning_budget_tokens
        room = None if prompt_tokens is None else instance.context_length - prompt_tokens
        limits = [limit for limit in (room, settings.max_tokens) if limit is not None]
        if limits:
            body["max_tokens"] = min(limits)
        try:
            async with instance.client.stream("/v1/chat/completions", body) as batches:
                async for batch in batches:
                    self._emit(reader.feed(batch))
        except LlamaRefusalError as exc:
            if not any(mark in exc.message for mark in _GARBLED_CALL_MARKS):
                raise
            self._emit([ToolCallFailedEvent(fault=garbled_call_fault(exc.message), raw="".join(self._output))])
            self._finish("failed", None, reader.timings)
            return
        self._emit(reader.flush())
        self._finish(self._tool_stop(reader), None, reader.timings)

    def _tool_stop(self, reader: ToolStreamReader) -> StopReason:
        if reader.called:
            return "toolCalls"
        if reader.finish_reason != "length":
            return "eosFound"
        reached = self._settings.max_tokens is not None and reader.predicted_tokens >= self._settings.max_tokens
        return "maxPredictedTokensReached" if reached else "contextLengthReached"

    def _refusal_fault(self, refusal: LlamaRefusalError) -> EngineFault:
        if refusal.kind == "exceed_context_size_error":
            return overflow_fault(int(refusal.body.get("n_prompt_tokens", 0)), self._instance.context_length)
        if _CONTEXT_FULL in refusal.message:
            return EngineFault(
                refusal.message, kind="overflow", error_data={"contextLength": self._instance.context_length}
            )
        kind = {"not_supported_error": "unsupported"}.get(refusal.kind, "invalid" if refusal.code < 500 else "internal")
        return EngineFault(refusal.message, kind=kind)


def _mergeable(last: FragmentEvent, event: FragmentEvent) -> bool:
    return (
        last.reasoning_type == event.reasoning_type
        and not (last.structural or event.structural or last.tokens or event.tokens)
        and len(last.text) < _MERGED_TEXT
    )


def _merged(last: FragmentEvent, event: FragmentEvent) -> FragmentEvent:
    return FragmentEvent(
        text=last.text + event.text,
        tokens_count=last.tokens_count + event.tokens_count,
        reasoning_type=event.reasoning_type,
    )
