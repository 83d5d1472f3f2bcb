"""Between our records and LM Studio's wire. Pure; one table of fields each way.

Requests carry KV config: `{"key", "value"}` fields in one `apiOverride` layer. They are written here, not by the SDK's
typed configs, because those drop what they do not know: auto-fit, parallel sessions, unified cache, seed, tool choice.
Answers are read leniently: an unknown kind, format, field or enum member never spoils the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lmstrix.api.reasoning import effort_key
from lmstrix.ground.errors import UsageError
from lmstrix.ground.types import (
    GenerationRequest,
    LoadedModel,
    Message,
    ModelInfo,
    ModelKind,
    ResourceEstimate,
    ToolDefinition,
)

if TYPE_CHECKING:
    from lmstrix.ground.loads import LoadConfig

Json = dict[str, Any]
JsonView = Mapping[str, Any]


class KvField(NamedTuple):
    """A field of ours and the key it travels under. `encode` gives the wire value."""

    attribute: str
    key: str
    encode: Callable[[Any], Any]


def _plain(value: Any) -> Any:
    return value


def _switched(value: Any) -> Json:
    """A value that LM Studio's settings show behind a checkbox."""
    return {"checked": True, "value": value}


def _listed(value: Sequence[str]) -> list[str]:
    return list(value)


LOAD_FIELDS: Mapping[ModelKind, tuple[KvField, ...]] = {
    "llm": (
        KvField("context_length", "llm.load.contextLength", _plain),
        KvField("gpu_ratio", "llm.load.llama.acceleration.offloadRatio", _plain),
        KvField("k_cache_type", "llm.load.llama.kCacheQuantizationType", _switched),
        KvField("v_cache_type", "llm.load.llama.vCacheQuantizationType", _switched),
        KvField("flash_attention", "llm.load.llama.flashAttention", _plain),
        KvField("parallel_slots", "llm.load.numParallelSessions", _plain),
        KvField("unified_kv", "llm.load.useUnifiedKvCache", _plain),
        KvField("eval_batch_size", "llm.load.llama.evalBatchSize", _plain),
        KvField("offload_kv_cache", "llm.load.offloadKVCacheToGpu", _plain),
        KvField("rope_frequency_base", "llm.load.llama.ropeFrequencyBase", _switched),
        KvField("rope_frequency_scale", "llm.load.llama.ropeFrequencyScale", _switched),
        KvField("mmap", "llm.load.llama.tryMmap", _plain),
        KvField("keep_in_memory", "llm.load.llama.keepModelInMemory", _plain),
        KvField("threads", "llm.load.llama.cpuThreadPoolSize", _plain),
        KvField("seed", "llm.load.seed", _switched),
    ),
    "embedding": (
        KvField("context_length", "embedding.load.contextLength", _plain),
        KvField("gpu_ratio", "embedding.load.llama.acceleration.offloadRatio", _plain),
        KvField("eval_batch_size", "embedding.load.llama.evalBatchSize", _plain),
        KvField("rope_frequency_base", "embedding.load.llama.ropeFrequencyBase", _switched),
        KvField("rope_frequency_scale", "embedding.load.llama.ropeFrequencyScale", _switched),
        KvField("mmap", "embedding.load.llama.tryMmap", _plain),
        KvField("keep_in_memory", "embedding.load.llama.keepModelInMemory", _plain),
        KvField("seed", "embedding.load.seed", _switched),
    ),
}
# Left out, these mean "fit the context to memory", and a load then succeeds with another context than asked for.
NO_AUTO_FIT = ("llm.load.llama.autoFit", "llm.load.mlx.autoFit")

PREDICTION_FIELDS: tuple[KvField, ...] = (
    KvField("max_tokens", "llm.prediction.maxPredictedTokens", _switched),
    KvField("temperature", "llm.prediction.temperature", _plain),
    KvField("top_k", "llm.prediction.topKSampling", _plain),
    KvField("top_p", "llm.prediction.topPSampling", _switched),
    KvField("min_p", "llm.prediction.minPSampling", _switched),
    KvField("repeat_penalty", "llm.prediction.repeatPenalty", _switched),
    KvField("presence_penalty", "llm.prediction.llama.presencePenalty", _switched),
    KvField("frequency_penalty", "llm.prediction.llama.frequencyPenalty", _switched),
    KvField("seed", "llm.prediction.seed", _switched),
    KvField("stop", "llm.prediction.stopStrings", _listed),
    KvField("overflow_policy", "llm.prediction.contextOverflowPolicy", _plain),
    KvField("json_schema", "llm.prediction.structured", lambda schema: {"type": "json", "jsonSchema": dict(schema)}),
    KvField("gbnf_grammar", "llm.prediction.structured", lambda grammar: {"type": "gbnf", "gbnfGrammar": grammar}),
    KvField("tools", "llm.prediction.tools", lambda tools: {"type": "toolArray", "tools": [*map(tool_json, tools)]}),
    KvField("tool_choice", "llm.prediction.toolChoice", lambda mode: {"type": "generic", "mode": mode}),
    KvField("enable_thinking", "llm.prediction.reasoning.enableThinking", _plain),
    KvField("reasoning_budget_tokens", "llm.prediction.reasoning.budgetTokens", _switched),
)

# How a chat endpoint is made to complete raw text: a template that only joins what the messages say. Every LM Studio
# understands it; the newer `completeRawText` endpoint would leave a caller of an older one without any answer.
RAW_TEMPLATE_LAYER: Json = {
    "layerName": "completeModeFormatting",
    "config": {
        "fields": [
            {
                "key": "llm.prediction.promptTemplate",
                "value": {
                    "type": "jinja",
                    "jinjaPromptTemplate": {
                        "bosToken": "",
                        "eosToken": "",
                        "template": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
                        "inputConfig": {"messagesConfig": {"contentConfig": {"type": "string"}}, "useTools": False},
                    },
                    "stopStrings": [],
                },
            }
        ]
    },
}


def _fields(table: Iterable[KvField], record: object) -> list[Json]:
    """The fields of `record` that are set; None and () leave a choice to the server."""
    values = ((field, getattr(record, field.attribute)) for field in table)
    return [{"key": field.key, "value": field.encode(value)} for field, value in values if value not in (None, ())]


def _prediction_fields(request: GenerationRequest, model_key: str) -> list[Json]:
    fields = _fields(PREDICTION_FIELDS, request)
    if request.reasoning_effort is not None:
        fields.append({"key": effort_key(model_key), "value": request.reasoning_effort})
    if request.mirostat is not None:
        # The key has all three; what is left out is llama.cpp's own default.
        entropy = 5.0 if request.mirostat_tau is None else request.mirostat_tau
        rate = 0.1 if request.mirostat_eta is None else request.mirostat_eta
        value = {"version": request.mirostat, "learningRate": rate, "targetEntropy": entropy}
        fields.append({"key": "llm.prediction.llama.mirostatSampling", "value": value})
    return fields


def _stack(fields: list[Json], *further_layers: Json) -> Json:
    return {"layers": [{"layerName": "apiOverride", "config": {"fields": fields}}, *further_layers]}


def load_config_stack(config: LoadConfig | None, kind: ModelKind) -> Json:
    """A load config as KV layers, auto-fit off; None is none at all, so that what is saved for the model counts."""
    if config is None:
        return _stack([])
    fields = _fields(LOAD_FIELDS[kind], config)
    if kind == "llm":
        fields += [{"key": key, "value": False} for key in NO_AUTO_FIT]
    return _stack(fields)


def load_parameters(
    model_key: str, config: LoadConfig | None, *, instance_id: str, kind: ModelKind, ttl_s: float | None
) -> Json:
    """What `loadModel` is created with."""
    parameters: Json = {
        "modelKey": model_key,
        "identifier": instance_id,
        "loadConfigStack": load_config_stack(config, kind),
    }
    if ttl_s is not None:
        # The wire takes whole milliseconds from 1 up.
        parameters["ttlMs"] = max(1, round(ttl_s * 1000))
    return parameters


def prediction_parameters(
    specifier: Json, request: GenerationRequest, images: Mapping[str, Json], *, model_key: str = ""
) -> Json:
    """What `predict` is created with. `images` maps a path to the file part its upload gave.

    The level of reasoning is told by a key of the model's own, for which `model_key` is needed.
    """
    if request.json_schema is not None and request.gbnf_grammar is not None:
        raise UsageError("a JSON schema and a grammar were both given; choose one")
    raw = request.raw_prompt is not None
    messages = (Message(role="user", text=request.raw_prompt or ""),) if raw else request.messages
    layers = (RAW_TEMPLATE_LAYER,) if raw else ()
    return {
        "modelSpecifier": specifier,
        "history": history_json(messages, images),
        "predictionConfigStack": _stack(_prediction_fields(request, model_key), *layers),
    }


def template_parameters(
    specifier: Json, messages: Sequence[Message], tools: Sequence[ToolDefinition], images: Mapping[str, Json]
) -> Json:
    """What `applyPromptTemplate` is called with."""
    options: Json = {"toolDefinitions": [tool_json(tool) for tool in tools]} if tools else {}
    return {
        "specifier": specifier,
        "history": history_json(messages, images),
        "predictionConfigStack": {"layers": []},
        "opts": options,
    }


def tool_json(tool: ToolDefinition) -> Json:
    """A tool as the wire names it."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def history_json(messages: Sequence[Message], images: Mapping[str, Json]) -> Json:
    """A chat as the wire holds it; a tool's answer has a part of its own kind."""
    return {"messages": [{"role": message.role, "content": _parts(message, images)} for message in messages]}


def _parts(message: Message, images: Mapping[str, Json]) -> list[Json]:
    if message.role == "tool":
        result: Json = {"type": "toolCallResult", "content": message.text}
        if message.tool_call_id is not None:
            result["toolCallId"] = message.tool_call_id
        return [result]
    parts: list[Json] = []
    if message.text or not (message.images or message.tool_calls):
        parts.append({"type": "text", "text": message.text})
    parts += [images[path] for path in message.images]
    for call in message.tool_calls:
        request: Json = {"type": "function", "name": call.name, "arguments": dict(call.arguments or {})}
        if call.call_id is not None:
            request["id"] = call.call_id
        parts.append({"type": "toolCallRequest", "toolCallRequest": request})
    return parts


def image_paths(messages: Iterable[Message]) -> list[str]:
    """Every image the messages show, once."""
    return list(dict.fromkeys(path for message in messages for path in message.images))


# --- answers ------------------------------------------------------------------------------------------------------


def text_of(source: JsonView, name: str) -> str | None:
    """A text member, None when absent, empty or of another type."""
    value = source.get(name)
    return value if isinstance(value, str) and value else None


def number_of(source: JsonView, name: str) -> float | None:
    """A finite number member, else None."""
    value = source.get(name)
    # `true` is an int to Python. Its JSON reader also takes NaN and Infinity, which are no sizes or times.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value == value and abs(value) != float("inf") else None


def count_of(source: JsonView, name: str) -> int | None:
    """A whole number of at least 0 (also when written 12.0), else None."""
    value = number_of(source, name)
    return int(value) if value is not None and value >= 0 and value == int(value) else None


def object_of(source: JsonView, name: str) -> JsonView:
    """An object member, empty when absent or of another type."""
    value = source.get(name)
    return value if isinstance(value, Mapping) else {}


def list_of(source: JsonView, name: str) -> list[object]:
    """A list member, empty when absent or of another type."""
    value = source.get(name)
    return value if isinstance(value, list) else []


def _kind_of(source: JsonView) -> ModelKind | None:
    kind = source.get("type")
    return cast("ModelKind", kind) if kind in ("llm", "embedding") else None


def is_on_this_machine(entry: object) -> bool:
    """Whether a listed entry is a model of a kind we know, on this machine rather than on a linked one."""
    return isinstance(entry, Mapping) and _kind_of(entry) is not None and entry.get("deviceIdentifier") is None


def downloaded_models(listing: object) -> list[ModelInfo]:
    """The local models of a `listDownloadedModels` answer."""
    entries = listing if isinstance(listing, list) else []
    return [model_info(entry) for entry in entries if is_on_this_machine(entry) and text_of(entry, "modelKey")]


def local_instances(listing: object) -> list[JsonView]:
    """The local entries of a `listLoaded` answer that name themselves fully, unread."""
    entries = listing if isinstance(listing, list) else []
    named = ("identifier", "instanceReference")
    return [
        entry
        for entry in entries
        if is_on_this_machine(entry)
        and all(text_of(entry, name) for name in named)
        and count_of(entry, "contextLength") is not None
    ]


def mapping_or_none(answer: object) -> JsonView | None:
    """An object, or None where the server sent nothing or something else."""
    return answer if isinstance(answer, Mapping) else None


def _path_of(entry: JsonView, model_key: str) -> str:
    """Where a model lies below the models folder, or its key; a server on Windows may write folders as Windows does.

    The key itself stays as it came: by it the server is asked for the model.
    """
    return (text_of(entry, "path") or model_key).replace("\\", "/")


def model_info(entry: JsonView) -> ModelInfo:
    """One downloaded model."""
    quantization = object_of(entry, "quantization")
    model_key = text_of(entry, "modelKey") or ""
    return ModelInfo(
        model_key=model_key,
        kind=_kind_of(entry) or "llm",
        path=_path_of(entry, model_key),
        size_bytes=count_of(entry, "sizeBytes") or 0,
        max_context_length=count_of(entry, "maxContextLength") or 0,
        display_name=text_of(entry, "displayName") or model_key,
        publisher=text_of(entry, "publisher") or "",
        format=text_of(entry, "format") or "unknown",
        architecture=text_of(entry, "architecture"),
        params=text_of(entry, "paramsString"),
        quantization=text_of(quantization, "name"),
        bits=count_of(quantization, "bits"),
        vision=entry.get("vision") is True,
        trained_for_tool_use=entry.get("trainedForToolUse") is True,
    )


def loaded_model(entry: JsonView, state: JsonView | None = None) -> LoadedModel:
    """One instance; `state` is what `getInstanceProcessingState` says of it."""
    ttl_ms = number_of(entry, "ttlMs")
    instance_id = text_of(entry, "identifier")
    reference = text_of(entry, "instanceReference")
    context_length = count_of(entry, "contextLength")
    if instance_id is None or reference is None or context_length is None:
        raise ValueError("an instance without identifier, instanceReference or contextLength")
    model_key = text_of(entry, "modelKey") or instance_id
    return LoadedModel(
        instance_id=instance_id,
        instance_reference=reference,
        model_key=model_key,
        kind=_kind_of(entry) or "llm",
        path=_path_of(entry, model_key),
        context_length=context_length,
        max_context_length=count_of(entry, "maxContextLength") or 0,
        size_bytes=count_of(entry, "sizeBytes") or 0,
        ttl_s=None if ttl_ms is None else ttl_ms / 1000,
        last_used_at=_moment(number_of(entry, "lastUsedTime")),
        status=text_of(state, "status") if state else None,
        queued=count_of(state, "queued") if state else None,
        device=text_of(entry, "deviceIdentifier"),
    )


def _moment(unix_ms: float | None) -> datetime | None:
    """A time of the wire; None when there is none, or when it is outside the calendar."""
    try:
        return None if unix_ms is None else datetime.fromtimestamp(unix_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def resource_estimate(answer: JsonView) -> ResourceEstimate:
    """What `estimateModelUsage` answers."""
    memory = answer["memory"]

    def size(name: str) -> int:
        value = number_of(memory, name)
        if value is None:
            raise ValueError(f"an estimate without {name}")
        return int(value)

    return ResourceEstimate(
        model_bytes=size("modelBytes"),
        context_bytes=size("contextBytes"),
        total_bytes=size("totalBytes"),
        gpu_total_bytes=size("totalVramBytes"),
        # Only an explicit refusal counts: a server that says nothing is not taken to refuse.
        passes_guardrails=answer.get("passesGuardrails") is not False,
        confidence="high" if memory.get("confidence") == "high" else "low",
    )


def by_reference(reference: str) -> Json:
    """A loaded instance as requests name it: by what the server calls it, which it gives to no other."""
    return {"type": "instanceReference", "instanceReference": reference}
