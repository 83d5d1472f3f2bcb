"""Our records in the shapes LM Studio's clients validate: model and instance infos, packets, stats, log lines. Pure.

JavaScript clients drop a packet that lacks a field or has null in an optional one, and then wait forever, so: optional
fields are left out when unknown; `deviceIdentifier`, `ttlMs` and `lastUsedTime` are always there, null where unknown;
integers are integers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lmstrix.engine.identity import ENGINE_NAME
from lmstrix.engine.protocol import wire
from lmstrix.engine.records import (
    CatalogEntry,
    FragmentEvent,
    LoadEstimate,
    LogEvent,
    PredictionDone,
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
    from collections.abc import Mapping

    from lmstrix.engine.instance import Instance


def model_info(entry: CatalogEntry) -> dict[str, Any]:
    """A model on disk."""
    info: dict[str, Any] = {
        "type": entry.kind,
        "modelKey": entry.model_key,
        "format": "gguf",
        "displayName": entry.display_name,
        "publisher": entry.publisher,
        "path": entry.path,
        "sizeBytes": entry.size_bytes,
        "indexedModelIdentifier": entry.path,
        "deviceIdentifier": None,
        "architecture": entry.architecture,
        "maxContextLength": entry.max_context_length,
    }
    if entry.params is not None:
        info["paramsString"] = entry.params
    # Clients want both or neither.
    if entry.quantization is not None and entry.bits is not None:
        info["quantization"] = {"name": entry.quantization, "bits": entry.bits}
    if entry.kind == "llm":
        info["vision"] = entry.vision
        info["trainedForToolUse"] = entry.trained_for_tool_use
    return info


def instance_info(instance: Instance) -> dict[str, Any]:
    """A loaded instance."""
    return {
        **model_info(instance.entry),
        "identifier": instance.identifier,
        "instanceReference": instance.reference,
        # Clients accept integers only; seconds may be fractions.
        "ttlMs": None if instance.ttl_s is None else round(instance.ttl_s * 1000),
        "lastUsedTime": instance.slots.last_used_ms,
        "contextLength": instance.context_length,
    }


def resource_estimate(estimate: LoadEstimate, *, gpu: bool) -> dict[str, Any]:
    """What a load would take. The bundled llama.cpp has no GPU, so normally nothing is."""
    return {
        "memory": {
            "confidence": estimate.confidence,
            "modelVramBytes": estimate.model_bytes if gpu else 0,
            "contextVramBytes": estimate.context_bytes if gpu else 0,
            "totalVramBytes": estimate.total_bytes if gpu else 0,
            "modelBytes": estimate.model_bytes,
            "contextBytes": estimate.context_bytes,
            "totalBytes": estimate.total_bytes,
        },
        "passesGuardrails": estimate.passes_guardrails,
    }


def prediction_stats(stats: PredictionStats) -> dict[str, Any]:
    """The figures of a prediction; what is unknown, infinite or not a number is left out."""
    total = None
    if stats.prompt_tokens is not None and stats.predicted_tokens is not None:
        total = stats.prompt_tokens + stats.predicted_tokens
    figures = {
        "stopString": stats.stop_string,
        "tokensPerSecond": stats.tokens_per_second,
        "timeToFirstTokenSec": stats.ttft_s,
        "totalTimeSec": stats.total_s,
        # LM Studio tells the decode rate alone; clients leave out what they do not know.
        "prefillTokensPerSecond": stats.prefill_tokens_per_second,
        "promptTokensCount": stats.prompt_tokens,
        "predictedTokensCount": stats.predicted_tokens,
        "totalTokensCount": total,
    }
    known = {
        name: value
        for name, value in figures.items()
        # JSON has no word for infinity or NaN, and clients drop a frame that has one.
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
    return {"stopReason": stats.stop_reason, **known}


def packet(event: PredictionEvent, tool_names: Mapping[str, str]) -> dict[str, Any] | None:
    """The packet of an event; None for those sent otherwise (fragments, the end). Tools get their names back."""
    match event:
        case PromptProgressEvent():
            return prompt_progress(event)
        case ToolCallStartEvent(call_id=call_id):
            return {"type": "toolCallGenerationStart", **({"toolCallId": call_id} if call_id else {})}
        case ToolCallNameEvent(name=name):
            return {"type": "toolCallGenerationNameReceived", "name": tool_names.get(name, name)}
        case ToolCallArgumentEvent(text=text):
            return {"type": "toolCallGenerationArgumentFragmentGenerated", "content": text}
        case ToolCallEndEvent():
            request = {
                "type": "function",
                "name": tool_names.get(event.name, event.name),
                "arguments": event.arguments,
                **({"id": event.call_id} if event.call_id else {}),
            }
            return {"type": "toolCallGenerationEnd", "toolCallRequest": request, **_raw(event.raw)}
        case ToolCallFailedEvent():
            return {"type": "toolCallGenerationFailed", "error": wire.serialized_error(event.fault), **_raw(event.raw)}
        # Fragments are put together by hand for speed, and the end says more than an event knows.
        case FragmentEvent() | PredictionDone():
            return None


def _raw(raw: str | None) -> dict[str, Any]:
    return {} if raw is None else {"rawContent": raw}


def prompt_progress(event: PromptProgressEvent) -> dict[str, Any]:
    """How far the prompt is."""
    return {
        "type": "promptProcessingProgress",
        "progress": event.ratio,
        "details": {
            "cachedTokenCount": event.cached_tokens,
            "totalPromptTokenCount": event.total_tokens,
            "processedPromptTokenCount": event.processed_tokens,
            "unprocessedPromptTokenCount": max(0, event.total_tokens - event.done_tokens),
        },
    }


def log_packet(event: LogEvent, engine_version: str) -> dict[str, Any]:
    """A line of the log stream."""
    data: dict[str, Any] = {"type": event.type}
    match event.type:
        case "llm.prediction.input":
            data |= {
                "input": event.text,
                "modelPath": event.model_path or "",
                "modelIdentifier": event.identifier or "",
            }
        case "llm.prediction.output":
            data |= {"output": event.text, "modelIdentifier": event.identifier or ""}
            if event.stats is not None:
                data["stats"] = prediction_stats(event.stats)
        case "server.log":
            data |= {"content": event.text, "level": event.level}
        case "runtime.log":
            data |= {"level": event.level, "message": event.text, "engineName": ENGINE_NAME, "engineType": "llm"}
            data["engineVersion"] = engine_version
            optional = {
                "modelIdentifier": event.identifier,
                "instanceReference": event.instance_reference,
                "pid": event.pid,
            }
            data |= {name: value for name, value in optional.items() if value is not None}
    return {"type": "log", "log": {"timestamp": event.time_ms, "data": data}}
