"""The packets of one prediction -> stream events and, at the end, the result. Pure; the clock is handed in.

The SDK's own reader drops what we measure by (cached tokens, stop string, total time) and fails after a whole answer
when one statistic has an odd value, so packets are read here as they come, leniently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from lmstrix.api.convert import JsonView, count_of, number_of, object_of, text_of
from lmstrix.api.fault_rules import classify
from lmstrix.api.faults import ServerFault, ServerRequest, read_fault
from lmstrix.ground.errors import EmptyAnswerError, GenerationError, LMStrixError, ModelUnloadedError
from lmstrix.ground.types import (
    Finished,
    GenerationResult,
    GenerationStats,
    Heartbeat,
    PromptProgress,
    StopReason,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallEvent,
)

_STOP_REASONS = frozenset(get_args(StopReason))
_TOOL_PIECES = frozenset(
    ("toolCallGenerationStart", "toolCallGenerationNameReceived", "toolCallGenerationArgumentFragmentGenerated")
)


class PredictionReader:
    """Reads one prediction. Times are seconds of one monotonic clock; `started_at` is when it was sent."""

    def __init__(self, asked: ServerRequest, *, instance_id: str, started_at: float) -> None:
        self._asked = asked
        self._instance_id = instance_id
        self._started_at = started_at
        self._first_at: float | None = None
        self._last_at: float | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: list[ToolCall] = []
        self._cached_tokens: int | None = None

    @property
    def model(self) -> str:
        """What to call the model in messages."""
        return self._asked.model_key or self._instance_id

    @property
    def text(self) -> str:
        """The answer so far, without reasoning."""
        return "".join(self._text)

    @property
    def generated(self) -> bool:
        """Whether anything was generated yet, of any kind."""
        return self._first_at is not None

    def read(self, packet: JsonView, at: float) -> StreamEvent:
        """The event of a packet; a heartbeat where there is nothing to show."""
        kind = packet.get("type")
        if kind == "fragment":
            self._mark(at)
            # A fragment that cannot be read still shows that the model generates: deadlines must hear of it.
            return self._fragment(packet.get("fragment")) or Heartbeat(generating=True)
        if kind == "promptProcessingProgress":
            return self._progress(packet) or Heartbeat(generating=False)
        if kind == "success":
            return Finished(result=self._result(packet, at))
        if kind == "toolCallGenerationEnd" or kind == "toolCallGenerationFailed":
            self._mark(at)
            return self._tool_call(packet)
        if kind == "error":
            raise classify(read_fault(packet.get("error")), self._asked)
        if kind in _TOOL_PIECES:
            self._mark(at)
            return Heartbeat(generating=True)
        return Heartbeat(generating=False)

    def closed_early(self) -> LMStrixError:
        """What it means that the server ended the prediction without a result."""
        if not self.generated:
            return EmptyAnswerError(
                f"{self.model} answered nothing and {self._asked.address} gave no reason; look at the server's log",
                model_key=self._asked.model_key,
            )
        return GenerationError(
            f"{self._asked.address} ended the answer of {self.model} without a result; look at the server's log",
            model_key=self._asked.model_key,
            detail=self.text,
        )

    def _mark(self, at: float) -> None:
        if self._first_at is None:
            self._first_at = at
        self._last_at = at

    def _fragment(self, fragment: object) -> TextDelta | None:
        if not isinstance(fragment, Mapping) or not isinstance(fragment.get("content"), str):
            return None
        content = fragment["content"]
        role = fragment.get("reasoningType", "none")
        tag = role in ("reasoningStartTag", "reasoningEndTag") or fragment.get("isStructural") is True
        reasoning = role != "none"
        if not tag:  # a tag is markup around the thoughts, part of neither text
            (self._reasoning if reasoning else self._text).append(content)
        return TextDelta(
            text=content, tokens=count_of(fragment, "tokensCount") or 0, reasoning=reasoning, structural=tag
        )

    def _progress(self, packet: JsonView) -> PromptProgress | None:
        ratio = number_of(packet, "progress")
        if ratio is None:
            return None
        details = object_of(packet, "details")
        cached = count_of(details, "cachedTokenCount")
        self._cached_tokens = self._cached_tokens if cached is None else cached
        return PromptProgress(
            ratio=min(1.0, max(0.0, ratio)),
            processed_tokens=count_of(details, "processedPromptTokenCount"),
            total_tokens=count_of(details, "totalPromptTokenCount"),
            cached_tokens=cached,
        )

    def _tool_call(self, packet: JsonView) -> ToolCallEvent:
        request = packet.get("toolCallRequest")
        if isinstance(request, Mapping):
            arguments = request.get("arguments", {})
            call = ToolCall(
                name=text_of(request, "name") or "",
                arguments=arguments if isinstance(arguments, Mapping) else None,
                call_id=text_of(request, "id"),
                error=None if isinstance(arguments, Mapping) else "the arguments are not an object",
            )
        else:
            call = ToolCall(name="", arguments=None, error=read_fault(packet.get("error")).headline)
        self._tool_calls.append(call)
        return ToolCallEvent(call=call)

    def _result(self, packet: JsonView, at: float) -> GenerationResult:
        info = object_of(packet, "modelInfo")
        stats = self._stats(object_of(packet, "stats"), at)
        model_key = text_of(info, "modelKey") or self.model
        if stats.stop_reason == "modelUnloaded":
            raise ModelUnloadedError(
                f"{model_key} was unloaded while it answered; load it again", model_key=model_key, detail=self.text
            )
        if stats.stop_reason == "failed":
            raise classify(ServerFault(title="the engine failed mid-way"), self._asked)
        # A success that says nothing and sent nothing is how some servers report a failure.
        if stats.stop_reason is None and not self.generated:
            raise self.closed_early()
        return GenerationResult(
            text=self.text,
            stats=stats,
            model_key=model_key,
            instance_id=text_of(info, "identifier") or self._instance_id,
            context_length=count_of(info, "contextLength"),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(self._tool_calls),
        )

    def _stats(self, given: JsonView, at: float) -> GenerationStats:
        # A reason that a newer server adds must not spoil the answer.
        stop_reason = given.get("stopReason")
        return GenerationStats(
            stop_reason=stop_reason if stop_reason in _STOP_REASONS else None,
            prompt_tokens=count_of(given, "promptTokensCount"),
            completion_tokens=count_of(given, "predictedTokensCount"),
            total_tokens=count_of(given, "totalTokensCount"),
            cached_tokens=self._cached_tokens,
            ttft_s=None if self._first_at is None else self._first_at - self._started_at,
            total_s=at - self._started_at,
            server_ttft_s=number_of(given, "timeToFirstTokenSec"),
            server_total_s=number_of(given, "totalTimeSec"),
            server_prefill_tokens_per_second=number_of(given, "prefillTokensPerSecond"),
            server_decode_tokens_per_second=number_of(given, "tokensPerSecond"),
            decode_tokens_per_second=decode_rate(
                self._first_at, self._last_at, count_of(given, "predictedTokensCount")
            ),
            stop_string=text_of(given, "stopString"),
        )


def decode_rate(first_at: float | None, last_at: float | None, completion_tokens: int | None) -> float | None:
    """Tokens per second after the first one; None where there is no such span."""
    if first_at is None or last_at is None or not completion_tokens or completion_tokens < 2:
        return None
    # The first token's time is the prefill's: n tokens have n - 1 steps between them.
    span_s = last_at - first_at
    return (completion_tokens - 1) / span_s if span_s > 0 else None
