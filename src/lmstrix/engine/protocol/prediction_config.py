"""The `llm.prediction.*` keys, read into PredictionSettings and reported back. Pure; same rules as kv_config.

A checkbox that is off means the sampler is off (top_p 1, min_p 0, no repeat penalty), which is not the same as a key
that is absent: that leaves llama.cpp's default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args

from lmstrix.engine.answer_form import read_grammar, read_schema, read_tools
from lmstrix.engine.protocol.kv_config import (
    Changes,
    Flat,
    Reader,
    Rule,
    apply_rules,
    kv_config,
    layers,
    read_checkbox,
    read_checked_count,
    read_checked_number,
    read_jinja_template,
    refuses,
    sets,
    shown_checkbox,
    shown_template,
    without_effect,
)
from lmstrix.engine.protocol.tool_names import TOOL_NAMINGS, renamed, with_name
from lmstrix.engine.records import PredictionSettings
from lmstrix.engine.values import (
    bad_value,
    read_bool,
    read_count,
    read_int,
    read_number,
    read_positive,
    read_text,
    read_texts,
    unsupported,
)
from lmstrix.ground.types import OverflowPolicy

_PREFIX: Final = "llm.prediction."
_MOST_LOG_PROBS: Final = 100
"""Candidates told with every token; a whole vocabulary would be megabytes for each."""
_EFFORT_FIELD: Final = re.compile(r"ext\.virtualModel\.customField\..+\.reasoningEffort")
"""The field by which LM Studio tells gpt-oss how much to reason, under the model's own name; any name will do here."""
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


def prediction_request(stack: object) -> PredictionRequest:
    """Read a stack of prediction settings. Raises EngineFault for a bad value or one that cannot be honoured."""
    flat: Flat = {}
    raw = False
    for name, found in layers(stack):
        if name == _RAW_LAYER:
            raw = True
            # This layer's template only glues the messages together, and text sent raw is not rendered at all.
            found.pop(f"{_PREFIX}promptTemplate", None)
        flat.update(found)
    efforts = [flat.pop(key) for key in tuple(flat) if _EFFORT_FIELD.fullmatch(key)]
    changes, ignored = apply_rules(_RULES, flat)
    if efforts:
        changes["reasoning_effort"] = read_text("reasoningEffort", efforts[-1])
    # These three settle other fields and are no PredictionSettings of their own.
    system_prompt = changes.pop("system_prompt", "")
    naming = changes.pop("tool_naming", "passThrough")
    changes["stop"] = (*changes.get("stop", ()), *changes.pop("template_stop", ()))
    changes["tools"], tool_names = renamed(changes.get("tools", ()), naming)
    return PredictionRequest(
        settings=replace(PredictionSettings(), **changes),
        raw=raw,
        system_prompt=system_prompt,
        tool_names=tool_names,
        ignored_keys=ignored,
    )


# Settings in one field each: (field, reader) by key, and the value that switches off those behind a checkbox.

_PLAIN: Final[Mapping[str, tuple[str, Reader]]] = {
    "temperature": ("temperature", read_number),
    "topKSampling": ("top_k", read_count),
    "reasoning.enableThinking": ("enable_thinking", read_bool),
}
_SWITCHES: Final[Mapping[str, tuple[str, float]]] = {
    "topPSampling": ("top_p", 1.0),
    "minPSampling": ("min_p", 0.0),
    "repeatPenalty": ("repeat_penalty", 1.0),
    "llama.presencePenalty": ("presence_penalty", 0.0),
    "llama.frequencyPenalty": ("frequency_penalty", 0.0),
    "llama.xtcProbability": ("xtc_probability", 0.0),
    "llama.locallyTypicalSampling": ("typical_p", 1.0),
}
_COUNTS: Final[Mapping[str, tuple[str, int]]] = {
    "seed": ("seed", -1),
    "logProbs": ("log_probs", 0),
    "reasoning.budgetTokens": ("reasoning_budget_tokens", 1024),
}
"""The value here is only shown beside an unchecked box: off means None."""


# Rules for the others.


def _switch(name: str, off: float) -> Rule:
    """A sampler behind a checkbox, `off` being the value that switches it off."""

    def rule(key: str, value: object) -> Changes:
        number = read_checked_number(key, value)
        return {name: off if number is None else number}

    return rule


def _refuses_checked(why: str) -> Rule:
    def rule(key: str, value: object) -> Changes:
        if read_checkbox(key, value) is not None:
            raise unsupported(key, why)
        return {}

    return rule


def _max_tokens(key: str, value: object) -> Changes:
    number = read_checked_number(key, value)
    return {"max_tokens": None if number is None or number == -1 else read_int(key, number)}


def _overflow_policy(key: str, value: object) -> str:
    if value not in get_args(OverflowPolicy):
        raise bad_value(key, f"one of {', '.join(get_args(OverflowPolicy))}", value)
    return str(value)


def _structured(key: str, value: object) -> Changes:
    match value:
        case {"type": "none"}:
            return {}
        case {"type": "json", "jsonSchema": Mapping() as schema}:
            return {"json_schema": read_schema(key, schema)}
        case {"type": "json"}:
            return {"json_any": True}
        case {"type": "gbnf", "gbnfGrammar": str(grammar)}:
            return {"gbnf_grammar": read_grammar(key, grammar)}
    raise bad_value(key, "{type: none | json | gbnf}", value)


def _tools(key: str, value: object) -> Changes:
    match value:
        case {"type": "none"}:
            return {}
        case {"type": "toolArray", "tools": list(tools)}:
            return {"tools": read_tools(key, tools)}
        # A list that is left out is an empty one.
        case {"type": "toolArray"}:
            return {}
    raise bad_value(key, "{type: none | toolArray}", value)


def _tool_choice(key: str, value: object) -> Changes:
    match value:
        case {"mode": "none" | "auto" | "required" as mode}:
            return {"tool_choice": mode}
    raise bad_value(key, "{type: generic, mode: none | auto | required}", value)


def _tool_naming(key: str, value: object) -> Changes:
    if not isinstance(value, str) or value not in TOOL_NAMINGS:
        raise bad_value(key, f"one of {', '.join(TOOL_NAMINGS)}", value)
    return {"tool_naming": value}


def _prompt_template(key: str, value: object) -> Changes:
    match value:
        case {"type": "jinja", **rest}:
            template = read_jinja_template(key, value)
        case {"type": "manual", "manualPromptTemplate": Mapping() as parts, **rest}:
            template = _jinja_from_manual(key, parts)
        case _:
            raise bad_value(key, "a jinja or a manual prompt template", value)
    return {"prompt_template": template, "template_stop": read_texts(key, rest.get("stopStrings", []))}


def _jinja_from_manual(key: str, parts: Mapping[str, object]) -> str:
    """The Jinja of a template given as text before and after each role's messages."""
    branches = []
    for word, role in (("if", "System"), ("elif", "User"), ("elif", "Assistant")):
        before, after = (_jinja_text(read_text(key, parts.get(name + role, ""))) for name in ("before", "after"))
        branches.append(
            f"{{%- {word} message['role'] == '{role.lower()}' %}}{{{{ {before} ~ message['content'] ~ {after} }}}}"
        )
    # What stands before every answer also opens the one to come.
    opening = _jinja_text(read_text(key, parts.get("beforeAssistant", "")))
    return (
        "{%- for message in messages %}" + "".join(branches) + "{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ " + opening + " }}{%- endif %}"
    )


def _jinja_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def _reasoning_parsing(key: str, value: object) -> Changes:
    match value:
        case {"enabled": False}:
            return {"reasoning_start": None, "reasoning_end": None}
        case {"enabled": True, "startString": str(start), "endString": str(end)} if start and end:
            return {"reasoning_start": start, "reasoning_end": end}
    raise bad_value(key, "{enabled, startString, endString}", value)


def _mirostat(key: str, value: object) -> Changes:
    match value:
        case {"version": 0}:
            return {"mirostat": 0}
        case {"version": 1 | 2 as version, "learningRate": rate, "targetEntropy": entropy}:
            return {
                "mirostat": version,
                "mirostat_eta": read_number(key, rate),
                "mirostat_tau": read_number(key, entropy),
            }
    raise bad_value(key, "{version: 0 | 1 | 2, learningRate, targetEntropy}", value)


def _logit_bias(key: str, value: object) -> Changes:
    try:
        pairs = tuple(
            # JSON has no infinity, so SDKs write the word for "never this token".
            (read_count(key, token), float("-inf") if bias == "-inf" else read_number(key, bias))
            for token, bias in value  # type: ignore[attr-defined]  # TypeError is the check
        )
    except (TypeError, ValueError) as exc:
        raise bad_value(key, "[[token id, bias], …]", value) from exc
    return {"logit_bias": pairs}


def _log_probs(key: str, value: object) -> int | None:
    count = read_checked_count(key, value)
    if count is not None and count > _MOST_LOG_PROBS:
        raise bad_value(key, f"a number of candidates of at most {_MOST_LOG_PROBS}", count)
    return count


def _threads(key: str, value: object) -> Changes:
    # A value that is wrong in itself is told as such first.
    read_positive(key, value)
    raise unsupported(key, "threads are fixed when a model loads (llm.load.llama.cpuThreadPoolSize)")


_NO_DRAFTS: Final = "speculative decoding is not available"
_SCALED_BY_PROJECTOR: Final = "images are scaled by the model's own projector"
_RULES: Final[Mapping[str, Rule]] = {
    _PREFIX + key: rule
    for key, rule in {
        **{key: sets(name, read) for key, (name, read) in _PLAIN.items()},
        **{key: _switch(name, off) for key, (name, off) in _SWITCHES.items()},
        **{key: sets(name, read_checked_count) for key, (name, _) in _COUNTS.items()},
        "logProbs": sets("log_probs", _log_probs),
        "maxPredictedTokens": _max_tokens,
        "stopStrings": sets("stop", read_texts),
        "toolCallStopStrings": refuses("llama.cpp ends tool calls by itself", []),
        "structured": _structured,
        "contextOverflowPolicy": sets("overflow_policy", _overflow_policy),
        "tools": _tools,
        "toolChoice": _tool_choice,
        "toolNaming": _tool_naming,
        "promptTemplate": _prompt_template,
        "systemPrompt": sets("system_prompt", read_text),
        "reasoning.parsing": _reasoning_parsing,
        "vision.userMaxImageDimensionPixels": _refuses_checked(_SCALED_BY_PROJECTOR),
        "vision.ignoreModelPreferredMaxImageDimension": refuses(_SCALED_BY_PROJECTOR, False),
        "llama.cpuThreads": _threads,
        "llama.xtcThreshold": sets("xtc_threshold", read_checked_number),
        "llama.tailFreeSampling": _refuses_checked("llama.cpp has dropped this sampler"),
        "llama.mirostatSampling": _mirostat,
        "llama.logitBias": _logit_bias,
        "speculativeDecoding.draftModel": refuses(_NO_DRAFTS, ""),
        # Limits of what is not there.
        "speculativeDecoding.minDraftLengthToConsider": without_effect,
        "speculativeDecoding.numReuseTokens": without_effect,
        "speculativeDecoding.minContinueDraftingProbability": without_effect,
        "speculativeDecoding.maxTokensToDraft": without_effect,
        "speculativeDecoding.numDraftTokensExact": without_effect,
        "contextPrefill": refuses("write it into the history", []),
    }.items()
}
PREDICTION_KEYS: Final = frozenset(_RULES)


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
    for key, (name, _) in _PLAIN.items():
        if (value := getattr(settings, name)) is not None:
            fields[key] = value
    for key, (name, off) in _SWITCHES.items():
        if (value := getattr(settings, name)) is not None:
            fields[key] = {"checked": value != off, "value": value}
    for key, (name, unchecked) in _COUNTS.items():
        if (value := getattr(settings, name)) is not None:
            fields[key] = shown_checkbox(value, unchecked)
    if settings.tools:
        # The client knows its tools by its own names, not by those the model was shown.
        names = request.tool_names
        originals = [with_name(tool, names.get(shown := tool["function"]["name"], shown)) for tool in settings.tools]
        fields["tools"] = {"type": "toolArray", "tools": originals}
    if settings.prompt_template is not None:
        fields["promptTemplate"] = shown_template(settings.prompt_template)
    return kv_config({_PREFIX + key: value for key, value in fields.items()})


def _shown_structured(settings: PredictionSettings) -> dict[str, Any]:
    if settings.json_schema is not None:
        return {"type": "json", "jsonSchema": settings.json_schema}
    if settings.gbnf_grammar is not None:
        return {"type": "gbnf", "gbnfGrammar": settings.gbnf_grammar}
    return {"type": "json" if settings.json_any else "none"}
