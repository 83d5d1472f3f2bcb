"""What llama.cpp is asked for one prediction: a prompt that fits, then rounds of generation until one is the last.

Prompts are sent as tokens: that makes their length exact before anything is processed, lets overflow policies cut them,
and gives each generation precisely the room that the context asked for leaves, although llama.cpp's own context is
rounded up.

Traded away: a chat with tools or images cannot be cut, because llama.cpp has to render it itself; when it overflows, it
is refused whatever the policy.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.client import LlamaGoneError, LlamaRefusalError
from lmstrix.engine.llama.events import CompletionReader, ToolStreamReader, completion_stop
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine.faults import FaultKind
    from lmstrix.engine.llama.model import LlamaModel
    from lmstrix.engine.records import PredictionEvent, PredictionInput
    from lmstrix.engine.uploads import FileStore
    from lmstrix.ground.types import StopReason

_LEAST_ROLLING_CONTEXT: Final = 16
"""Shorter contexts cannot be halved and still make sense."""
_CONTEXT_FULL: Final = "Context size has been exceeded"
_UNREADABLE_IMAGE: Final = "Failed to load image"
_GARBLED_CALL_MARKS: Final = ("does not match the expected", "empty grammar stack", "Failed to parse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A rendered prompt. `tokens` is None when images make llama.cpp tokenize it itself."""

    text: str
    tokens: list[int] | None
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationEnd:
    """Why a generation ended. `timings` are llama.cpp's own, None if it gave none; `garbled_call` is its complaint."""

    stop_reason: StopReason
    stop_string: str | None = None
    timings: dict[str, Any] | None = None
    garbled_call: str | None = None


class Generation:
    """One prediction's requests to llama.cpp; `emit` gets what its answers bring."""

    def __init__(
        self,
        model: LlamaModel,
        request: PredictionInput,
        files: FileStore | None,
        emit: Callable[[list[PredictionEvent]], None],
    ) -> None:
        self._model = model
        self._context_length = model.context_length
        self._request = request
        self._settings = request.settings
        self._files = files
        self._emit = emit
        self._offers_tools = bool(request.settings.tools) and request.raw_prompt is None
        self._budgeted = request.settings.reasoning_budget_tokens is not None and request.raw_prompt is None
        self.reader: CompletionReader | ToolStreamReader | None = None

    async def prepare(self) -> Prompt:
        """The prompt, as the model's template or the caller wrote it."""
        request, model = self._request, self._model
        if request.raw_prompt is not None:
            return Prompt(text=request.raw_prompt, tokens=await model.tokenize(request.raw_prompt, as_prompt=True))
        text = await model.render(request.turns, self._settings, self._files)
        images = tuple(image_bytes(request.turns, self._files))
        tokens = None if images else await model.tokenize(text, as_prompt=True)
        return Prompt(text=text, tokens=tokens, images=images)

    def fitted(self, tokens: list[int]) -> list[int]:
        """The prompt's tokens, cut by the overflow policy if there are too many."""
        if len(tokens) < self._context_length:
            return tokens
        policy = self._settings.overflow_policy
        if policy == "stopAtLimit":
            raise overflow_fault(len(tokens), self._context_length)
        if self._offers_tools:
            cause = f"The overflow policy {policy} cannot cut a prompt that offers tools."
            raise overflow_fault(len(tokens), self._context_length, cause=cause)
        room = generation_room(self._context_length, self._settings.max_tokens)
        return trimmed(tokens, self._context_length - room, policy)

    async def run(self, prompt: Prompt, tokens: list[int] | None) -> GenerationEnd:
        """Generate from `prompt`, whose fitted `tokens` are known unless it has images."""
        if self._offers_tools:
            return await self._call_tools(None if tokens is None else len(tokens))
        return await self._complete(prompt, tokens)

    async def _complete(self, prompt: Prompt, tokens: list[int] | None) -> GenerationEnd:
        settings = self._settings
        reader = self.reader = CompletionReader(self._splitter(prompt.text), candidates=settings.log_probs)
        body = {
            **sampling_fields(settings, default_seed=self._model.settings.seed),
            "stream": True,
            "return_progress": True,
            "cache_prompt": True,
        }
        while True:
            await self._stream_round(reader, {**body, **self._prompt_fields(prompt, tokens, reader)})
            final = reader.final
            if final is None:  # images: the context asked for was reached before llama.cpp's own
                return GenerationEnd(stop_reason="contextLengthReached")
            stop_reason, stop_string = completion_stop(
                final, predicted_tokens=reader.predicted_tokens, max_tokens=settings.max_tokens
            )
            following = None
            if tokens is not None and stop_reason == "contextLengthReached" and not self._constrained:
                following = await self._continuation(reader, tokens)
            if following is None:
                return GenerationEnd(stop_reason=stop_reason, stop_string=stop_string, timings=final["timings"])
            tokens = following
            reader.begin_round()

    async def _continuation(self, reader: CompletionReader, tokens: list[int]) -> list[int] | None:
        """What to go on from after a round that ran out of room: of reasoning, which ends it, or of context."""
        settings, context_length = self._settings, self._context_length
        said = reader.round_ids
        if len(said) != reader.round_tokens:  # pieces of a character come without their tokens
            said = await self._model.tokenize("".join(reader.round_text))
        in_context = len(tokens) + reader.round_tokens < context_length
        tokens = tokens + said
        if in_context and reader.reasoning and settings.reasoning_end:
            # The budget is spent: close the block for the model, which then goes on with the answer.
            self._emit(reader.insert(settings.reasoning_end))
            tokens += await self._model.tokenize(settings.reasoning_end)
        if reader.answering:
            self._budgeted = False
        if len(tokens) < context_length:
            return tokens
        if settings.overflow_policy == "stopAtLimit" or context_length < _LEAST_ROLLING_CONTEXT:
            return None
        # To half, so that a long answer pays for processing its prompt again once per half a context.
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

    def _prompt_fields(self, prompt: Prompt, tokens: list[int] | None, reader: CompletionReader) -> dict[str, Any]:
        max_tokens = self._settings.max_tokens
        left = None if max_tokens is None else max_tokens - reader.predicted_tokens
        if tokens is None:
            media = [base64.b64encode(image).decode() for image in prompt.images]
            limit = {} if left is None else {"n_predict": left}
            return {"prompt": {"prompt_string": prompt.text, "multimodal_data": media}, **limit}
        limits = [self._context_length - len(tokens)]
        if left is not None:
            limits.append(left)
        if self._budgeted and not self._constrained:
            limits.append(max(1, self._settings.reasoning_budget_tokens or 0))
        return {"prompt": tokens, "n_predict": min(limits)}

    async def _stream_round(self, reader: CompletionReader, body: dict[str, Any]) -> None:
        """One request. With images the prompt's length shows late, and the context asked for ends the round here."""
        length_known = isinstance(body["prompt"], list)
        async with self._model.client.stream("/completion", body) as batches:
            async for batch in batches:
                if length_known:
                    self._emit(reader.feed(batch))
                elif self._feed_within_context(reader, batch):
                    return
        if reader.final is None:
            raise LlamaGoneError("the stream ended early")

    def _feed_within_context(self, reader: CompletionReader, batch: list[dict[str, Any]]) -> bool:
        """Token by token, until the context asked for is reached (then True)."""
        for event in batch:
            self._emit(reader.feed([event]))
            prompt_tokens = reader.prompt_tokens or 0
            if prompt_tokens >= self._context_length:
                raise overflow_fault(prompt_tokens, self._context_length)
            if reader.final is None and prompt_tokens + reader.predicted_tokens >= self._context_length:
                return True
        return False

    async def _call_tools(self, prompt_tokens: int | None) -> GenerationEnd:
        """A round that may end in tool calls: llama.cpp renders, constrains and parses."""
        settings, model = self._settings, self._model
        reader = self.reader = ToolStreamReader(start_tag=settings.reasoning_start, end_tag=settings.reasoning_end)
        body = {
            **sampling_fields(settings, default_seed=model.settings.seed),
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
        room = None if prompt_tokens is None else self._context_length - prompt_tokens
        limits = [limit for limit in (room, settings.max_tokens) if limit is not None]
        if limits:
            body["max_tokens"] = min(limits)
        try:
            async with model.client.stream("/v1/chat/completions", body) as batches:
                async for batch in batches:
                    self._emit(reader.feed(batch))
        except LlamaRefusalError as exc:
            # llama.cpp parses while it streams, and breaks off with an error at a call it cannot read.
            if not any(mark in exc.message for mark in _GARBLED_CALL_MARKS):
                raise
            return GenerationEnd(stop_reason="failed", timings=reader.timings, garbled_call=exc.message)
        self._emit(reader.flush())  # the last call is complete only now, and decides how this ended
        return GenerationEnd(stop_reason=self._tool_stop(reader), timings=reader.timings)

    def _tool_stop(self, reader: ToolStreamReader) -> StopReason:
        if reader.called:
            return "toolCalls"
        if reader.finish_reason != "length":
            return "eosFound"
        reached = self._settings.max_tokens is not None and reader.predicted_tokens >= self._settings.max_tokens
        return "maxPredictedTokensReached" if reached else "contextLengthReached"


def is_context_full(refusal: LlamaRefusalError) -> bool:
    """Whether llama.cpp gave up because its context is used up."""
    return _CONTEXT_FULL in refusal.message


def refusal_fault(refusal: LlamaRefusalError, context_length: int) -> EngineFault:
    """What llama.cpp's error means to a client."""
    if refusal.kind == "exceed_context_size_error":
        return overflow_fault(int(refusal.body.get("n_prompt_tokens", 0)), context_length)
    if is_context_full(refusal):
        return EngineFault(refusal.message, kind="overflow", error_data={"contextLength": context_length})
    if _UNREADABLE_IMAGE in refusal.message:
        # It says no more: neither which image it was, nor whether it failed for want of memory.
        return EngineFault(
            "llama.cpp cannot read an image: it is damaged, or too large to unpack",
            kind="invalid",
            suggestion="Save it again, smaller, as PNG or JPEG.",
        )
    kind: FaultKind = "invalid" if refusal.code < 500 else "internal"
    if refusal.kind == "not_supported_error":
        kind = "unsupported"
    return EngineFault(refusal.message, kind=kind)
