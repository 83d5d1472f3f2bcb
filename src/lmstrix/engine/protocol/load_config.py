"""The `llm.load.*` keys, read into LoadSettings and reported back. Pure.

One row per key. The way back (`load_config`) reports every row that has something to show with what is in effect,
because SDKs fill gaps with defaults of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, get_args

from lmstrix.engine.protocol.kv_config import (
    Changes,
    Reader,
    Rule,
    apply_rules,
    collapse,
    kv_config,
    read_checkbox,
    read_checked_count,
    read_checked_number,
    read_jinja_template,
    refuses,
    shown_checkbox,
    shown_template,
    without_effect,
)
from lmstrix.engine.records import LoadSettings
from lmstrix.engine.values import (
    bad_value,
    read_bool,
    read_context_length,
    read_int,
    read_number,
    read_positive,
    unsupported,
)
from lmstrix.ground.choices import CacheType

if TYPE_CHECKING:
    from lmstrix.ground.types import ModelKind

_CACHE_TYPES: Final = frozenset(get_args(CacheType))
_SHOWN_CACHE_TYPES: Final = _CACHE_TYPES - {"bf16"}
"""bf16 is llama.cpp's, not a value SDKs know: it shows as the 16-bit default."""
_CUSTOM_FIELD_PREFIX: Final = "ext.virtualModel.customField."

_Shown: TypeAlias = Callable[[LoadSettings], object]


class _Row(NamedTuple):
    """What becomes of a key, and what it shows of settings in effect; None: it is not shown, or not with these."""

    rule: Rule
    shown: _Shown | None = None


def _honoured(field: str, read: Reader, shown: Callable[[Any], object] = lambda value: value) -> _Row:
    """The key of one field; `shown` turns the field's value into the key's."""
    value_of = attrgetter(field)

    def rule(key: str, value: object) -> Changes:
        found = read(key, value)
        # A checkbox that is off asks for nothing: it must not undo what another key has set.
        return {} if found is None else {field: found}

    return _Row(rule, lambda settings: shown(value_of(settings)))


def _refused(why: str, harmless: object, *more: object) -> _Row:
    """A key that can only ask for nothing, which is what it shows."""
    return _Row(refuses(why, harmless, *more), lambda _: harmless)


def _read_ratio(key: str, value: object) -> float:
    """A share 0..1, or the words "max" and "off"."""
    number = {"max": 1.0, "off": 0.0}.get(value) if isinstance(value, str) else read_number(key, value)
    if number is None or not 0 <= number <= 1:
        raise bad_value(key, 'a number from 0 to 1, "max" or "off"', value)
    return float(number)


def _shown_ratio(ratio: float | None) -> float | str:
    return "max" if ratio is None or ratio >= 1 else "off" if ratio <= 0 else ratio


def _read_cache_type(key: str, value: object) -> str | None:
    """A KV cache type behind a checkbox, None when off."""
    inner = read_checkbox(key, value)
    if inner is not None and not (isinstance(inner, str) and inner in _CACHE_TYPES):
        raise bad_value(key, f"one of {', '.join(sorted(_CACHE_TYPES))}", inner)
    return inner


def _shown_cache_type(cache_type: CacheType | None) -> dict[str, Any]:
    known = cache_type if cache_type in _SHOWN_CACHE_TYPES else None
    return {"checked": known is not None, "value": known or "f16"}


def _shown_if_off(value: float | None) -> dict[str, Any]:
    return shown_checkbox(value, 0)


def _fp16_cache(key: str, value: object) -> Changes:
    return {} if read_bool(key, value) else {"k_cache_type": "f32", "v_cache_type": "f32"}


def _gpu_split(key: str, value: object) -> Changes:
    asks_nothing = isinstance(value, Mapping) and value.get("strategy", "evenly") == "evenly"
    if not asks_nothing or any(value.get(name) for name in ("disabledGpus", "priority", "customRatio")):  # type: ignore[attr-defined]
        raise unsupported(key, "layers are always split evenly over all GPUs")
    return {}


def _arguments_override(key: str, value: object) -> Changes:
    if not isinstance(value, Mapping) or value.get("enabled"):
        raise unsupported(key, "raw llama.cpp arguments are not taken")
    return {}


_NO_DRAFTS: Final = "speculative decoding is not available"
_FP16_CACHE_KEY: Final = "llm.load.llama.useFp16ForKVCache"
_ROWS: Final[Mapping[str, _Row]] = {
    # In the order in which they are shown.
    "llm.load.contextLength": _honoured("context_length", read_context_length),
    "llm.load.autoFitMinContextLength": _Row(without_effect, lambda _: 0),  # nothing is ever fitted
    "llm.load.llama.autoFit": _refused("a context is loaded at the length asked for or not at all", False),
    "llm.load.mlx.autoFit": _Row(without_effect, lambda _: False),
    "llm.load.llama.acceleration.offloadRatio": _honoured("offload_ratio", _read_ratio, _shown_ratio),
    "llm.load.numCpuExpertLayersRatio": _refused("experts cannot be placed apart", "off", 0),
    "load.gpuSplitConfig": _Row(
        _gpu_split, lambda _: {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []}
    ),
    "load.gpuStrictVramCap": _refused("GPU memory cannot be capped", False),
    "llm.load.offloadKVCacheToGpu": _honoured("offload_kv_cache", read_bool),
    "llm.load.llama.flashAttention": _honoured("flash_attention", read_bool, lambda value: value is not False),
    "llm.load.llama.kCacheQuantizationType": _honoured("k_cache_type", _read_cache_type, _shown_cache_type),
    "llm.load.llama.vCacheQuantizationType": _honoured("v_cache_type", _read_cache_type, _shown_cache_type),
    _FP16_CACHE_KEY: _Row(_fp16_cache, lambda settings: (settings.k_cache_type, settings.v_cache_type) != ("f32",) * 2),
    "llm.load.llama.tryMmap": _honoured("mmap", read_bool),
    "llm.load.llama.tryDirectIO": _refused("files are read through the page cache", False),
    "llm.load.llama.keepModelInMemory": _honoured("keep_in_memory", read_bool),
    "llm.load.llama.evalBatchSize": _honoured("eval_batch_size", read_positive),
    "llm.load.llama.physicalBatchSize": _honoured("physical_batch_size", read_positive),
    "llm.load.llama.contextCheckpoints": _honoured("context_checkpoints", read_int),
    "llm.load.llama.reasoningBudgetMessage": _refused("the message is not configurable", ""),
    "llm.load.llama.ropeFrequencyBase": _honoured("rope_frequency_base", read_checked_number, _shown_if_off),
    "llm.load.llama.ropeFrequencyScale": _honoured("rope_frequency_scale", read_checked_number, _shown_if_off),
    "llm.load.numExperts": _refused("the number of experts is the model's own", 0),
    "llm.load.seed": _honoured("seed", read_checked_count, lambda seed: shown_checkbox(seed, -1)),
    "llm.load.numParallelSessions": _honoured("parallel_slots", read_positive),
    "llm.load.useUnifiedKvCache": _honoured("unified_kv", read_bool),
    "llm.load.llama.speculativeDecoding.draftMtp": _refused(_NO_DRAFTS, False),
    "llm.load.llama.speculativeDecoding.draftSimple": _refused(_NO_DRAFTS, False),
    "llm.load.llama.speculativeDecoding.draftModel": _refused(_NO_DRAFTS, ""),
    "llm.load.llama.cpuThreadPoolSize": _honoured("threads", read_positive),
    "llm.load.promptTemplate": _honoured(
        "chat_template", read_jinja_template, lambda template: None if template is None else shown_template(template)
    ),
    # Never shown: no SDK asks for them back.
    "envVars": _Row(refuses("variables of the process are not taken", {})),
    "llm.load.llama.argumentsOverride": _Row(_arguments_override),
    "llm.load.llama.speculativeDecoding.draftDflashSidecar": _Row(refuses(_NO_DRAFTS, False)),
    "llm.load.llama.speculativeDecoding.draftDsparkSidecar": _Row(refuses(_NO_DRAFTS, False)),
    "llm.load.llama.speculativeDecoding.draftMtpSidecar": _Row(refuses(_NO_DRAFTS, False)),
    # Limits of what is not there, and keys of another engine, meant for another file format.
    "llm.load.llama.speculativeDecoding.draftMaxTokens": _Row(without_effect),
    "llm.load.llama.speculativeDecoding.draftMinTokens": _Row(without_effect),
    "llm.load.llama.speculativeDecoding.draftMinContinueProbability": _Row(without_effect),
    "llm.load.yuzu.autoFit": _Row(without_effect),
    "llm.load.mlx.diskCache": _Row(without_effect),
    "llm.load.mlx.kvCacheQuantization": _Row(without_effect),
}
_EMBEDDING_KEYS: Final[Mapping[str, str]] = {
    f"embedding.load.{name}": f"llm.load.{name}"
    for name in (
        "contextLength",
        "seed",
        "llama.acceleration.offloadRatio",
        "llama.evalBatchSize",
        "llama.ropeFrequencyBase",
        "llama.ropeFrequencyScale",
        "llama.keepModelInMemory",
        "llama.tryMmap",
    )
}
"""Embedding models have these settings under names of their own, each meaning the same as the other one."""
_RULES: Final[Mapping[str, Rule]] = {key: row.rule for key, row in _ROWS.items()} | {
    key: _ROWS[llm_key].rule for key, llm_key in _EMBEDDING_KEYS.items()
}
LOAD_KEYS: Final = frozenset(_RULES)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """What a stack asks for, and the keys in it nobody here knows."""

    settings: LoadSettings
    ignored_keys: tuple[str, ...]


def load_request(stack: object) -> LoadRequest:
    """Read a stack of load settings. Raises EngineFault for a bad value or one that cannot be honoured."""
    # The coarse switch for 16-bit caches first, so that an explicit cache type has the last word.
    flat = dict(sorted(collapse(stack).items(), key=lambda item: item[0] != _FP16_CACHE_KEY))
    changes, ignored = apply_rules(_RULES, flat)
    settings = replace(LoadSettings(), **changes)
    if settings.physical_batch_size > settings.eval_batch_size:
        settings = replace(settings, physical_batch_size=settings.eval_batch_size)
    return LoadRequest(settings=settings, ignored_keys=ignored)


def is_custom_field(key: str) -> bool:
    """Whether a key carries a virtual model's own field, which no engine is expected to know."""
    return key.startswith(_CUSTOM_FIELD_PREFIX)


def load_config(settings: LoadSettings, kind: ModelKind) -> dict[str, Any]:
    """The KVConfig of a loaded model: every known key, with what is in effect."""
    rows = {key: _ROWS[llm_key] for key, llm_key in _EMBEDDING_KEYS.items()} if kind == "embedding" else _ROWS
    shown = {key: row.shown(settings) for key, row in rows.items() if row.shown is not None}
    return kv_config({key: value for key, value in shown.items() if value is not None})
