"""What annotations promise, held at run time too: nobody has to run a type checker to be told of a wrong value.

Numbers are checked by their ranges wherever they are used (`ground.ranges`). Here are texts, switches, records and the
closed lists of words, each known by how the field of a record is annotated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lmstrix.ground import choices
from lmstrix.ground.errors import UsageError
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import Deadlines, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import DataclassInstance

    from lmstrix.ground.documents import Value

_LISTS: Mapping[str, tuple[str, ...]] = {
    "CacheType": get_args(choices.CacheType),
    "Precision": get_args(choices.Precision),
    "Preference": get_args(choices.Preference),
    "WorkKind": get_args(choices.WorkKind),
    "Task": (*get_args(choices.BenchTask), "custom"),
}
_TYPES: Mapping[str, tuple[type, str]] = {
    "str": (str, "text"),
    "bool": (bool, "True or False"),
    "LoadConfig": (LoadConfig, "LoadConfig"),
    "Deadlines": (Deadlines, "Deadlines"),
}


def check_fields(record: DataclassInstance) -> None:
    """Raise UsageError for the first field of a record, or of one in it, that holds what its annotation rules out."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        # Annotations are texts here, as every module postpones their evaluation.
        kind = str(field.type).removesuffix(" | None")
        if value is None and kind != str(field.type):
            continue
        if kind in _LISTS:
            check_word(field.name, value, _LISTS[kind])
        elif kind in _TYPES:
            expected, what = _TYPES[kind]
            if not isinstance(value, expected):
                raise UsageError(f"`{field.name}`: {value!r} is no {what}")
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            check_fields(value)


def check_word(name: str, word: object, known: Sequence[str]) -> None:
    """Raise UsageError unless the word is one of those known."""
    if word not in known:
        raise UsageError(f"`{name}`: {word!r} is not one of {', '.join(known)}")


def text(name: str, value: object) -> str:
    """The value, which must be a text."""
    if not isinstance(value, str):
        raise UsageError(f"`{name}`: {value!r} is no text")
    return value


def texts(name: str, values: object) -> tuple[str, ...]:
    """One text or several: a text alone stands for itself, where a sequence would be its letters."""
    if values is None:
        return ()
    if isinstance(values, str):
        return (values,)
    if not isinstance(values, Iterable) or isinstance(values, bytes | Mapping):
        raise UsageError(f"`{name}`: {values!r} is no text, and no list of texts")
    return tuple(text(name, each) for each in values)


def paths(name: str, values: object) -> tuple[str, ...]:
    """One path or several, as texts."""
    if isinstance(values, Path):
        return (str(values),)
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        values = [str(each) if isinstance(each, Path) else each for each in values]
    return texts(name, values)


def messages(values: object) -> tuple[Message, ...]:
    """The turns of a chat."""
    found = tuple(values) if isinstance(values, Iterable) else (values,)
    for each in found:
        if not isinstance(each, Message):
            raise UsageError(f"`messages`: {each!r} is no Message")
    return found


def numbers(values: Any) -> tuple[int, ...]:
    """One number or several; what is no number is found with its range."""
    return tuple(values) if isinstance(values, list | tuple | range) else (values,)


def texts_by_name(name: str, values: object) -> Mapping[str, str] | tuple[str, ...]:
    """Texts under names, or words."""
    if not isinstance(values, Mapping):
        return texts(name, values)
    return {text(name, key): text(name, value) for key, value in values.items()}


def variables(values: Mapping[str, Value] | None) -> Mapping[str, Value]:
    """The variables of a prompt."""
    if values is not None and not isinstance(values, Mapping):
        raise UsageError(f"`variables`: {values!r} is no table of values by name")
    return values or {}
