"""Layers of keyed settings as LM Studio sends them, and what the tables of keys are made of. Pure.

A stack is collapsed in order (the last assignment of a key wins) into a flat dict. Every key known by name is a row of
a table (`load_config`, `prediction_config`) saying how its value is read and what becomes of it. Three outcomes:
honoured; refused by name, because llama.cpp as bundled cannot do it and doing something else quietly would make
measurements lie; or, for a key nobody here knows, ignored and handed back so that it can be logged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.values import bad_value, read_int, read_number, read_text, unsupported

Flat: TypeAlias = dict[str, Any]
Changes: TypeAlias = dict[str, Any]
"""Fields of a settings record and their new values."""
Reader: TypeAlias = Callable[[str, object], Any]
Rule: TypeAlias = Callable[[str, Any], Changes]
"""What becomes of a (key, value)."""


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


def apply_rules(rules: Mapping[str, Rule], flat: Mapping[str, object]) -> tuple[Changes, tuple[str, ...]]:
    """What `flat` changes, rule by rule in its order, and the keys that have no rule."""
    changes: Changes = {}
    ignored = []
    for key, value in flat.items():
        rule = rules.get(key)
        if rule is None:
            ignored.append(key)
        else:
            changes.update(rule(key, value))
    return changes, tuple(ignored)


# Values that only these stacks have.


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


def read_checked_count(key: str, value: object) -> int | None:
    """The whole number behind a checkbox, None when off or negative: clients write -1 for "none"."""
    number = read_checked_number(key, value)
    return None if number is None or number < 0 else read_int(key, number)


def read_jinja_template(key: str, value: object) -> str:
    """A prompt template given as Jinja."""
    try:
        if value["type"] == "jinja":  # type: ignore[index]  # TypeError for what has no keys is the check
            return read_text(key, value["jinjaPromptTemplate"]["template"])  # type: ignore[index]  # as above
    except (KeyError, TypeError):
        pass
    raise bad_value(key, "a jinja prompt template", value)


# And the way back: SDKs validate these forms and drop what does not fit.


def shown_checkbox(value: float | None, unchecked: float) -> dict[str, Any]:
    """A switchable number; None is off, shown with its schema default."""
    return {"checked": value is not None, "value": unchecked if value is None else value}


def shown_template(template: str) -> dict[str, Any]:
    """A prompt template in Jinja."""
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


# Rules that both tables use.


def sets(field: str, read: Reader) -> Rule:
    """Honoured: `field` becomes what `read` makes of the value."""
    return lambda key, value: {field: read(key, value)}


def refuses(why: str, *harmless: object) -> Rule:
    """Accept only the values that ask for nothing."""

    def rule(key: str, value: object) -> Changes:
        # SDKs send every default they know of, so a key that asks for nothing must pass.
        if value not in harmless:
            raise unsupported(key, why)
        return {}

    return rule


def without_effect(_key: str, _value: object) -> Changes:
    """Accept anything: the key belongs to something this engine does not have."""
    return {}
