"""The registry in memory: which models there are, how a name finds one, and how scans and test results are merged in.

Nothing known is ever lost by a merge. Pure: reading and writing the file is `store`'s work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.registry.naming import found_all, found_answering, found_one
from lmstrix.core.registry.records import ModelFacts, ModelRecord, facts_of, facts_to_json
from lmstrix.core.registry.results import RESULT_FIELDS, merge_results, result_to_json
from lmstrix.ground.errors import ModelNotFoundError
from lmstrix.ground.wording import call

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from lmstrix.core.registry.json_fields import Json
    from lmstrix.core.registry.places import Place
    from lmstrix.core.registry.results import ContextResult

SCHEMA_VERSION = 3


class Move(NamedTuple):
    """A model found again elsewhere."""

    old_path: str
    new_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanChanges:
    """What a scan changed, by path. `restored` were missing before; `unchanged` is a count."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    moved: tuple[Move, ...] = ()
    unchanged: int = 0


@dataclass(slots=True)
class ModelRegistry:
    """All records, by path. `models` may hold values that are not objects: they are kept and never shown.

    Records are seen from `place` (see `ModelRecord`). `aliases` are the user's own names, each for a model's path
    (`core.registry.model_aliases`).
    """

    models: dict[str, Json] = field(default_factory=dict)
    place: Place | None = None
    aliases: dict[str, Json] = field(default_factory=dict)

    def __iter__(self) -> Iterator[ModelRecord]:
        return (ModelRecord(path, raw, self.place) for path, raw in self.models.items() if isinstance(raw, dict))

    def __len__(self) -> int:
        return sum(isinstance(raw, dict) for raw in self.models.values())

    def get(self, path: str) -> ModelRecord | None:
        """The record of exactly this path."""
        raw = self.models.get(path)
        return ModelRecord(path, raw, self.place) if isinstance(raw, dict) else None

    def find(self, query: str) -> ModelRecord:
        """The one record `query` means (`core.registry.naming`).

        Raises ModelNotFoundError naming what it could mean, or what comes closest.
        """
        return found_one(query, list(self), self.aliases)

    def find_all(self, query: str) -> list[ModelRecord]:
        """The records `query` means where several are welcome: the one it names, else all that have it as a tag."""
        return found_all(query, list(self), self.aliases)

    def find_answering(self, query: str) -> list[ModelRecord]:
        """The same without a group's embedding models."""
        return found_answering(query, list(self), self.aliases)

    def known_facts(self) -> dict[str, ModelFacts]:
        """First file -> facts of the models whose file a scan has read, so that the next one need not read it again."""
        return {record.file: facts_of(record) for record in self if record.mtime_ns is not None}

    def merge_scan(
        self,
        found: Iterable[ModelFacts],
        *,
        unreadable: Collection[str] = (),
        elsewhere: Collection[str] = (),
        now: datetime | None = None,
    ) -> ScanChanges:
        """Take in what a scan found; nothing known is lost.

        A model no longer found is marked missing, one whose content turns up under a new path takes its record along,
        and one whose content was replaced keeps its old results aside. `unreadable` files and folders ("." for all) are
        there but could not be read this time: the records of what lies there stay as they are. `elsewhere` are paths of
        models that lie in folders the scan did not look into, and are there.
        """
        by_path = {facts.path: facts for facts in found}
        # Moves first: afterwards a file that moved would look like one that vanished and one that is new.
        moved = self._move_records(by_path, elsewhere)
        new_paths = {move.new_path for move in moved}
        added, changed, restored = [], [], []
        for path, facts in by_path.items():
            raw = self.models.get(path)
            if not isinstance(raw, dict):
                if raw is None:  # a value that is no object is somebody else's: leave it
                    self.models[path] = facts_to_json(facts)
                    added.append(path)
                continue
            was_missing = raw.pop("missing_since", None) is not None
            differs = _update_facts(raw, facts)
            # A move is reported as one, not as a change or a return as well.
            if path in new_paths:
                continue
            if was_missing:
                restored.append(path)
            elif differs:
                changed.append(path)
        restored += [path for path in elsewhere if path not in by_path and self._raw(path).pop("missing_since", None)]
        present = by_path.keys() | set(elsewhere)
        missing = self._mark_missing(present, set(unreadable), now or datetime.now(UTC))
        return ScanChanges(
            added=tuple(added),
            changed=tuple(changed),
            missing=tuple(missing),
            restored=tuple(restored),
            moved=tuple(moved),
            unchanged=len(by_path) - len(added) - len(changed) - len(by_path.keys() & set(restored)) - len(moved),
        )

    def mark_testing(self, path: str, *, now: datetime | None = None) -> None:
        """Note that a test of this model has begun."""
        self._raw(path)["testing_since"] = (now or datetime.now(UTC)).isoformat()

    def record_outcome(self, path: str, result: ContextResult) -> ContextResult:
        """Merge a run's result into the record and return what is now known.

        The best proven lengths are kept, unless this run failed at or below them; an inconclusive run changes no limit.
        """
        raw = self._raw(path)
        raw.pop("testing_since", None)
        old = ModelRecord(path, raw).result(result.configuration)
        merged = merge_results(old, result)
        tests = raw.get("tests")
        if not isinstance(tests, dict):
            tests = raw["tests"] = {}
        kept = tests.get(result.configuration.key)
        # Fields of a later version ride along: this one must not cost its results when both are in use.
        unknown = {k: v for k, v in kept.items() if k not in RESULT_FIELDS} if isinstance(kept, dict) else {}
        tests[result.configuration.key] = result_to_json(merged) | unknown
        return merged

    def replace_result(self, path: str, result: ContextResult) -> None:
        """Put a new result in the place of an old one, for a test asked to begin from nothing."""
        raw = self._raw(path)
        if isinstance(raw.get("tests"), dict):
            raw["tests"].pop(result.configuration.key, None)
        self.record_outcome(path, result)

    def reset(self, path: str) -> bool:
        """Forget all test results of a model; whether there were any."""
        raw = self._raw(path)
        removed = [raw.pop(name, None) for name in ("tests", "testing_since")]
        return removed != [None, None]

    def remove(self, path: str) -> None:
        """Take a model out, with all that is known of it."""
        self._raw(path)
        del self.models[path]

    def set_tags(self, path: str, tags: Collection[str]) -> None:
        """Give a model these tags of its own, in place of those it has."""
        raw = self._raw(path)
        raw["tags"] = list(tags)
        if not tags:
            del raw["tags"]

    def set_note(self, path: str, note: str) -> None:
        """Note something of a model; an empty note goes."""
        raw = self._raw(path)
        raw["note"] = note
        if not note:
            del raw["note"]

    def _raw(self, path: str) -> dict[str, Json]:
        raw = self.models.get(path)
        if not isinstance(raw, dict):
            raise ModelNotFoundError(f"No model {path!r} in the registry; run {call('scan')}", model_key=path)
        return raw

    def _move_records(self, found: Mapping[str, ModelFacts], elsewhere: Collection[str]) -> list[Move]:
        """Give the records of vanished files to new files of the same content, those of the same key first."""
        if all(path in self.models for path in found):
            return []  # the usual scan, without looking at every record
        gone: dict[tuple[int | None, str], list[ModelRecord]] = {}
        for record in self:
            if record.path not in found and record.path not in elsewhere and record.content_hash is not None:
                gone.setdefault((record.size_bytes, record.content_hash), []).append(record)
        moves = []
        for facts in found.values():
            if facts.path in self.models or facts.content_hash is None:
                continue
            candidates = gone.get((facts.size_bytes, facts.content_hash), [])
            if not candidates:
                continue
            key = _key_without_variant(facts.model_key)
            # Among equal files the one that keeps its name has most likely only changed its folder.
            record = next((r for r in candidates if _key_without_variant(r.model_key) == key), candidates[0])
            candidates.remove(record)
            self.models[facts.path] = self.models.pop(record.path)
            self.aliases.update({alias: facts.path for alias, path in self.aliases.items() if path == record.path})
            moves.append(Move(record.path, facts.path))
        return moves

    def _mark_missing(self, found: Collection[str], unreadable: Collection[str], now: datetime) -> list[str]:
        missing = []
        for record in self:
            if record.path not in found and not record.is_missing and not _lies_within(record.file, unreadable):
                record.raw["missing_since"] = now.isoformat()
                missing.append(record.path)
        return missing


def _key_without_variant(model_key: str) -> str:
    """The key without what tells it from equal keys, which depends on the other models there are."""
    return model_key.rpartition("/")[2].partition("@")[0]


def _lies_within(path: str, places: Collection[str]) -> bool:
    """Whether `path`, or a folder it lies in, is one of `places`."""
    parts = path.split("/")
    return bool(places) and ("." in places or any("/".join(parts[:n]) in places for n in range(1, len(parts) + 1)))


def _update_facts(raw: dict[str, Json], facts: ModelFacts) -> bool:
    """Write the facts that are known over the old ones; whether any differed."""
    new = {name: value for name, value in facts_to_json(facts).items() if raw.get(name) != value}
    old_hash = raw.get("content_hash")
    # Another content under the same path: the results were of a model that is no longer there.
    if "content_hash" in new and old_hash is not None and "tests" in raw:
        raw["superseded_tests"] = raw.pop("tests")
    raw.update(new)
    # Where it lies is known from its file alone; a server's listing does not say.
    came_home = facts.mtime_ns is not None and facts.models_dir is None and raw.pop("models_dir", None) is not None
    return bool(new) or came_home
