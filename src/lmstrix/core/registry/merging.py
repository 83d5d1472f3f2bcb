"""Two registries become one: newer results win, each engine, machine and setting for itself. Pure.

What only one of them has is taken; what both have and differ in is a conflict, which says what is kept. A model is the
same where its content is, also under another path; where one path names two contents, ours stays alone. A date in the
future says nothing of what is newer: a result that has one gives way to one with a date that can be, in every merge.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmstrix.core.registry.json_fields import EPOCH, Json, read_moment
from lmstrix.core.registry.model_aliases import readable
from lmstrix.core.registry.results import is_result, moment_of, server_of, tested_length

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry

_NOT_MERGED = frozenset({"tests", "tags", "note", "testing_since", "missing_since", "models_dir"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """What both registries say of a model, differently. `what` is a configuration, a field, an alias, or "content"."""

    model_path: str
    what: str
    ours: str
    theirs: str
    kept: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeReport:
    """What a merge took over: the paths of new models, how many results of known ones, and aliases of models.

    `unplaced` is how many of all these results name no machine, as those of LMStrix 1, and so count as this one's.
    """

    added: tuple[str, ...]
    results: int
    aliases: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    unchanged: int
    unplaced: int


def merge_registries(
    ours: ModelRegistry, theirs: ModelRegistry, *, is_here: Callable[[ModelRecord], bool], now: datetime | None = None
) -> MergeReport:
    """Take into `ours` what `theirs` knows more or newer. A model whose files are not `is_here` is marked missing."""
    now = now or datetime.now(UTC)
    by_content = {(record.size_bytes, record.content_hash): record for record in ours if record.content_hash}
    added, conflicts, results, unchanged, unplaced = [], [], 0, 0, 0
    same: dict[str, str] = {}
    for their in theirs:
        our = ours.get(their.path)
        if our is None:
            our = by_content.get((their.size_bytes, their.content_hash)) if their.content_hash else None
        if our is None:
            if their.path not in ours.models:
                ours.models[their.path] = _taken(their, is_here, now)
                added.append(their.path)
                unplaced += sum(result.configuration.host is None for result in their.results)
            continue
        same[their.path] = our.path
        if our.content_hash and their.content_hash and our.content_hash != their.content_hash:
            conflicts.append(
                Conflict(
                    model_path=our.path, what="content", ours=our.content_hash, theirs=their.content_hash, kept="ours"
                )
            )
            continue
        before = len(conflicts)
        taken = _merge_results(our, their, conflicts, now=now)
        changed = _merge_words(our, their, conflicts)
        results += len(taken)
        unplaced += sum(is_result(result) and server_of(result)[1] is None for result in taken)
        unchanged += not taken and not changed and len(conflicts) == before
    aliases = _merge_aliases(ours, theirs, same, conflicts)
    return MergeReport(
        added=tuple(added),
        results=results,
        aliases=aliases,
        conflicts=tuple(conflicts),
        unchanged=unchanged,
        unplaced=unplaced,
    )


def _merge_aliases(
    ours: ModelRegistry, theirs: ModelRegistry, same: Mapping[str, str], conflicts: list[Conflict]
) -> tuple[str, ...]:
    """The aliases that were taken over; `same` are the paths here of models that have another one there."""
    taken = []
    for alias, their_path in readable(theirs.aliases).items():
        path, known = same.get(their_path, their_path), ours.aliases.get(alias)
        if known is None:
            ours.aliases[alias] = path
            taken.append(alias)
        elif known != path:
            conflicts.append(
                Conflict(model_path=path, what=f"the alias {alias}", ours=str(known), theirs=path, kept="ours")
            )
    return tuple(taken)


def _taken(their: ModelRecord, is_here: Callable[[ModelRecord], bool], now: datetime) -> dict[str, Json]:
    raw = {name: value for name, value in their.raw.items() if name not in ("testing_since", "missing_since")}
    if not is_here(their):
        # Where it lies on another machine says nothing here; a scan that finds it brings it back.
        raw.pop("models_dir", None)
        raw["missing_since"] = now.isoformat()
    return raw


def _merge_results(our: ModelRecord, their: ModelRecord, conflicts: list[Conflict], *, now: datetime) -> list[Json]:
    """The results that were taken over."""
    theirs = their.raw.get("tests")
    if not isinstance(theirs, dict) or not theirs:
        return []
    tests = our.raw.get("tests")
    if not isinstance(tests, dict):
        tests = our.raw["tests"] = {}
    taken: list[Json] = []
    for key, result in theirs.items():
        known = tests.get(key)
        if known == result:
            continue
        newer = known is None or not is_result(known) or (is_result(result) and _when(result, now) > _when(known, now))
        if known is not None:
            conflicts.append(
                Conflict(
                    model_path=our.path,
                    what=key,
                    ours=_said(known, now),
                    theirs=_said(result, now),
                    kept="theirs" if newer else "ours",
                )
            )
        if newer:
            tests[key] = result
            taken.append(result)
    return taken


def _merge_words(our: ModelRecord, their: ModelRecord, conflicts: list[Conflict]) -> bool:
    """Tags of both, the note of one, and fields that only they have; whether anything changed."""
    before = dict(our.raw)
    tags = tuple(dict.fromkeys((*our.tags, *their.tags)))
    if tags != our.tags:
        our.raw["tags"] = list(tags)
    mine, other = our.note, their.note
    if mine and other and mine != other:
        conflicts.append(Conflict(model_path=our.path, what="note", ours=mine, theirs=other, kept="ours"))
    elif other:
        our.raw["note"] = other
    for name, value in their.raw.items():
        if name not in _NOT_MERGED:
            our.raw.setdefault(name, value)
    return before != our.raw


def _when(result: dict[str, Json], now: datetime) -> datetime:
    """The date that a result counts with."""
    return moment_of(result, now) or EPOCH


def _said(result: Json, now: datetime) -> str:
    if not is_result(result):
        return "not readable"
    moment = read_moment(result.get("tested_at")) or EPOCH
    day = moment.date().isoformat() if moment > EPOCH else "without a date"
    is_future = moment > EPOCH and moment_of(result, now) is None
    return f"{tested_length(result):,} tokens, {day}" + (", in the future" if is_future else "")
