"""Whether what a registry holds can be understood and still holds; what can be mended is. Pure.

Nothing is dropped: a result that cannot be read is laid aside in its record, where a later version may read it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from lmstrix.core.registry.json_fields import read_fields, read_moment
from lmstrix.core.registry.model_aliases import model_aliases, shadowed_by
from lmstrix.core.registry.records import ModelFacts, ModelRecord
from lmstrix.core.registry.results import is_result, moment_of, settings_of
from lmstrix.ground.wording import call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.core.registry.registry import ModelRegistry

ASIDE = "unreadable_tests"
_KEPT_BESIDE = frozenset({"tests", "superseded_tests", ASIDE, "testing_since", "missing_since", "tags", "note"})
_FACTS = frozenset(item.name for item in fields(ModelFacts))
_CHECKED = frozenset(item.name for item in fields(ModelFacts) if item.default in (None, False))

FindingKind = Literal[
    "not a record",
    "field",
    "unknown field",
    "results",
    "result",
    "date",
    "file gone",
    "same file",
    "same content",
    "alias",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about one record, or an alias of it. A note needs nobody's care; `fixed` says that it was mended."""

    path: str
    kind: FindingKind
    detail: str
    is_note: bool = False
    fixed: bool = False


def check_registry(
    registry: ModelRegistry, *, is_gone: Callable[[ModelRecord], bool], fix: bool = False, now: datetime | None = None
) -> list[Finding]:
    """All findings, mending what can be where `fix`. `is_gone` tells whether a model's file has vanished."""
    moment = now or datetime.now(UTC)
    found = [
        Finding(path=path, kind="not a record", detail="no object: kept, and never shown", is_note=True)
        for path, raw in registry.models.items()
        if not isinstance(raw, dict)
    ]
    for record in registry:
        found += _fields(record)
        found += _results(record, fix=fix)
        found += _future(record, moment)
        found += _presence(record, is_gone, moment, fix=fix)
    return [*found, *_twins(registry), *alias_findings(registry)]


def _fields(record: ModelRecord) -> Iterator[Finding]:
    readable = read_fields(ModelFacts, record.raw)
    for name in sorted(record.raw.keys() & _CHECKED):
        if record.raw[name] is not None and name not in readable:
            remedy = f"{call('scan', switches=['refresh'])} reads it anew"
            detail = f"{name} is {record.raw[name]!r}, which says nothing: {remedy}"
            yield Finding(path=record.path, kind="field", detail=detail)
    unknown = sorted(record.raw.keys() - _FACTS - _KEPT_BESIDE)
    if unknown:
        detail = f"{', '.join(unknown)}: not known to this version, and kept"
        yield Finding(path=record.path, kind="unknown field", detail=detail, is_note=True)


def _results(record: ModelRecord, *, fix: bool) -> Iterator[Finding]:
    tests = record.raw.get("tests")
    if tests is None:
        return
    if not isinstance(tests, dict):
        if fix:
            record.raw[ASIDE] = {**_aside(record), "tests": record.raw.pop("tests")}
        yield Finding(path=record.path, kind="results", detail="its results are no object: none is read", fixed=fix)
        return
    for key in [key for key, result in tests.items() if not is_result(result) or settings_of(key, result) is None]:
        if fix:
            record.raw[ASIDE] = {**_aside(record), key: tests.pop(key)}
        yield Finding(path=record.path, kind="result", detail=f"the result {key!r} cannot be read", fixed=fix)


def _future(record: ModelRecord, now: datetime) -> Iterator[Finding]:
    tests = record.raw.get("tests")
    for key, result in tests.items() if isinstance(tests, dict) else ():
        moment = read_moment(result.get("tested_at")) if is_result(result) else None
        if moment is not None and moment_of(result, now) is None:
            day = moment.date().isoformat()
            detail = f"the result of {key} is of {day}, in the future: any other is taken for newer in a merge"
            yield Finding(path=record.path, kind="date", detail=detail, is_note=True)


def _aside(record: ModelRecord) -> dict[str, object]:
    aside = record.raw.get(ASIDE)
    return aside if isinstance(aside, dict) else {}


def _presence(
    record: ModelRecord, is_gone: Callable[[ModelRecord], bool], now: datetime, *, fix: bool
) -> Iterator[Finding]:
    if record.is_missing:
        if record.missing_since is None:
            detail = f"missing since {record.raw['missing_since']!r}, which is no date"
            if fix:
                record.raw["missing_since"] = now.isoformat()
            yield Finding(path=record.path, kind="date", detail=detail, fixed=fix)
        return
    if is_gone(record):
        if fix:
            record.raw["missing_since"] = now.isoformat()
        yield Finding(path=record.path, kind="file gone", detail="its file is gone", fixed=fix)


def _twins(registry: ModelRegistry) -> Iterator[Finding]:
    by_file: defaultdict[object, list[str]] = defaultdict(list)
    by_content: defaultdict[object, list[str]] = defaultdict(list)
    for record in registry:
        by_file[record.models_dir, record.file].append(record.path)
        if record.content_hash is not None and not record.is_missing:
            by_content[record.size_bytes, record.content_hash].append(record.path)
    for first, *others in by_file.values():
        for path in others:
            yield Finding(path=path, kind="same file", detail=f"has the same file as {first}")
    for first, *others in by_content.values():
        for path in others:
            detail = f"has the same content as {first}: one of them could go"
            yield Finding(path=path, kind="same content", detail=detail, is_note=True)


def alias_findings(registry: ModelRegistry) -> Iterator[Finding]:
    """The aliases that reach no model, or not the one they stand for."""
    records = list(registry)
    for each in model_aliases(registry):
        take_away = f"lmstrix models unalias {each.alias} takes it away"
        shadowing = shadowed_by(each.alias, records)
        if each.model_key is None:
            detail = f"the alias {each.alias} stands for it, and it is not in the registry: {take_away}"
            yield Finding(path=each.path, kind="alias", detail=detail)
        elif each.is_missing:
            detail = f"the alias {each.alias} stands for it, and it is missing"
            yield Finding(path=each.path, kind="alias", detail=detail, is_note=True)
        if shadowing is not None and shadowing != each.path:
            detail = f"the alias {each.alias} of it has no effect, as it is also the name of {shadowing}: {take_away}"
            yield Finding(path=each.path, kind="alias", detail=detail)
