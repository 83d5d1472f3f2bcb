"""How an instance was loaded, as the server tells it to SDKs: the keys of a load, read back into a LoadConfig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, get_args

from lmstrix.api.convert import LOAD_FIELDS, count_of, list_of, number_of
from lmstrix.ground.choices import CacheType
from lmstrix.ground.loads import LoadConfig

if TYPE_CHECKING:
    from lmstrix.ground.types import ModelKind

_RATIOS = {"max": 1.0, "off": 0.0}
_FITTED = "llm.load.llama.autoFit"


def told_load(answer: object, kind: ModelKind) -> LoadConfig:
    """The settings in effect that the answer tells, leniently: what is missing or of another type is not told."""
    entries = list_of(answer, "fields") if isinstance(answer, Mapping) else []
    told = {entry["key"]: entry.get("value") for entry in entries if isinstance(entry, Mapping) and "key" in entry}
    read = {field.attribute: _value(field.attribute, told.get(field.key)) for field in LOAD_FIELDS[kind]}
    given = {name: value for name, value in read.items() if value is not None}
    load = replace(LoadConfig(context_length=None), **given)
    # Where LM Studio places layers by itself, the share beside it is not what it has done.
    return replace(load, gpu_ratio=None) if told.get(_FITTED) is True else load


def _value(attribute: str, value: object) -> Any:
    # A value behind a checkbox that is off is not in effect.
    if isinstance(value, Mapping):
        value = value.get("value") if value.get("checked") is True else None
    kind = _KINDS[attribute]
    if attribute == "gpu_ratio" and isinstance(value, str):
        return _RATIOS.get(value)
    if "bool" in kind:
        return value if isinstance(value, bool) else None
    if "CacheType" in kind:
        return value if value in get_args(CacheType) else None
    return count_of({"it": value}, "it") if "int" in kind else number_of({"it": value}, "it")


_KINDS = {field.name: str(field.type) for field in fields(LoadConfig)}
