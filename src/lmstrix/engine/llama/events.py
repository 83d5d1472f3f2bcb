"""What llama.cpp streams, read into prediction events: one reader for /completion, one for tool calls. Pure.

What arrived together becomes one fragment, so a client that is slower than the model gets larger pieces, not a queue.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.json_text import JsonTextError, read_json
from lmstrix.engine.records import (
    FragmentEvent,
    PredictionEvent,
    PredictionStats,
    PromptProgressEvent,
    ToolCallArgumentEvent,
    ToolCallEndEvent,
    ToolCallFailedEvent,
    ToolCallNameEvent,
    ToolCallStartEvent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lmstrix.engine.llama.client import JsonObject
    from lmstrix.engine.llama.reasoning import ReasoningSplitter
    from lmstrix.engine.records import ReasoningType
    from lmstrix.ground.types import StopReason


def _prompt_progress(progress: JsonObject) -> PromptProgressEvent:
    """How far a prompt is. What llama.cpp calls processed has the cached tokens in it."""
    return PromptProgressEvent(
        total_tokens=progress["total"],
        cached_tokens=progress["cache"],
        processed_tokens=progress["processed"] - progress["cache"],
    )


class CompletionReader:
    """Reads the events of /completion, over several requests when a generation is continued past the context."""

    def __init__(self, splitter: ReasoningSplitter, *, candidates: int | None) -> None:
        self._splitter = splitter
        self._candidates = candidates
        self._finished_rounds_tokens = 0
        self._uncounted_tokens = 0
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.predicted_tokens = 0
        self.reasoning_tokens = 0
        self.round_tokens = 0
        self.round_text: list[str] = []
        self.round_ids: list[int] = []
        self.final: JsonObject | None = None

    def feed(self, batch: Iterable[JsonObject]) -> list[PredictionEvent]:
        """The events that `batch` brings."""
        out: list[PredictionEvent] = []
        texts: list[str] = []
        for event in batch:
            if "prompt_progress" in event:
                out.append(self._progress(event["prompt_progress"]))
                continue
            self._count(event)
            if "completion_probabilities" in event:
                out += self._fragments(event["content"], self._token_details(event["completion_probabilities"]))
            # Nearly every token comes this way: what arrived together is joined before it becomes one event.
            elif self._splitter.settled:
                texts.append(event["content"])
            else:
                out += self._fragments(event["content"])
            # The last event carries the reason and llama.cpp's timings.
            if event["stop"]:
                self._end_round(event)
        if texts:
            out += self._fragments("".join(texts))
        return out

    def flush(self) -> list[PredictionEvent]:
        """What was held back as a possible tag, once no more comes."""
        return [self._fragment(piece.text, piece.type) for piece in self._splitter.flush()]

    def begin_round(self) -> None:
        """Another request continues this generation."""
        self.final = None
        self.round_text.clear()
        self.round_ids.clear()

    @property
    def reasoning(self) -> bool:
        """Whether the model is in the middle of reasoning."""
        return self._splitter.inside

    @property
    def answering(self) -> bool:
        """Whether any reasoning is over."""
        return self._splitter.settled

    def insert(self, text: str) -> list[PredictionEvent]:
        """Go on as if the model had said `text`."""
        return self._fragments(text)

    def _progress(self, progress: JsonObject) -> PromptProgressEvent:
        # Of the first round only: the prompt of a later one is partly what this generation has said.
        if self.prompt_tokens is None:
            self.prompt_tokens, self.cached_tokens = progress["total"], progress["cache"]
        return _prompt_progress(progress)

    def _count(self, event: JsonObject) -> None:
        self.round_tokens = event["tokens_predicted"]
        total = self._finished_rounds_tokens + self.round_tokens
        # A token may be part of a character and bring no text yet; the next text counts it too.
        self._uncounted_tokens += total - self.predicted_tokens
        self.predicted_tokens = total
        self.round_text.append(event["content"])
        self.round_ids += event["tokens"]

    def _end_round(self, event: JsonObject) -> None:
        self.final = event
        self._finished_rounds_tokens = self.predicted_tokens
        if self.prompt_tokens is None:
            self.prompt_tokens = event["tokens_evaluated"]

    def _fragments(self, text: str, tokens: tuple[Mapping[str, Any], ...] = ()) -> list[PredictionEvent]:
        events: list[PredictionEvent] = []
        for piece in self._splitter.feed(text):
            events.append(self._fragment(piece.text, piece.type, tokens))
            # Probabilities go with the first piece; a token that a tag splits must not be told twice.
            tokens = ()
        return events

    def _fragment(self, text: str, kind: ReasoningType, tokens: tuple[Mapping[str, Any], ...] = ()) -> FragmentEvent:
        count, self._uncounted_tokens = self._uncounted_tokens, 0
        # Tags count as reasoning: they are what the model spent on it.
        if kind != "none":
            self.reasoning_tokens += count
        structural = kind in ("reasoningStartTag", "reasoningEndTag")
        return FragmentEvent(text=text, tokens_count=count, reasoning_type=kind, structural=structural, tokens=tokens)

    def _token_details(self, probabilities: list[JsonObject]) -> tuple[Mapping[str, Any], ...]:
        return tuple(
            {
                "text": item["token"],
                "id": item["id"],
                "logProb": item["logprob"],
                "candidates": [
                    {"text": other["token"], "id": other["id"], "logProb": other["logprob"]}
                    for other in item["top_logprobs"][: self._candidates]
                ],
            }
            for item in probabilities
        )


class ToolStreamReader:
    """Reads the chunks of /v1/chat/completions, in which llama.cpp has parsed reasoning and tool calls."""

    def __init__(self, *, start_tag: str | None, end_tag: str | None) -> None:
        self._start_tag, self._end_tag = start_tag, end_tag
        self._reasoning = False
        self._call: JsonObject | None = None
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.predicted_tokens = 0
        self.reasoning_tokens = 0
        self.called = False
        self.finish_reason: str | None = None
        self.timings: JsonObject = {}

    def feed(self, batch: Iterable[JsonObject]) -> list[PredictionEvent]:
        """The events that `batch` brings."""
        out: list[PredictionEvent] = []
        for chunk in batch:
            if progress := chunk.get("prompt_progress"):
                self.prompt_tokens, self.cached_tokens = progress["total"], progress["cache"]
                out.append(_prompt_progress(progress))
            self._read_totals(chunk)
            for choice in chunk.get("choices") or ():
                self.finish_reason = choice.get("finish_reason") or self.finish_reason
                out += self._delta(choice.get("delta") or {})
        return out

    def flush(self) -> list[PredictionEvent]:
        """Close what is open."""
        return self._end_reasoning() + self._end_call()

    def _read_totals(self, chunk: JsonObject) -> None:
        self.timings = chunk.get("timings") or self.timings
        if usage := chunk.get("usage"):
            self.prompt_tokens = usage.get("prompt_tokens", self.prompt_tokens)
            self.predicted_tokens = usage.get("completion_tokens", self.predicted_tokens)

    def _delta(self, delta: JsonObject) -> list[PredictionEvent]:
        out: list[PredictionEvent] = []
        if text := delta.get("reasoning_content"):
            out += self._begin_reasoning()
            self.reasoning_tokens += 1
            out.append(self._fragment(text, "reasoning"))
        if text := delta.get("content"):
            out += self._end_reasoning()
            out.append(self._fragment(text, "none"))
        for call in delta.get("tool_calls") or ():
            out += self._end_reasoning() + self._read_call(call)
        return out

    def _fragment(self, text: str, kind: ReasoningType) -> FragmentEvent:
        structural = kind in ("reasoningStartTag", "reasoningEndTag")
        if not structural:
            self.predicted_tokens += 1
        return FragmentEvent(text=text, tokens_count=0 if structural else 1, reasoning_type=kind, structural=structural)

    def _begin_reasoning(self) -> list[PredictionEvent]:
        if self._reasoning:
            return []
        self._reasoning = True
        return [self._fragment(self._start_tag, "reasoningStartTag")] if self._start_tag else []

    def _end_reasoning(self) -> list[PredictionEvent]:
        if not self._reasoning:
            return []
        self._reasoning = False
        return [self._fragment(self._end_tag, "reasoningEndTag")] if self._end_tag else []

    def _read_call(self, call: JsonObject) -> list[PredictionEvent]:
        out: list[PredictionEvent] = []
        function = call.get("function") or {}
        # llama.cpp numbers the calls; another number means that the one before is complete.
        if self._call is None or self._call["index"] != call.get("index"):
            out += self._end_call()
            self._call = {"index": call.get("index"), "id": call.get("id"), "name": "", "arguments": ""}
            out.append(ToolCallStartEvent(call_id=self._call["id"] or None))
        if name := function.get("name"):
            self._call["name"] = name
            out.append(ToolCallNameEvent(name=name))
        if text := function.get("arguments"):
            self._call["arguments"] += text
            out.append(ToolCallArgumentEvent(text=text))
        return out

    def _end_call(self) -> list[PredictionEvent]:
        call, self._call = self._call, None
        if call is None:
            return []
        try:
            # A function without parameters may come with no arguments at all.
            arguments = read_json(call["arguments"] or "{}")
        except JsonTextError:
            arguments = None
        if not isinstance(arguments, dict) or not call["name"]:
            return [ToolCallFailedEvent(fault=garbled_call_fault(call["arguments"]), raw=call["arguments"])]
        self.called = True
        return [
            ToolCallEndEvent(call_id=call["id"] or None, name=call["name"], arguments=arguments, raw=call["arguments"])
        ]


def garbled_call_fault(detail: str) -> EngineFault:
    """The model began a tool call that nobody can read."""
    return EngineFault("Failed to parse tool call", kind="invalid", cause=detail[:500] or None)


def completion_stop(
    final: JsonObject, *, predicted_tokens: int, max_tokens: int | None
) -> tuple[StopReason, str | None]:
    """Why /completion ended, from its last event, and the stop string if that was it."""
    if final["stop_type"] == "word":
        return "stopStringFound", final["stopping_word"]
    if final["stop_type"] == "limit":
        reached = max_tokens is not None and predicted_tokens >= max_tokens
        return ("maxPredictedTokensReached" if reached else "contextLengthReached"), None
    return "eosFound", None


def stats_of(
    reader: CompletionReader | ToolStreamReader,
    timings: JsonObject,
    *,
    stop_reason: StopReason,
    stop_string: str | None = None,
    ttft_s: float | None,
    total_s: float,
) -> PredictionStats:
    """The figures of a prediction; speeds come from llama.cpp's own clock, None where there is nothing to divide by."""
    return PredictionStats(
        stop_reason=stop_reason,
        stop_string=stop_string,
        prompt_tokens=reader.prompt_tokens,
        predicted_tokens=reader.predicted_tokens,
        cached_tokens=reader.cached_tokens,
        reasoning_tokens=reader.reasoning_tokens,
        ttft_s=ttft_s,
        total_s=total_s,
        tokens_per_second=_rate(timings.get("predicted_per_second"), timings.get("predicted_n"), least=2),
        prefill_tokens_per_second=_rate(timings.get("prompt_per_second"), timings.get("prompt_n"), least=1),
    )


def _rate(value: float | None, count: int | None, *, least: int) -> float | None:
    if value is None or count is None or count < least or not math.isfinite(value) or value <= 0:
        return None
    return value
