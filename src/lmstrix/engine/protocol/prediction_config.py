"""The `llm.prediction.*` keys, read into PredictionSettings and reported back. Pure; same rules as kv_config.

A checkbox that is off means the sampler is off (top_p 1, min_p 0, no repeat penalty), which is not the same as a key
that is absent: that leaves llama.cpp's default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, get_args

from lmstrix.engine.protocol.kv_config import (
    Flat,
    bad_value,
    jinja_template,
    kv_config,
    layers,
    read_bool,
    read_checkbox,
    read_checked_number,
    read_int,
    read_jinja_template,
    read_number,
    read_positive,
    read_text,
    shown_checkbox,
    unsupported,
)
from lmstrix.engine.records import PredictionSettings
from lmstrix.ground.types import OverflowPolicy

_PREFIX: Final = "llm.prediction."
_RAW_LAYER: Final = "completeModeFormatting"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRequest:
    """What a stack of prediction settings asks for.

    `raw` says that the history is to be concatenated, not formatted as a chat. `system_prompt` applies where the
    history has none. `tool_names` leads from the names the model is shown back to the client's. Nobody here knows the
    `ignored_keys`.
    """

    settings: PredictionSettings
    raw: bool = False
    system_prompt: str = ""
    tool_names: Mapping[str, str] = field(default_factory=dict)
    ignored_keys: tuple[str, ...] = ()


_Rule: TypeAlias = Callable[[str, Any], dict[str, Any]]


def prediction_request(stack: object) -> PredictionRequest:
    """Read a stack of prediction settings. Raises EngineFault for a bad value or one that cannot be honoured."""
    flat: Flat = {}
    raw = False
    for name, found in layers(stack):
        if name == _RAW_LAYER:
            raw = True
            found.pop(f"{_PREFIX}promptTemplate", None)
        flat.update(found)
    changes: dict[str, Any] = {}
    ignored = []
    for key, value in flat.items():
        rule = _RULES.get(key)
        if rule is None:
            ignored.append(key)
        else:
            changes.update(rule(key, value))
    system_prompt = changes.pop("system_prompt", "")
    naming = changes.pop("tool_naming", "passThrough")
    changes["stop"] = (*changes.get("stop", ()), *changes.pop("template_stop", ()))
    tools, tool_names = _renamed(changes.get("tools", ()), naming)
    return PredictionRequest(
        settings=replace(PredictionSettings(), **(changes | {"tools": tools})),
        raw=raw,
        system_prompt=system_prompt,
        tool_names=tool_names,
        ignored_keys=tuple(ignored),
    )


# Readers that make changes to PredictionSettings.


def _sets(name: str, read: Callable[[str, object], Any]) -> _Rule:
    return lambda key, value: {name: read(key, value)}


def _switch(name: str, off: float | None) -> _Rule:
    """A sampler behind a checkbox, `off` being the value that switches it off."""

    def rule(key: str, value: object) -> dict[str, Any]:
        number = read_checked_number(key, value)
        return {name: off if number is None else number}

    return rule


def _refuses_checked(why: str) -> _Rule:
    def rule(key: str, value: object) -> dict[str, Any]:
        if read_checkbox(key, value) is not None:
            raise unsupported(key, why)
        return {}

    return rule


def _refuses(why: str, *harmless: object) -> _Rule:
    def rule(key: str, value: object) -> dict[str, Any]:
        if value not in harmless:
            raise unsupported(key, why)
        return {}

    return rule


def _without_effect(_key: str, _value: object) -> dict[str, Any]:
    return {}


def _max_tokens(key: str, value: object) -> dict[str, Any]:
    number = read_checked_number(key, value)
    return {"max_tokens": None if number is None or number == -1 else read_int(key, number, 0)}


def _count_or_none(name: str) -> _Rule:
    def rule(key: str, value: object) -> dict[str, Any]:
        number = read_checked_number(key, value)
        return {name: None if number is None or number < 0 else read_int(key, number)}

    return rule


def _texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise bad_value(key, "a list of texts", value)
    return tuple(item for item in value if item)


def _overflow_policy(key: str, value: object) -> str:
    if value not in get_args(OverflowPolicy):
        raise bad_value(key, f"one of {', '.join(get_args(OverflowPolicy))}", value)
    return str(value)


def _structured(key: str, value: object) -> dict[str, Any]:
    match value:
        case {"type": "none"}:
            return {}
        case {"type": "json", "jsonSchema": Mapping() as schema}:
            return {"json_schema": schema}
        case {"type": "json"}:
            return {"json_any": True}
        case {"type": "gbnf", "gbnfGrammar": str(grammar)}:
            return {"gbnf_grammar": grammar}
    raise bad_value(key, "{type: none | json | gbnf}", value)


def _tools(key: str, value: object) -> dict[str, Any]:
    match value:
        case {"type": "none"}:
            return {}
        case {"type": "toolArray", "tools": list(tools)}:
            return {"tools": read_tools(key, tools)}
        case {"type": "toolArray"}:
            return {}
    raise bad_value(key, "{type: none | toolArray}", value)


def read_tools(key: str, value: object) -> tuple[Mapping[str, Any], ...]:
    """Tool definitions in OpenAI's form, which is the one llama.cpp takes too."""
    if not isinstance(value, list):
        raise bad_value(key, "a list of tools", value)
    for tool in value:
        match tool:
            case {"type": "function", "function": {"name": str()}}:
                continue
        raise bad_value(key, "function tools with a name", tool)
    return tuple(value)


def _tool_choice(key: str, value: object) -> dict[str, Any]:
    match value:
        case {"mode": "none" | "auto" | "required" as mode}:
            return {"tool_choice": mode}
    raise bad_value(key, "{type: generic, mode: none | auto | required}", value)


def _tool_naming(key: str, value: object) -> dict[str, Any]:
    if value not in _TOOL_NAMINGS:
        raise bad_value(key, f"one of {', '.join(_TOOL_NAMINGS)}", value)
    return {"tool_naming": value}


def _prompt_template(key: str, value: object) -> dict[str, Any]:
    match value:
        case {"type": "jinja", **rest}:
            template = read_jinja_template(key, value)
        case {"type": "manual", "manualPromptTemplate": Mapping() as parts, **rest}:
            template = _jinja_from_manual(key, parts)
        case _:
            raise bad_value(key, "a jinja or a manual prompt template", value)
    return {"prompt_template": template, "template_stop": _texts(key, rest.get("stopStrings", []))}


def _jinja_from_manual(key: str, parts: Mapping[str, object]) -> str:
    """The Jinja of a template given as text before and after each role's messages."""
    branches = []
    for word, role in (("if", "System"), ("elif", "User"), ("elif", "Assistant")):
        before, after = (_jinja_text(read_text(key, parts.get(name + role, ""))) for name in ("before", "after"))
        branches.append(
            f"{{%- {word} message['role'] == '{role.lower()}' %}}{{{{ {before} ~ message['content'] ~ {after} }}}}"
        )
    opening = _jinja_text(read_text(key, parts.get("beforeAssistant", "")))
    return (
        "{%- for message in messages %}" + "".join(branches) + "{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ " + opening + " }}{%- endif %}"
    )


def _jinja_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def _reasoning_parsing(key: str, value: object) -> dict[str, Any]:
    match value:
        case {"enabled": False}:
            return {"reasoning_start": None, "reasoning_end": None}
        case {"enabled": True, "startString": str(start), "endString": str(end)} if start and end:
            return {"reasoning_start": start, "reasoning_end": end}
    raise bad_value(key, "{enabled, startString, endString}", value)


def _mirostat(key: str, value: object) -> dict[str, Any]:
    match value:
        case {"version": 0}:
            return {"mirostat": 0}
        case {"version": 1 | 2 as version, "learningRate": rate, "targetEntropy": entropy}:
            return {
                "mirostat": version,
                "mirostat_learning_rate": read_number(key, rate),
                "mirostat_target_entropy": read_number(key, entropy),
            }
    raise bad_value(key, "{version: 0 | 1 | 2, learningRate, targetEntropy}", value)


def _logit_bias(key: str, value: object) -> dict[str, Any]:
    try:
        pairs = tuple(
            (read_int(key, token), float("-inf") if bias == "-inf" else read_number(key, bias))
            for token, bias in value  # type: ignore[attr-defined]  # TypeError is the check
        )
    except (TypeError, ValueError) as exc:
        raise bad_value(key, "[[token id, bias], …]", value) from exc
    return {"logit_bias": pairs}


def _threads(key: str, value: object) -> dict[str, Any]:
    read_positive(key, value)
    raise unsupported(key, "threads are fixed when a model loads (llm.load.llama.cpuThreadPoolSize)")


_DRAFT: Final = "speculative decoding is not available"
_RULES: Final[Mapping[str, _Rule]] = {
    _PREFIX + key: rule
    for key, rule in {
        "temperature": _sets("temperature", read_number),
        "topKSampling": _sets("top_k", read_int),
        "topPSampling": _switch("top_p", 1.0),
        "minPSampling": _switch("min_p", 0.0),
        "repeatPenalty": _switch("repeat_penalty", 1.0),
        "maxPredictedTokens": _max_tokens,
        "stopStrings": _sets("stop", _texts),
        "toolCallStopStrings": _refuses("llama.cpp ends tool calls by itself", []),
        "structured": _structured,
        "contextOverflowPolicy": _sets("overflow_policy", _overflow_policy),
        "tools": _tools,
        "toolChoice": _tool_choice,
        "toolNaming": _tool_naming,
        "promptTemplate": _prompt_template,
        "systemPrompt": _sets("system_prompt", read_text),
        "seed": _count_or_none("seed"),
        "logProbs": _count_or_none("log_probs"),
        "reasoning.enableThinking": _sets("enable_thinking", read_bool),
        "reasoning.budgetTokens": _count_or_none("reasoning_budget_tokens"),
        "reasoning.parsing": _reasoning_parsing,
        "vision.userMaxImageDimensionPixels": _refuses_checked("images are scaled by the model's own projector"),
        "vision.ignoreModelPreferredMaxImageDimension": _refuses(
            "images are scaled by the model's own projector", False
        ),
        "llama.cpuThreads": _threads,
        "llama.presencePenalty": _switch("presence_penalty", 0.0),
        "llama.frequencyPenalty": _switch("frequency_penalty", 0.0),
        "llama.xtcProbability": _switch("xtc_probability", 0.0),
        "llama.xtcThreshold": _switch("xtc_threshold", None),
        "llama.tailFreeSampling": _refuses_checked("llama.cpp has dropped this sampler"),
        "llama.locallyTypicalSampling": _switch("typical_p", 1.0),
        "llama.mirostatSampling": _mirostat,
        "llama.logitBias": _logit_bias,
        "speculativeDecoding.draftModel": _refuses(_DRAFT, ""),
        "speculativeDecoding.minDraftLengthToConsider": _without_effect,  # limits of what is not there
        "speculativeDecoding.numReuseTokens": _without_effect,
        "speculativeDecoding.minContinueDraftingProbability": _without_effect,
        "speculativeDecoding.maxTokensToDraft": _without_effect,
        "speculativeDecoding.numDraftTokensExact": _without_effect,
        "contextPrefill": _refuses("write it into the history", []),
    }.items()
}
PREDICTION_KEYS: Final = frozenset(_RULES)


# Tool names as the model sees them.


def _camel(words: list[str]) -> str:
    return "".join(word.lower() if index == 0 else word.capitalize() for index, word in enumerate(words))


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name) or ["tool"]


_TOOL_NAMINGS: Final[Mapping[str, Callable[[str], str]]] = {
    "passThrough": str,
    "removeSpecial": lambda name: re.sub(r"[^A-Za-z0-9_]+", "_", name),
    "snakeCase": lambda name: "_".join(word.lower() for word in _words(name)),
    "camelCase": lambda name: _camel(_words(name)),
}


def _renamed(tools: tuple[Mapping[str, Any], ...], naming: str) -> tuple[tuple[Mapping[str, Any], ...], dict[str, str]]:
    """Tools with the names the model is shown, and the way back. A name two tools would share stays as it is."""
    back: dict[str, str] = {}
    shown = []
    for tool in tools:
        original = tool["function"]["name"]
        name = _TOOL_NAMINGS[naming](original)
        name = original if name in back else name
        back[name] = original
        shown.append({**tool, "function": {**tool["function"], "name": name}})
    return tuple(shown), back


# The way back.


def prediction_config(request: PredictionRequest) -> dict[str, Any]:
    """The KVConfig of a prediction: what was asked for, in well-formed values; what was not asked for is left out."""
    settings = request.settings
    fields: dict[str, Any] = {
        "maxPredictedTokens": {"checked": settings.max_tokens is not None, "value": settings.max_tokens or 1000},
        "stopStrings": list(settings.stop),
        "contextOverflowPolicy": settings.overflow_policy,
        "structured": _shown_structured(settings),
        "toolChoice": {"type": "generic", "mode": settings.tool_choice},
        "reasoning.parsing": {
            "enabled": settings.reasoning_start is not None,
            "startString": settings.reasoning_start or "<think>",
            "endString": settings.reasoning_end or "</think>",
        },
    }
    plain = {
        "temperature": settings.temperature,
        "topKSampling": settings.top_k,
        "reasoning.enableThinking": settings.enable_thinking,
    }
    fields.update({key: value for key, value in plain.items() if value is not None})
    for key, value, off in _shown_switches(settings):
        if value is not None:
            fields[key] = {"checked": value != off, "value": value}
    if settings.seed is not None:
        fields["seed"] = shown_checkbox(settings.seed, -1)
    if settings.log_probs is not None:
        fields["logProbs"] = shown_checkbox(settings.log_probs, 0)
    if settings.reasoning_budget_tokens is not None:
        fields["reasoning.budgetTokens"] = shown_checkbox(settings.reasoning_budget_tokens, 1024)
    if settings.tools:
        originals = [_with_name(tool, request.tool_names) for tool in settings.tools]
        fields["tools"] = {"type": "toolArray", "tools": originals}
    if settings.prompt_template is not None:
        fields["promptTemplate"] = jinja_template(settings.prompt_template)
    return kv_config({_PREFIX + key: value for key, value in fields.items()})


def _with_name(tool: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    function = tool["function"]
    return {**tool, "function": {**function, "name": names.get(function["name"], function["name"])}}


def _shown_structured(settings: PredictionSettings) -> dict[str, Any]:
    if settings.json_schema is not None:
        return {"type": "json", "jsonSchema": settings.json_schema}
    if settings.gbnf_grammar is not None:
        return {"type": "gbnf", "gbnfGrammar": settings.gbnf_grammar}
    return {"type": "json" if settings.json_any else "none"}


def _shown_switches(settings: PredictionSettings) -> tuple[tuple[str, float | None, float], ...]:
    """(key, value, value that means off) of every sampler behind a checkbox."""
    return (
        ("topPSampling", settings.top_p, 1.0),
        ("minPSampling", settings.min_p, 0.0),
        ("repeatPenalty", settings.repeat_penalty, 1.0),
        ("llama.presencePenalty", settings.presence_penalty, 0.0),
        ("llama.frequencyPenalty", settings.frequency_penalty, 0.0),
        ("llama.xtcProbability", settings.xtc_probability, 0.0),
        ("llama.locallyTypicalSampling", settings.typical_p, 1.0),
    )
