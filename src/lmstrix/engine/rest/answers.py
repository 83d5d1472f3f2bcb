"""What a prediction came to, and the pieces REST bodies are made of."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.identity import ENGINE_NAME, llama_version
from lmstrix.engine.records import (
    FragmentEvent,
    PredictionDone,
    PredictionEvent,
    PredictionStats,
    ToolCallEndEvent,
    ToolCallFailedEvent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lmstrix.engine.instance import Instance

_FINISH: Final = {
    "maxPredictedTokensReached": "length",
    "contextLengthReached": "length",
    "toolCalls": "tool_calls",
}


@dataclass(slots=True)
class Answer:
    """The parts of an answer, as far as it has come."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    stats: PredictionStats | None = None

    def take(self, event: PredictionEvent) -> dict[str, Any] | None:
        """Note an event; return what it adds to an OpenAI-style message, if anything. Reasoning tags add nothing."""
        match event:
            case FragmentEvent(reasoning_type="none", text=text):
                self.text.append(text)
                return {"content": text}
            case FragmentEvent(reasoning_type="reasoning", text=text):
                self.reasoning.append(text)
                return {"reasoning_content": text}
            case ToolCallEndEvent():
                call = _tool_call(event)
                self.tool_calls.append(call)
                return {"tool_calls": [{"index": len(self.tool_calls) - 1, **call}]}
            # OpenAI has no form for a garbled call; what the model wrote is at least shown as text.
            case ToolCallFailedEvent(raw=raw) if raw and not self.text:
                self.text.append(raw)
                return {"content": raw}
            case PredictionDone(stats=stats):
                # None of OpenAI's reasons fits, and an answer cut off without a word looks whole.
                if stats.stop_reason == "modelUnloaded":
                    raise EngineFault("The model was unloaded while it answered.", kind="unloaded")
                self.stats = stats
        return None

    @property
    def done(self) -> PredictionStats:
        """The figures; an answer without any did not end."""
        if self.stats is None:
            raise EngineFault("The prediction ended without a result.", kind="internal")
        return self.stats

    def message(self) -> dict[str, Any]:
        """The whole as an OpenAI-style message."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.text)}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.tool_calls:
            message["tool_calls"] = self.tool_calls
        return message


def _tool_call(event: ToolCallEndEvent) -> dict[str, Any]:
    return {
        # Clients answer a call by its id; a model that gave none must not make that impossible.
        "id": event.call_id or f"call_{secrets.token_hex(8)}",
        "type": "function",
        "function": {"name": event.name, "arguments": json.dumps(event.arguments)},
    }


async def gathered(prediction: AsyncIterator[PredictionEvent]) -> Answer:
    """All of a prediction."""
    answer = Answer()
    async for event in prediction:
        answer.take(event)
    return answer


def finish_reason(stats: PredictionStats) -> str:
    """Why it ended, in OpenAI's words."""
    return _FINISH.get(stats.stop_reason, "stop")


def usage(stats: PredictionStats) -> dict[str, Any]:
    """The token counts."""
    prompt_tokens, completion_tokens = stats.prompt_tokens or 0, stats.predicted_tokens or 0
    counts: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    if stats.cached_tokens is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": stats.cached_tokens}
    if stats.reasoning_tokens is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": stats.reasoning_tokens}
    return counts


def v0_details(instance: Instance, stats: PredictionStats) -> dict[str, Any]:
    """What `/api/v0` adds: times in seconds, the model and the engine."""
    figures = {
        "tokens_per_second": stats.tokens_per_second,
        "time_to_first_token": stats.ttft_s,
        # Without the time to the first token, which is told beside it.
        "generation_time": None if stats.total_s is None else stats.total_s - (stats.ttft_s or 0.0),
        "stop_reason": stats.stop_reason,
    }
    entry = instance.entry
    return {
        "stats": {name: value for name, value in figures.items() if value is not None},
        "model_info": {
            "arch": entry.architecture,
            "quant": entry.quantization,
            "format": "gguf",
            "context_length": instance.context_length,
        },
        "runtime": {"name": ENGINE_NAME, "version": llama_version(), "supported_formats": ["gguf"]},
    }
