"""The registry in memory: which models there are, and what is known about the context each of them holds.

A record is a thin view over its JSON object: fields are checked when they are read, so ten thousand records cost a
dictionary each, and fields this version does not know stay where they are. Whether a model is present and how its
test went are separate facts; the status is worked out from the results. Pure: reading and writing the file is
`registry_store`'s work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lmstrix.errors import ModelNotFoundError
from lmstrix.model_names import file_stem, match_names, model_key_for
from lmstrix.types import ModelKind, Provenance

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

Json = Any  # a value as json.loads returns it; narrowed where it is read
TestStatus = Literal["untested", "testing", "completed", "failed"]

SCHEMA_VERSION = 2
_FACT_FIELDS = (
    "model_key",
    "kind",
    "format",
    "size_bytes",
    "max_context_length",
    "architecture",
    "quantization",
    "bits",
    "params",
    "display_name",
    "publisher",
    "vision",
    "trained_for_tool_use",
    "mtime_ns",
    "content_hash",
    "file",
)
_EPOCH = datetime.fromtimestamp(0, UTC)
_SUGGESTIONS = 3
_LISTED_WHEN_AMBIGUOUS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a scan says about one model; None where the scan does not know. `path` is relative to the models directory.

    `content_hash` identifies the file wherever it lies. `file` is the model's first file where that is not `path`.
    """

    path: str
    model_key: str
    kind: ModelKind = "llm"
    format: str = "gguf"
    size_bytes: int | None = None
    max_context_length: int | None = None
    architecture: str | None = None
    quantization: str | None = None
    bits: int | None = None
    params: str | None = None
    display_name: str | None = None
    publisher: str | None = None
    vision: bool = False
    trained_for_tool_use: bool = False
    mtime_ns: int | None = None
    content_hash: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The load settings a result holds for. All defaults = how a server loads a model when nothing is asked."""

    engine: str = "lmstudio"
    k_cache_type: str | None = None
    v_cache_type: str | None = None
    flash_attention: bool | None = None
    gpu_ratio: float | None = None
    parallel_slots: int = 1

    @property
    def key(self) -> str:
        """A stable name: "lmstudio", "embedded k=q8_0 v=q8_0 fa=on gpu=0.5 slots=4"."""
        parts = [self.engine]
        if self.k_cache_type is not None:
            parts.append(f"k={self.k_cache_type}")
        if self.v_cache_type is not None:
            parts.append(f"v={self.v_cache_type}")
        if self.flash_attention is not None:
            parts.append(f"fa={'on' if self.flash_attention else 'off'}")
        if self.gpu_ratio is not None:
            parts.append(f"gpu={self.gpu_ratio:g}")
        if self.parallel_slots != 1:
            parts.append(f"slots={self.parallel_slots}")
        return " ".join(parts)

    @property
    def is_default(self) -> bool:
        return self == Configuration(engine=self.engine)


class RecallPoint(NamedTuple):
    """How well the model recalled at one length: `score_ratio` 0..1."""

    context_length: int
    score_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextResult:
    """What is known about one model in one configuration.

    `loadable_context_length` loads and prefills, `effective_context_length` is also recalled (None: recall not tested).
    `outcome` names how the last run ended; `conclusive` is False when that says nothing about the model (the server was
    lost, the run interrupted), and such a run changes no limit.
    """

    configuration: Configuration
    outcome: str
    tested_at: datetime
    conclusive: bool = True
    loadable_context_length: int | None = None
    effective_context_length: int | None = None
    last_known_bad: int | None = None
    ttft_s: float | None = None
    prefill_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    error: str | None = None
    recall_curve: tuple[RecallPoint, ...] = ()
    provenance: Provenance | None = None

    @property
    def tested_context_length(self) -> int | None:
        """The length to use: the smaller of the two, None while nothing is proven."""
        lengths = [n for n in (self.loadable_context_length, self.effective_context_length) if n is not None]
        return min(lengths) if self.loadable_context_length and lengths else None


_RESULT_FIELDS = frozenset({item.name for item in fields(ContextResult)} | {"tested_context_length"})


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


class ModelRecord:
    """One model: a typed view over `raw`, its object in lmstrix.json."""

    __slots__ = ("path", "raw")

    def __init__(self, path: str, raw: dict[str, Json]) -> None:
        self.path = path
        self.raw = raw

    def __repr__(self) -> str:
        return f"ModelRecord({self.path!r}, model_key={self.model_key!r})"

    @property
    def model_key(self) -> str:
        return _text(self.raw.get("model_key")) or model_key_for(self.path)

    @property
    def kind(self) -> ModelKind:
        return "embedding" if self.raw.get("kind") == "embedding" else "llm"

    @property
    def format(self) -> str:
        return _text(self.raw.get("format")) or "gguf"

    @property
    def size_bytes(self) -> int | None:
        return _count(self.raw.get("size_bytes"))

    @property
    def max_context_length(self) -> int | None:
        """The declared context length."""
        return _count(self.raw.get("max_context_length")) or None

    @property
    def architecture(self) -> str | None:
        return _text(self.raw.get("architecture"))

    @property
    def quantization(self) -> str | None:
        return _text(self.raw.get("quantization"))

    @property
    def bits(self) -> int | None:
        return _count(self.raw.get("bits"))

    @property
    def params(self) -> str | None:
        return _text(self.raw.get("params"))

    @property
    def display_name(self) -> str:
        return _text(self.raw.get("display_name")) or file_stem(self.path)

    @property
    def publisher(self) -> str | None:
        return _text(self.raw.get("publisher"))

    @property
    def vision(self) -> bool:
        return self.raw.get("vision") is True

    @property
    def trained_for_tool_use(self) -> bool:
        return self.raw.get("trained_for_tool_use") is True

    @property
    def mtime_ns(self) -> int | None:
        return _count(self.raw.get("mtime_ns"))

    @property
    def content_hash(self) -> str | None:
        return _text(self.raw.get("content_hash"))

    @property
    def file(self) -> str:
        """The model's first file, relative to the models directory."""
        return _text(self.raw.get("file")) or self.path

    @property
    def tags(self) -> tuple[str, ...]:
        tags = self.raw.get("tags")
        return tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()

    @property
    def missing_since(self) -> datetime | None:
        """When a scan first failed to find it; None while it is there."""
        return _moment(self.raw.get("missing_since"))

    @property
    def is_missing(self) -> bool:
        return self.raw.get("missing_since") is not None

    @property
    def results(self) -> tuple[ContextResult, ...]:
        """The results of every configuration this version can read."""
        return tuple(_result_from_json(raw) for raw in self._raw_results().values())

    def result(self, configuration: Configuration) -> ContextResult | None:
        raw = self._raw_results().get(configuration.key)
        return _result_from_json(raw) if raw is not None else None

    @property
    def best_result(self) -> ContextResult | None:
        """The default configuration's result with the longest tested context; the latest of equals."""
        results = [raw for key, raw in self._raw_results().items() if _is_default(key, raw)]
        best = max(
            results, key=lambda raw: (_tested_length(raw), _moment(raw.get("tested_at")) or _EPOCH), default=None
        )
        return _result_from_json(best) if best is not None else None

    # The next three are asked of every model of a list, so they read the JSON without making records of it.

    @property
    def tested_context_length(self) -> int | None:
        """The longest context proven in a default configuration."""
        raw_results = self._raw_results().items()
        return max((_tested_length(raw) for key, raw in raw_results if _is_default(key, raw)), default=0) or None

    @property
    def tested_at(self) -> datetime | None:
        """When the latest test, in whatever configuration, ended."""
        moments = (_moment(raw.get("tested_at")) for raw in self._raw_results().values())
        return max((moment for moment in moments if moment is not None), default=None)

    @property
    def test_status(self) -> TestStatus:
        """ "testing" while a test runs; else what the results of all configurations say."""
        if self.raw.get("testing_since") is not None:
            return "testing"
        raw_results = self._raw_results().values()
        if any(_tested_length(raw) for raw in raw_results):
            return "completed"
        return "failed" if any(raw.get("conclusive") is not False for raw in raw_results) else "untested"

    @property
    def effectiveness_ratio(self) -> float | None:
        """Tested over declared context length, 0..1."""
        tested, declared = self.tested_context_length, self.max_context_length
        return tested / declared if tested and declared else None

    @property
    def test_cost(self) -> int:
        """A rough order of how much a test will ask of the machine: size in bytes plus 100,000 a declared token."""
        return (self.size_bytes or 0) + 100_000 * (self.max_context_length or 0)

    def _raw_results(self) -> dict[str, dict[str, Json]]:
        tests = self.raw.get("tests")
        return {key: raw for key, raw in tests.items() if _is_result(raw)} if isinstance(tests, dict) else {}


@dataclass(slots=True)
class ModelRegistry:
    """All records, by path. `models` may hold values that are no objects: they are shown to nobody and kept."""

    models: dict[str, Json] = field(default_factory=dict)

    def __iter__(self) -> Iterator[ModelRecord]:
        return (ModelRecord(path, raw) for path, raw in self.models.items() if isinstance(raw, dict))

    def __len__(self) -> int:
        return sum(isinstance(raw, dict) for raw in self.models.values())

    def get(self, path: str) -> ModelRecord | None:
        """The record of exactly this path."""
        raw = self.models.get(path)
        return ModelRecord(path, raw) if isinstance(raw, dict) else None

    def find(self, query: str) -> ModelRecord:
        """The one record `query` means: a path, a key, or the unique beginning of one; present models before missing.

        Raises ModelNotFoundError naming what it could mean, or what comes closest.
        """
        records = list(self)
        for group in ([r for r in records if not r.is_missing], [r for r in records if r.is_missing]):
            paths = match_names(query, ((record.path, record.model_key) for record in group))
            if len(paths) == 1:
                return ModelRecord(paths[0], self.models[paths[0]])
            if paths:
                raise _ambiguous(query, sorted(paths))
        raise _not_found(query, records)

    def known_facts(self) -> dict[str, ModelFacts]:
        """First file -> facts of the models whose file a scan has read, so that the next one need not read it again."""
        return {record.file: _facts_of(record) for record in self if record.mtime_ns is not None}

    def merge_scan(
        self, found: Iterable[ModelFacts], *, unreadable: Collection[str] = (), now: datetime | None = None
    ) -> ScanChanges:
        """Take in what a scan found; nothing known is lost.

        A model no longer found is marked missing, one whose content turns up under a new path takes its record along,
        and one whose content was replaced keeps its old results aside. `unreadable` files and folders ("." for all) are
        there but could not be read this time: the records of what lies there stay as they are.
        """
        by_path = {facts.path: facts for facts in found}
        moved = self._move_records(by_path)
        new_paths = {move.new_path for move in moved}
        added, changed, restored = [], [], []
        for path, facts in by_path.items():
            raw = self.models.get(path)
            if not isinstance(raw, dict):
                if raw is None:  # a value that is no object is somebody else's: leave it
                    self.models[path] = _facts_to_json(facts)
                    added.append(path)
                continue
            was_missing = raw.pop("missing_since", None) is not None
            differs = _update_facts(raw, facts)
            if path in new_paths:
                continue
            if was_missing:
                restored.append(path)
            elif differs:
                changed.append(path)
        missing = self._mark_missing(by_path, set(unreadable), now or datetime.now(UTC))
        return ScanChanges(
            added=tuple(added),
            changed=tuple(changed),
            missing=tuple(missing),
            restored=tuple(restored),
            moved=tuple(moved),
            unchanged=len(by_path) - len(added) - len(changed) - len(restored) - len(moved),
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
        merged = _merge_results(old, result)
        tests = raw.get("tests")
        if not isinstance(tests, dict):
            tests = raw["tests"] = {}
        kept = tests.get(result.configuration.key)
        unknown = {k: v for k, v in kept.items() if k not in _RESULT_FIELDS} if isinstance(kept, dict) else {}
        tests[result.configuration.key] = _result_to_json(merged) | unknown
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

    def _raw(self, path: str) -> dict[str, Json]:
        raw = self.models.get(path)
        if not isinstance(raw, dict):
            raise ModelNotFoundError(f"No model {path!r} in the registry; run lmstrix scan", model_key=path)
        return raw

    def _move_records(self, found: Mapping[str, ModelFacts]) -> list[Move]:
        """Give the records of vanished files to new files of the same content, those of the same key first."""
        if all(path in self.models for path in found):
            return []
        gone: dict[tuple[int | None, str], list[ModelRecord]] = {}
        for record in self:
            if record.path not in found and record.content_hash is not None:
                gone.setdefault((record.size_bytes, record.content_hash), []).append(record)
        moves = []
        for facts in found.values():
            if facts.path in self.models or facts.content_hash is None:
                continue
            candidates = gone.get((facts.size_bytes, facts.content_hash), [])
            if not candidates:
                continue
            key = _plain_key(facts.model_key)
            record = next((r for r in candidates if _plain_key(r.model_key) == key), candidates[0])
            candidates.remove(record)
            self.models[facts.path] = self.models.pop(record.path)
            moves.append(Move(record.path, facts.path))
        return moves

    def _mark_missing(self, found: Collection[str], unreadable: Collection[str], now: datetime) -> list[str]:
        missing = []
        for record in self:
            if record.path not in found and not record.is_missing and not _lies_within(record.file, unreadable):
                record.raw["missing_since"] = now.isoformat()
                missing.append(record.path)
        return missing


def _plain_key(model_key: str) -> str:
    """The key without what tells it from equal keys, which depends on the other models there are."""
    return model_key.rpartition("/")[2].partition("@")[0]


def _lies_within(path: str, places: Collection[str]) -> bool:
    """Whether `path`, or a folder it lies in, is one of `places`."""
    parts = path.split("/")
    return bool(places) and ("." in places or any("/".join(parts[:n]) in places for n in range(1, len(parts) + 1)))


def _ambiguous(query: str, paths: list[str]) -> ModelNotFoundError:
    shown = ", ".join(paths[:_LISTED_WHEN_AMBIGUOUS])
    more = f" and {len(paths) - _LISTED_WHEN_AMBIGUOUS} more" if len(paths) > _LISTED_WHEN_AMBIGUOUS else ""
    return ModelNotFoundError(
        f"{query!r} may mean {len(paths)} models: {shown}{more}; give more of the name, or the path",
        model_key=query,
        suggestions=paths,
    )


def _not_found(query: str, records: list[ModelRecord]) -> ModelNotFoundError:
    if not records:
        return ModelNotFoundError(f"No model {query!r}: the registry is empty; run lmstrix scan", model_key=query)
    from difflib import get_close_matches  # costs 2 ms, and only a typing error needs it

    wanted = query.lower()
    names = {name.lower(): r.model_key for r in records for name in (file_stem(r.path), r.model_key)}
    close = get_close_matches(wanted, names, n=_SUGGESTIONS * 2, cutoff=0.5)
    close += [name for name in names if wanted and wanted in name]
    suggestions = list(dict.fromkeys(names[name] for name in close))[:_SUGGESTIONS]
    remedy = f"did you mean {' or '.join(suggestions)}?" if suggestions else "lmstrix list shows all"
    return ModelNotFoundError(f"No model {query!r} in the registry; {remedy}", model_key=query, suggestions=suggestions)


# Facts to and from JSON


def _facts_of(record: ModelRecord) -> ModelFacts:
    raw = record.raw
    return ModelFacts(
        path=record.path,
        model_key=record.model_key,
        kind=record.kind,
        format=record.format,
        size_bytes=record.size_bytes,
        max_context_length=record.max_context_length,
        architecture=record.architecture,
        quantization=record.quantization,
        bits=record.bits,
        params=record.params,
        display_name=_text(raw.get("display_name")),
        publisher=record.publisher,
        vision=record.vision,
        trained_for_tool_use=record.trained_for_tool_use,
        mtime_ns=record.mtime_ns,
        content_hash=record.content_hash,
        file=_text(raw.get("file")),
    )


def _facts_to_json(facts: ModelFacts) -> dict[str, Json]:
    values = ((name, getattr(facts, name)) for name in _FACT_FIELDS)
    return {name: value for name, value in values if value is not None}


def _update_facts(raw: dict[str, Json], facts: ModelFacts) -> bool:
    """Write the facts that are known over the old ones; whether any differed."""
    new = {name: value for name, value in _facts_to_json(facts).items() if raw.get(name) != value}
    old_hash = raw.get("content_hash")
    if "content_hash" in new and old_hash is not None and "tests" in raw:
        raw["superseded_tests"] = raw.pop("tests")
    raw.update(new)
    return bool(new)


# Results to and from JSON


def _merge_results(old: ContextResult | None, new: ContextResult) -> ContextResult:
    if old is None and not new.conclusive:
        return replace(new, loadable_context_length=None, effective_context_length=None, last_known_bad=None)
    if old is None:
        return new
    if not new.conclusive:
        return replace(old, outcome=new.outcome, error=new.error)
    proven, reached = old.loadable_context_length or 0, new.loadable_context_length or 0
    contradicted = new.last_known_bad is not None and new.last_known_bad <= proven
    recall_lost = new.effective_context_length is not None and new.effective_context_length < reached
    if reached >= proven or contradicted or recall_lost:
        loadable = new.loadable_context_length if reached >= proven or contradicted else old.loadable_context_length
        effective = new.effective_context_length
        if effective is None and old.effective_context_length is not None and old.effective_context_length < proven:
            effective = old.effective_context_length  # recall was known to end below; a run without recall keeps that
        merged = replace(new, loadable_context_length=loadable, effective_context_length=effective)
    else:
        merged = replace(old, outcome=new.outcome, error=new.error, tested_at=new.tested_at)
    bad = [n for n in (old.last_known_bad, new.last_known_bad) if n is not None and n > reached]
    return replace(merged, last_known_bad=min(bad, default=None), recall_curve=new.recall_curve or old.recall_curve)


def _result_to_json(result: ContextResult) -> dict[str, Json]:
    raw = asdict(result, dict_factory=_without_none)
    raw["tested_at"] = result.tested_at.astimezone(UTC).isoformat()
    raw["tested_context_length"] = result.tested_context_length or 0
    raw["recall_curve"] = [list(point) for point in result.recall_curve]
    return raw


def _without_none(items: list[tuple[str, Json]]) -> dict[str, Json]:
    return {name: value for name, value in items if value is not None}


def _is_result(raw: Json) -> bool:
    """Whether a value among a model's tests is a result this version can read."""
    return isinstance(raw, dict) and isinstance(raw.get("outcome"), str) and isinstance(raw.get("configuration"), dict)


def _is_default(key: str, raw: dict[str, Json]) -> bool:
    """Whether a result is of a default configuration: the key of such a one is the engine's name alone."""
    return bool(raw["configuration"].get("engine") == key)


def _tested_length(raw: dict[str, Json]) -> int:
    """`ContextResult.tested_context_length` of a result's JSON; 0 while nothing is proven."""
    loadable = _count(raw.get("loadable_context_length")) or 0
    effective = _count(raw.get("effective_context_length"))
    return loadable if effective is None else min(loadable, effective)


def _result_from_json(raw: dict[str, Json]) -> ContextResult:
    return ContextResult(
        configuration=_configuration_from_json(raw["configuration"]),
        outcome=raw["outcome"],
        tested_at=_moment(raw.get("tested_at")) or _EPOCH,
        conclusive=raw.get("conclusive") is not False,
        loadable_context_length=_count(raw.get("loadable_context_length")),
        effective_context_length=_count(raw.get("effective_context_length")),
        last_known_bad=_count(raw.get("last_known_bad")),
        ttft_s=_number(raw.get("ttft_s")),
        prefill_tokens_per_second=_number(raw.get("prefill_tokens_per_second")),
        decode_tokens_per_second=_number(raw.get("decode_tokens_per_second")),
        error=_text(raw.get("error")),
        recall_curve=_curve(raw.get("recall_curve")),
        provenance=_provenance_from_json(raw.get("provenance")),
    )


def _configuration_from_json(raw: dict[str, Json]) -> Configuration:
    flash_attention = raw.get("flash_attention")
    return Configuration(
        engine=_text(raw.get("engine")) or "lmstudio",
        k_cache_type=_text(raw.get("k_cache_type")),
        v_cache_type=_text(raw.get("v_cache_type")),
        flash_attention=flash_attention if isinstance(flash_attention, bool) else None,
        gpu_ratio=_number(raw.get("gpu_ratio")),
        parallel_slots=_count(raw.get("parallel_slots")) or 1,
    )


def _provenance_from_json(raw: Json) -> Provenance | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("engine"), str):
        return None
    flash_attention, details = raw.get("flash_attention"), raw.get("details")
    return Provenance(
        engine=raw["engine"],
        engine_version=_text(raw.get("engine_version")),
        address=_text(raw.get("address")),
        host=_text(raw.get("host")),
        device=_text(raw.get("device")),
        parallel_slots=_count(raw.get("parallel_slots")) or 1,
        k_cache_type=_text(raw.get("k_cache_type")),
        v_cache_type=_text(raw.get("v_cache_type")),
        flash_attention=flash_attention if isinstance(flash_attention, bool) else None,
        gpu_ratio=_number(raw.get("gpu_ratio")),
        details=details if isinstance(details, dict) else {},
    )


def _curve(raw: Json) -> tuple[RecallPoint, ...]:
    if not isinstance(raw, list):
        return ()
    pairs = [item for item in raw if isinstance(item, list) and len(item) == 2]
    points = [(_count(length), _number(score)) for length, score in pairs]
    return tuple(RecallPoint(length, score) for length, score in points if length is not None and score is not None)


# JSON values, checked


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _moment(value: Json) -> datetime | None:
    """A stored time as aware UTC."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment.astimezone(UTC)
