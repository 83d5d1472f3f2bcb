"""Which records a list shows: conditions such as "status:tested,size:>5GB,name:*coder*". Pure.

Conditions are separated by commas and must all hold; `|` separates values of which one must. A number is compared
(`>5GB`, `<=32k`) or lies in a range (`16384-65536`, ends included); a date likewise, and names a whole day. A text is
found anywhere in a name and is all of any other field, capitals aside; with `*` or `?` it is a pattern for the whole.
`!` before a value turns it round, and what is not known meets no condition but that of its being so: `ctx:-`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

from lmstrix.core.registry.model_aliases import by_path
from lmstrix.core.registry.tags import all_tags
from lmstrix.ground.errors import UsageError
from lmstrix.ground.units import parse_bytes, parse_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lmstrix.core.registry.json_fields import Json
    from lmstrix.core.registry.records import ModelRecord

    Test = Callable[[ModelRecord], bool]
    Field = Callable[[str, str], Test]
    """Makes a test of the field's name and a value."""

__all__ = ["FIELDS", "Condition", "matches", "parse_filter"]

_COMPARED = re.compile(r"(>=|<=|>|<|=)?(.*)", re.DOTALL)
# A range has a digit on both sides, so that the hyphens of a date or of a negative number are none.
_RANGE = re.compile(r"(.*\d\w*)\s*(?:-|\.\.)\s*(\d.*)")
_DATE_RANGE = re.compile(r"(\d{4}-\d\d-\d\d)\s*(?:-|\.\.)\s*(\d{4}-\d\d-\d\d)")
_UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class Condition:
    """One of the conditions: what it was written as, and its test of a record."""

    text: str
    holds: Test


def parse_filter(text: str, aliases: Mapping[str, Json] = MappingProxyType({})) -> tuple[Condition, ...]:
    """The conditions of a filter; `aliases` are the user's names for models, which a name is looked for in, too.

    Raises UsageError, which names the field or value that cannot be read.
    """
    fields = _fields(by_path(aliases))
    return tuple(_condition(part.strip(), fields) for part in text.split(",") if part.strip())


def matches(record: ModelRecord, conditions: Sequence[Condition]) -> bool:
    """Whether all conditions hold for the record."""
    return all(condition.holds(record) for condition in conditions)


def _condition(text: str, fields: Mapping[str, Field]) -> Condition:
    name, colon, values = text.partition(":")
    # A word without a field looks in names, as FILTER does.
    name, values = (name.strip().lower(), values.strip()) if colon else ("name", text)
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
        raise UsageError(f"filter: no field {name!r}: {hint}")
    if not values:
        raise UsageError(f"filter: {name}: has no value")
    tests = [_negatable(fields[name], name, value.strip()) for value in values.split("|")]
    return Condition(text, lambda record: any(test(record) for test in tests))


def _negatable(make: Field, name: str, value: str) -> Test:
    if value.startswith("!"):
        test = _negatable(make, name, value[1:].strip())
        return lambda record: not test(record)
    if not value:
        raise UsageError(f"filter: {name}: has an empty value")
    return make(name, value)


def _text(read: Callable[[ModelRecord], Sequence[str | None]], *, anywhere: bool = False) -> Field:
    """A field of one or more texts."""

    def make(_name: str, value: str) -> Test:
        wanted = value.lower()
        if wanted == _UNKNOWN:
            return lambda record: not any(read(record))
        if "*" in wanted or "?" in wanted:
            return lambda record: any(fnmatchcase(text.lower(), wanted) for text in read(record) if text)
        if anywhere:
            return lambda record: any(wanted in text.lower() for text in read(record) if text)
        return lambda record: any(wanted == text.lower() for text in read(record) if text)

    return make


def _fields(aliases: Mapping[str, Sequence[str]]) -> dict[str, Field]:
    """All fields, with those that read a model's aliases, which its record does not hold."""
    return {
        "name": _text(lambda record: (record.model_key, record.path, *aliases.get(record.path, ())), anywhere=True),
        **FIELDS,
        "alias": _text(lambda record: aliases.get(record.path, ())),
    }


def _tag(name: str, value: str) -> Test:
    """A tag, own or derived; every model has derived ones, so without tags is who has none of its own."""
    return _text(lambda record: record.tags if value == _UNKNOWN else all_tags(record))(name, value)


def _choice(choices: Mapping[str, Callable[[ModelRecord], bool]]) -> Field:
    """A field with a closed list of values."""

    def make(name: str, value: str) -> Test:
        if value.lower() not in choices:
            raise UsageError(f"filter: {name}:{value} is none of {', '.join(choices)}")
        return choices[value.lower()]

    return make


def _number(read: Callable[[ModelRecord], float | None], parse: Callable[[str], float]) -> Field:
    """A field that is compared, or lies in a range."""
    return lambda _name, value: _measured(read, value, parse, _RANGE)


def _date(read: Callable[[ModelRecord], datetime | None]) -> Field:
    """A field that is compared with whole days, in this machine's time."""

    def day_of(record: ModelRecord) -> float | None:
        moment = read(record)
        return None if moment is None else float(moment.astimezone().date().toordinal())

    def make(name: str, value: str) -> Test:
        return _measured(day_of, value, lambda text: float(_day(name, text.strip()).toordinal()), _DATE_RANGE)

    return make


def _measured(
    read: Callable[[ModelRecord], float | None], value: str, parse: Callable[[str], float], ranges: re.Pattern[str]
) -> Test:
    if value == _UNKNOWN:
        return lambda record: read(record) is None
    if span := ranges.fullmatch(value):
        least, most = parse(span[1]), parse(span[2])
        if most < least:
            raise UsageError(f"filter: {value} ends below where it begins; write {span[2]}-{span[1]}")
        return lambda record: (found := read(record)) is not None and least <= found <= most
    return _compared(read, value, parse)


def _compared(read: Callable[[ModelRecord], float | None], value: str, parse: Callable[[str], float]) -> Test:
    compared = _COMPARED.fullmatch(value)
    assert compared is not None
    bound, holds = parse(compared[2].strip()), _COMPARISONS[compared[1] or "="]
    return lambda record: (found := read(record)) is not None and holds(found, bound)


def _day(name: str, text: str) -> date:
    today = datetime.now().astimezone().date()
    if text == "today":
        return today
    if ago := re.fullmatch(r"(\d{1,5})d", text):
        return today - timedelta(days=int(ago[1]))
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"filter: {name}:{text} is no date such as 2026-01-31, today or 7d (days ago)") from None


def _bytes(text: str) -> float:
    return parse_bytes(text, what="filter: size")


def _tokens(text: str) -> float:
    return parse_tokens(text, what="filter: tokens")


def _percent(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError:
        raise UsageError(f"filter: eff:{text} is no percentage such as 50%") from None


def _bits(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"filter: bits:{text} is no number such as 4") from None


def _loads(record: ModelRecord) -> float | None:
    best = record.best_result
    return best.loadable_context_length if best else None


def _recalls(record: ModelRecord) -> float | None:
    best = record.best_result
    return best.effective_context_length if best else None


def _ended_by(record: ModelRecord) -> tuple[str | None, ...]:
    best = record.best_result
    return (best.ended_by.replace("_", "-") if best and best.ended_by else None,)


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda found, bound: found > bound,
    ">=": lambda found, bound: found >= bound,
    "<": lambda found, bound: found < bound,
    "<=": lambda found, bound: found <= bound,
    "=": lambda found, bound: found == bound,
}
FIELDS: dict[str, Field] = {
    "status": _choice(
        {
            "tested": lambda record: record.test_status == "completed",
            "untested": lambda record: record.test_status == "untested",
            "failed": lambda record: record.test_status == "failed",
            "testing": lambda record: record.test_status == "testing",
            "missing": lambda record: record.is_missing,
        }
    ),
    "size": _number(lambda record: record.all_bytes or None, _bytes),
    "ctx": _number(lambda record: record.tested_context_length, _tokens),
    "dtx": _number(lambda record: record.max_context_length, _tokens),
    "loads": _number(_loads, _tokens),
    "recalls": _number(_recalls, _tokens),
    "eff": _number(lambda record: record.effectiveness_ratio, _percent),
    "date": _date(lambda record: record.tested_at),
    "ended": _text(_ended_by),
    "type": _choice(
        {
            "llm": lambda record: record.kind == "llm",
            "embedding": lambda record: record.kind == "embedding",
            "vision": lambda record: record.vision,
            "tools": lambda record: record.trained_for_tool_use,
        }
    ),
    "format": _text(lambda record: (record.format, "mlx" if record.format == "safetensors" else None)),
    "quant": _text(lambda record: (record.quantization,)),
    "bits": _number(lambda record: record.bits, _bits),
    "params": _text(lambda record: (record.params,)),
    "arch": _text(lambda record: (record.architecture,)),
    "publisher": _text(lambda record: (record.publisher,)),
    "tag": _tag,
}
"""What can be filtered by, beside names and aliases."""
