"""Layers of keyed settings as LM Studio sends them, and the `llm.load.*` keys among them. Pure.

A stack is collapsed in order (the last assignment of a key wins) into a flat dict, then read into LoadSettings by the
table below: one row a key, saying how its value is read and what becomes of it. Three outcomes: honoured; refused by
name, because llama.cpp as bundled cannot do it and doing something else quietly would make measurements lie; or, for a
key nobody here knows, ignored and handed back so that it can be logged. The way back (`load_config`) reports every
known key with its effective value, because SDKs fill gaps with defaults of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from lmstrix.engine.records import EngineFault, LoadSettings
from lmstrix.ground.choices import CacheType

if TYPE_CHECKING:
    from lmstrix.ground.types import ModelKind

Flat: TypeAlias = dict[str, Any]
CACHE_TYPES: Final = frozenset(get_args(CacheType))
_CUSTOM_FIELD_PREFIX: Final = "ext.virtualModel.customField."
_ECHO_CACHE_TYPES: Final = frozenset({"f32", "f16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"})


def bad_value(key: str, expected: str, value: object) -> EngineFault:
    """A setting whose value cannot be read."""
    return EngineFault(f"{key}: expected {expected}, found {value!r}.", kind="invalid", error_data={"key": key})


def unsupported(key: str, why: str) -> EngineFault:
    """A setting that is understood and cannot be done."""
    return EngineFault(f"The embedded engine cannot honour {key}: {why}.", kind="unsupported", error_data={"key": key})


def collapse(stack: object) -> Flat:
    """The layers of a KVConfigStack as one dict; a field without a value is as if it were not there."""
    flat: Flat = {}
    for _, fields in layers(stack):
        flat.update(fields)
    return flat


def layers(stack: object) -> list[tuple[str, Flat]]:
    """(layer name, fields) in order. Raises EngineFault for anything that is not a stack; None is an empty one."""
    if stack is None:
        return []
    try:
        return [(str(layer["layerName"]), fields_of(layer["config"])) for layer in _list(stack, "layers")]
    except (KeyError, TypeError) as exc:
        raise EngineFault("A config stack must be {layers: [{layerName, config: {fields}}]}.", kind="invalid") from exc


def fields_of(config: object) -> Flat:
    """The fields of one KVConfig as a dict."""
    return {str(field["key"]): field["value"] for field in _list(config, "fields") if "value" in field}


def _list(container: Any, name: str) -> Sequence[Any]:
    found = container[name]
    if not isinstance(found, list):
        raise TypeError(name)
    return found


def kv_config(flat: Mapping[str, object]) -> dict[str, Any]:
    """A dict as a KVConfig."""
    return {"fields": [{"key": key, "value": value} for key, value in flat.items()]}


# Readers of values. Each takes (key, value) and returns what the setting means, or raises bad_value.


def read_bool(key: str, value: object) -> bool:
    """A plain boolean."""
    if not isinstance(value, bool):
        raise bad_value(key, "true or false", value)
    return value


def read_number(key: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise bad_value(key, "a number", value)
    return value


def read_int(key: str, value: object, minimum: int = 0) -> int:
    """A whole number; 4096.0 counts as one."""
    number = read_number(key, value)
    if number != int(number) or number < minimum:
        raise bad_value(key, f"a whole number of at least {minimum}", value)
    return int(number)


def read_positive(key: str, value: object) -> int:
    """A whole number of at least 1."""
    return read_int(key, value, 1)


def read_text(key: str, value: object) -> str:
    """Text."""
    if not isinstance(value, str):
        raise bad_value(key, "text", value)
    return value


def read_checkbox(key: str, value: object) -> Any:
    """The value of a checked checkbox, or None when it is off: unchecked, or checked with the value false."""
    if not isinstance(value, Mapping) or not isinstance(value.get("checked"), bool):
        raise bad_value(key, "{checked, value}", value)
    inner = value.get("value")
    return None if not value["checked"] or inner is False else inner


def read_checked_number(key: str, value: object) -> float | None:
    """The number behind a checkbox, None when off."""
    inner = read_checkbox(key, value)
    return None if inner is None else read_number(key, inner)


def read_ratio(key: str, value: object) -> float:
    """A share 0..1, or the words "max" and "off"."""
    number = {"max": 1.0, "off": 0.0}.get(value) if isinstance(value, str) else read_number(key, value)
    if number is None or not 0 <= number <= 1:
        raise bad_value(key, 'a number from 0 to 1, "max" or "off"', value)
    return float(number)


def read_cache_type(key: str, value: object) -> str | None:
    """A KV cache type behind a checkbox, None when off."""
    inner = read_checkbox(key, value)
    if inner is not None and inner not in CACHE_TYPES:
        raise bad_value(key, f"one of {', '.join(sorted(CACHE_TYPES))}", inner)
    return inner  # type: ignore[no-any-return]  # one of CACHE_TYPES or None, as just checked


def read_jinja_template(key: str, value: object) -> str:
    """A prompt template given as Jinja."""
    try:
        if value["type"] == "jinja":  # type: ignore[index]  # TypeError for what has no keys is the check
            return read_text(key, value["jinjaPromptTemplate"]["template"])  # type: ignore[index]  # as above
    except (KeyError, TypeError):
        pass
    raise bad_value(key, "a jinja prompt template", value)


# What becomes of a key: (changes to make to LoadSettings) from its value.

_Rule: TypeAlias = Callable[[str, Any], dict[str, Any]]


def _sets(field: str, read: Callable[[str, object], Any]) -> _Rule:
    return lambda key, value: {field: read(key, value)}


def _refuses(why: str, *harmless: object) -> _Rule:
    """Accept only the values that ask for nothing."""

    def rule(key: str, value: object) -> dict[str, Any]:
        if value not in harmless:
            raise unsupported(key, why)
        return {}

    return rule


def _without_effect(_key: str, _value: object) -> dict[str, Any]:
    return {}


def _fp16_cache(key: str, value: object) -> dict[str, Any]:
    return {} if read_bool(key, value) else {"k_cache_type": "f32", "v_cache_type": "f32"}


def _gpu_split(key: str, value: object) -> dict[str, Any]:
    asks_nothing = isinstance(value, Mapping) and value.get("strategy", "evenly") == "evenly"
    if not asks_nothing or any(value.get(name) for name in ("disabledGpus", "priority", "customRatio")):  # type: ignore[attr-defined]
        raise unsupported(key, "layers are always split evenly over all GPUs")
    return {}


def _arguments_override(key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or value.get("enabled"):
        raise unsupported(key, "raw llama.cpp arguments are not taken")
    return {}


def _seed(key: str, value: object) -> dict[str, Any]:
    number = read_checked_number(key, value)
    return {"seed": None if number is None or number < 0 else read_int(key, number)}


_SPECULATIVE: Final = "speculative decoding is not available"
_MLX: Final = _without_effect  # keys of another engine, meant for another file format
_LOAD_RULES: Final[Mapping[str, _Rule]] = {
    "load.gpuSplitConfig": _gpu_split,
    "load.gpuStrictVramCap": _refuses("GPU memory cannot be capped", False),
    "envVars": _refuses("variables of the process are not taken", {}),
    "llm.load.contextLength": _sets("context_length", read_positive),
    "llm.load.autoFitMinContextLength": _without_effect,  # nothing is ever fitted
    "llm.load.llama.autoFit": _refuses("a context is loaded at the length asked for or not at all", False),
    "llm.load.mlx.autoFit": _MLX,
    "llm.load.yuzu.autoFit": _MLX,
    "llm.load.mlx.diskCache": _MLX,
    "llm.load.mlx.kvCacheQuantization": _MLX,
    "llm.load.llama.acceleration.offloadRatio": _sets("offload_ratio", read_ratio),
    "llm.load.numCpuExpertLayersRatio": _refuses("experts cannot be placed apart", "off", 0),
    "llm.load.offloadKVCacheToGpu": _sets("offload_kv_cache", read_bool),
    "llm.load.llama.flashAttention": _sets("flash_attention", read_bool),
    "llm.load.llama.useFp16ForKVCache": _fp16_cache,
    "llm.load.llama.kCacheQuantizationType": _sets("k_cache_type", read_cache_type),
    "llm.load.llama.vCacheQuantizationType": _sets("v_cache_type", read_cache_type),
    "llm.load.llama.tryMmap": _sets("mmap", read_bool),
    "llm.load.llama.tryDirectIO": _refuses("files are read through the page cache", False),
    "llm.load.llama.keepModelInMemory": _sets("keep_in_memory", read_bool),
    "llm.load.llama.evalBatchSize": _sets("eval_batch_size", read_positive),
    "llm.load.llama.physicalBatchSize": _sets("physical_batch_size", read_positive),
    "llm.load.llama.cpuThreadPoolSize": _sets("threads", read_positive),
    "llm.load.llama.contextCheckpoints": _sets("context_checkpoints", read_int),
    "llm.load.llama.reasoningBudgetMessage": _refuses("the message is not configurable", ""),
    "llm.load.llama.ropeFrequencyBase": _sets("rope_frequency_base", read_checked_number),
    "llm.load.llama.ropeFrequencyScale": _sets("rope_frequency_scale", read_checked_number),
    "llm.load.numExperts": _refuses("the number of experts is the model's own", 0),
    "llm.load.seed": _seed,
    "llm.load.numParallelSessions": _sets("parallel_slots", read_positive),
    "llm.load.useUnifiedKvCache": _sets("unified_kv", read_bool),
    "llm.load.promptTemplate": _sets("chat_template", read_jinja_template),
    "llm.load.llama.speculativeDecoding.draftMtp": _refuses(_SPECULATIVE, False),
    "llm.load.llama.speculativeDecoding.draftSimple": _refuses(_SPECULATIVE, False),
    "llm.load.llama.speculativeDecoding.draftDflashSidecar": _refuses(_SPECULATIVE, False),
    "llm.load.llama.speculativeDecoding.draftDsparkSidecar": _refuses(_SPECULATIVE, False),
    "llm.load.llama.speculativeDecoding.draftMtpSidecar": _refuses(_SPECULATIVE, False),
    "llm.load.llama.speculativeDecoding.draftModel": _refuses(_SPECULATIVE, ""),
    "llm.load.llama.speculativeDecoding.draftMaxTokens": _without_effect,  # limits of what is not there
    "llm.load.llama.speculativeDecoding.draftMinTokens": _without_effect,
    "llm.load.llama.speculativeDecoding.draftMinContinueProbability": _without_effect,
    "llm.load.llama.argumentsOverride": _arguments_override,
}
_EMBEDDING_KEYS: Final = (
    "contextLength",
    "seed",
    "llama.acceleration.offloadRatio",
    "llama.evalBatchSize",
    "llama.ropeFrequencyBase",
    "llama.ropeFrequencyScale",
    "llama.keepModelInMemory",
    "llama.tryMmap",
)
LOAD_KEYS: Final = frozenset(_LOAD_RULES) | {f"embedding.load.{key}" for key in _EMBEDDING_KEYS}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """What a stack asks for, and the keys in it nobody here knows."""

    settings: LoadSettings
    ignored_keys: tuple[str, ...]


def load_request(stack: object) -> LoadRequest:
    """Read a stack of load settings. Raises EngineFault for a bad value or one that cannot be honoured."""
    changes: dict[str, Any] = {}
    ignored = []
    # The coarse switch for 16-bit caches first, so that an explicit cache type has the last word.
    for key, value in sorted(collapse(stack).items(), key=lambda item: item[0] != "llm.load.llama.useFp16ForKVCache"):
        rule = _LOAD_RULES.get(_as_llm_key(key))
        if rule is None:
            ignored.append(key)
            continue
        found = rule(key, value)
        changes.update({name: wanted for name, wanted in found.items() if wanted is not None})
    settings = replace(LoadSettings(), **changes)
    if settings.physical_batch_size > settings.eval_batch_size:
        settings = replace(settings, physical_batch_size=settings.eval_batch_size)
    return LoadRequest(settings=settings, ignored_keys=tuple(ignored))


def _as_llm_key(key: str) -> str:
    name = key.removeprefix("embedding.load.")
    return f"llm.load.{name}" if name != key and name in _EMBEDDING_KEYS else key


def is_custom_field(key: str) -> bool:
    """Whether a key carries a virtual model's own field, which no engine is expected to know."""
    return key.startswith(_CUSTOM_FIELD_PREFIX)


def load_config(settings: LoadSettings, context_length: int, kind: ModelKind) -> dict[str, Any]:
    """The KVConfig of a loaded model: every known key, with what is in effect."""
    if kind == "embedding":
        full = _llm_load_fields(settings, context_length)
        return kv_config({f"embedding.load.{key}": full[f"llm.load.{key}"] for key in _EMBEDDING_KEYS})
    return kv_config(_llm_load_fields(settings, context_length))


def _llm_load_fields(settings: LoadSettings, context_length: int) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "llm.load.contextLength": context_length,
        "llm.load.autoFitMinContextLength": 0,
        "llm.load.llama.autoFit": False,
        "llm.load.mlx.autoFit": False,
        "llm.load.llama.acceleration.offloadRatio": _shown_ratio(settings.offload_ratio),
        "llm.load.numCpuExpertLayersRatio": "off",
        "load.gpuSplitConfig": {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []},
        "load.gpuStrictVramCap": False,
        "llm.load.offloadKVCacheToGpu": settings.offload_kv_cache,
        "llm.load.llama.flashAttention": settings.flash_attention is not False,
        "llm.load.llama.kCacheQuantizationType": _shown_cache_type(settings.k_cache_type),
        "llm.load.llama.vCacheQuantizationType": _shown_cache_type(settings.v_cache_type),
        "llm.load.llama.useFp16ForKVCache": (settings.k_cache_type, settings.v_cache_type) != ("f32", "f32"),
        "llm.load.llama.tryMmap": settings.mmap,
        "llm.load.llama.tryDirectIO": False,
        "llm.load.llama.keepModelInMemory": settings.keep_in_memory,
        "llm.load.llama.evalBatchSize": settings.eval_batch_size,
        "llm.load.llama.physicalBatchSize": settings.physical_batch_size,
        "llm.load.llama.contextCheckpoints": settings.context_checkpoints,
        "llm.load.llama.reasoningBudgetMessage": "",
        "llm.load.llama.ropeFrequencyBase": shown_checkbox(settings.rope_frequency_base, 0),
        "llm.load.llama.ropeFrequencyScale": shown_checkbox(settings.rope_frequency_scale, 0),
        "llm.load.numExperts": 0,
        "llm.load.seed": shown_checkbox(settings.seed, -1),
        "llm.load.numParallelSessions": settings.parallel_slots,
        "llm.load.useUnifiedKvCache": settings.unified_kv,
        "llm.load.llama.speculativeDecoding.draftMtp": False,
        "llm.load.llama.speculativeDecoding.draftSimple": False,
        "llm.load.llama.speculativeDecoding.draftModel": "",
    }
    if settings.threads is not None:
        fields["llm.load.llama.cpuThreadPoolSize"] = settings.threads
    if settings.chat_template is not None:
        fields["llm.load.promptTemplate"] = jinja_template(settings.chat_template)
    return fields


def shown_checkbox(value: float | None, unchecked: float) -> dict[str, Any]:
    """A switchable number; None is off, shown with its schema default."""
    return {"checked": value is not None, "value": unchecked if value is None else value}


def jinja_template(template: str) -> dict[str, Any]:
    """A prompt template in the form SDKs validate."""
    return {
        "type": "jinja",
        "jinjaPromptTemplate": {
            "template": template,
            "bosToken": "",
            "eosToken": "",
            "inputConfig": {"messagesConfig": {"contentConfig": {"type": "string"}}, "useTools": True},
        },
        "stopStrings": [],
    }


def _shown_ratio(ratio: float | None) -> float | str:
    return "max" if ratio is None or ratio >= 1 else "off" if ratio <= 0 else ratio


def _shown_cache_type(cache_type: str | None) -> dict[str, Any]:
    """bf16 is llama.cpp's, not a value SDKs know: it shows as the 16-bit default."""
    known = cache_type if cache_type in _ECHO_CACHE_TYPES else None
    return {"checked": known is not None, "value": known or "f16"}
