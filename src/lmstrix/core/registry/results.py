"""What is known of one model's context in one configuration: the record, how runs add up, and its JSON.

The best proven lengths are kept. A later run lowers them only when it proved a shorter one itself and ran out of memory
at or below the proven one, with no less memory free than when that was proven: a passing shortage, a run that proved
nothing, or one that was not to go so far (a threshold, a guardrail) takes nothing back. A run that says nothing about
the model changes no limit; recall found to end somewhere stays found until recall is tested again. What ended the test
goes with the lengths it explains. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, cast

from lmstrix.core.registry.json_fields import (
    EPOCH,
    Json,
    known_fields,
    read_count,
    read_fields,
    read_flag,
    read_moment,
    read_number,
    read_text,
)
from lmstrix.core.registry.known_failure import KnownFailure, failure_from_json, failure_to_json
from lmstrix.ground.loads import DEFAULT_LOAD, LoadConfig, Provenance

if TYPE_CHECKING:
    from lmstrix.ground.choices import CacheType, EndedBy

NO_LIMITS: frozenset[str] = frozenset({"guardrail", "threshold", "headroom", "asked_length", "time_budget"})
"""What ends a test and is no limit of the model: the length is proven, and a longer one may hold as well."""

_LOAD_FIELDS = ("k_cache_type", "v_cache_type", "flash_attention", "gpu_ratio", "parallel_slots", "eval_batch_size")
"""The load settings that a result keeps, in the order of its JSON."""
_AHEAD = timedelta(days=1)
"""How far a date may lie ahead: clocks differ, and early versions wrote local time without saying so."""
_SHORT_RATIO = 0.95  # what is free moves by a few percent within minutes, and a reading errs by 1.5 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The engine, machine and load settings a result holds for. By default, how a server loads a model when nothing is
    asked. `host` is None where an earlier version did not say it.

    Two configurations with the same `key` are the same: settings it does not name do not change which length fits.
    """

    engine: str = "lmstudio"
    host: str | None = None
    load: LoadConfig = DEFAULT_LOAD

    @property
    def key(self) -> str:
        """A stable name: "lmstudio@box", "embedded@box k=q8_0 v=q8_0 fa=on gpu=0.5 slots=4 batch=128"."""
        return f"{self.server} {self.settings}".rstrip()

    @property
    def server(self) -> str:
        """Engine and machine, as the key has them."""
        return _server_key(self.engine, self.host)

    @property
    def settings(self) -> str:
        """The load settings alone, as the key has them; nothing for the default ones."""
        load, parts = self.load, []
        if load.k_cache_type is not None:
            parts.append(f"k={load.k_cache_type}")
        if load.v_cache_type is not None:
            parts.append(f"v={load.v_cache_type}")
        if load.flash_attention is not None:
            parts.append(f"fa={'on' if load.flash_attention else 'off'}")
        if load.gpu_ratio is not None:
            parts.append(f"gpu={load.gpu_ratio:g}")
        if load.parallel_slots != 1:
            parts.append(f"slots={load.parallel_slots}")
        # Threads and locked weights change no length that fits; the size of a batch changes the compute buffer.
        if load.eval_batch_size is not None:
            parts.append(f"batch={load.eval_batch_size}")
        return " ".join(parts)

    @property
    def is_default(self) -> bool:
        return not self.settings


def _server_key(engine: str, host: str | None) -> str:
    return engine if host is None else f"{engine}@{host}"


class RecallPoint(NamedTuple):
    """How well the model recalled at one length: `score_ratio` 0..1."""

    context_length: int
    score_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextResult:
    """What is known about one model in one configuration.

    `loadable_context_length` loads and prefills, `effective_context_length` is also recalled (None: recall not tested).
    `effective_range` is up to where two texts were recalled, the lower first; None where one was enough.
    `capped_by` is what kept the test from longer contexts, `free_bytes` the memory that was free before its last load.
    `outcome` names how the last run ended; `conclusive` is False when that says nothing about the model (the server was
    lost, the run interrupted), and such a run changes no limit. `ended_by` is what kept the test from a longer context;
    None where `outcome` alone says how it ended, and in results of earlier versions. `ended_detail` is what was seen of
    it, where that says more.
    """

    configuration: Configuration
    outcome: str
    tested_at: datetime
    conclusive: bool = True
    ended_by: EndedBy | None = None
    ended_detail: str | None = None
    loadable_context_length: int | None = None
    effective_context_length: int | None = None
    effective_range: tuple[int, int] | None = None
    last_known_bad: int | None = None
    ttft_s: float | None = None
    prefill_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    error: str | None = None
    recall_curve: tuple[RecallPoint, ...] = ()
    provenance: Provenance | None = None
    capped_by: KnownFailure | None = None
    free_bytes: int | None = None

    @property
    def tested_context_length(self) -> int | None:
        """The length to use: the smaller of the two, None while nothing is proven."""
        lengths = [n for n in (self.loadable_context_length, self.effective_context_length) if n is not None]
        return min(lengths) if self.loadable_context_length and lengths else None

    @property
    def dated_at(self) -> datetime | None:
        """When it was measured; None where the earlier LMStrix did not say."""
        return self.tested_at if self.tested_at > EPOCH else None

    @property
    def is_limit(self) -> bool:
        """Whether a longer context than the tested one would not do; else nobody has tried."""
        return self.ended_by not in NO_LIMITS


RESULT_FIELDS = frozenset({item.name for item in fields(ContextResult)} | {"tested_context_length"})


def merge_results(old: ContextResult | None, new: ContextResult) -> ContextResult:
    """What is known after a run, given what was known before it."""
    if old is None and not new.conclusive:
        return replace(
            new,
            loadable_context_length=None,
            effective_context_length=None,
            effective_range=None,
            last_known_bad=None,
        )
    if old is None:
        return new
    if not new.conclusive:
        return replace(old, outcome=new.outcome, error=new.error)
    # What was proven stands unless this run says otherwise: it reached further, failed at or below it, or lost recall.
    proven, reached = old.loadable_context_length or 0, new.loadable_context_length or 0
    failed_below = new.last_known_bad is not None and new.last_known_bad <= proven
    contradicted = failed_below and reached > 0 and not _was_short(new.free_bytes, old.free_bytes)
    recall_lost = new.effective_context_length is not None and new.effective_context_length < reached
    supersedes = reached >= proven or contradicted
    if supersedes or recall_lost:
        limit = new if supersedes else old
        effective, effective_range = new.effective_context_length, new.effective_range
        if effective is None and old.effective_context_length is not None and old.effective_context_length < proven:
            # Recall was known to end below; a run without recall keeps that.
            effective, effective_range = old.effective_context_length, old.effective_range
        loadable = limit.loadable_context_length
        ended_by = _what_ended(old, new, loadable=loadable, effective=effective)
        merged = replace(
            new,
            loadable_context_length=loadable,
            effective_context_length=effective,
            effective_range=effective_range,
            ended_by=ended_by,
            ended_detail=next((run.ended_detail for run in (new, old) if run.ended_by == ended_by), None),
            capped_by=limit.capped_by,
            free_bytes=limit.free_bytes,
        )
    else:
        merged = replace(old, outcome=new.outcome, error=new.error, tested_at=new.tested_at)
    # A length that has held since is not bad any more, whatever an earlier run said.
    held = max(reached, merged.loadable_context_length or 0)
    bad = [n for n in (old.last_known_bad, new.last_known_bad) if n is not None and n > held]
    return replace(merged, last_known_bad=min(bad, default=None), recall_curve=new.recall_curve or old.recall_curve)


def _what_ended(
    old: ContextResult, new: ContextResult, *, loadable: int | None, effective: int | None
) -> EndedBy | None:
    """What ended the test that found these lengths."""
    if effective is not None and new.effective_context_length is None:
        return old.ended_by  # recall, found by the earlier run
    # Why there is no more is known already; that this run was not to look further says less.
    says_less = not new.is_limit and loadable == old.loadable_context_length
    return old.ended_by if says_less and old.ended_by else new.ended_by


def _was_short(free_bytes: int | None, when_proven_bytes: int | None) -> bool:
    """Whether clearly less memory was free than when the best length was proven."""
    if free_bytes is None or when_proven_bytes is None:
        return False
    return free_bytes < _SHORT_RATIO * when_proven_bytes


def result_to_json(result: ContextResult) -> dict[str, Json]:
    raw = known_fields(result)
    host = {} if result.configuration.host is None else {"host": result.configuration.host}
    raw["configuration"] = {"engine": result.configuration.engine} | host | _load_to_json(result.configuration.load)
    raw["tested_at"] = result.tested_at.astimezone(UTC).isoformat()
    if result.effective_range is not None:
        raw["effective_range"] = list(result.effective_range)
    raw["recall_curve"] = [list(point) for point in result.recall_curve]
    if result.provenance is not None:
        raw["provenance"] = _provenance_to_json(result.provenance)
    if result.capped_by is not None:
        raw["capped_by"] = failure_to_json(result.capped_by)
    raw["tested_context_length"] = result.tested_context_length or 0
    return raw


def _load_to_json(load: LoadConfig) -> dict[str, Json]:
    settings = known_fields(load)
    return {name: settings[name] for name in _LOAD_FIELDS if name in settings}


def _provenance_to_json(provenance: Provenance) -> dict[str, Json]:
    raw = known_fields(provenance)
    load, details = raw.pop("load"), raw.pop("details")
    # Slots come first here and last in a configuration: files keep the order in which they were first written.
    return raw | {"parallel_slots": load.parallel_slots} | _load_to_json(load) | {"details": dict(details)}


def is_result(raw: Json) -> bool:
    """Whether a value among a model's tests is a result this version can read."""
    return isinstance(raw, dict) and isinstance(raw.get("outcome"), str) and isinstance(raw.get("configuration"), dict)


def server_of(raw: dict[str, Json]) -> tuple[str, str | None]:
    """Engine and host of a result's JSON."""
    configuration = raw["configuration"]
    return read_text(configuration.get("engine")) or "lmstudio", read_text(configuration.get("host"))


def settings_of(key: str, raw: dict[str, Json]) -> str | None:
    """`Configuration.settings` of a result's JSON, which stands under `key`; None for a key of another making."""
    server = _server_key(*server_of(raw))
    return key.removeprefix(server).lstrip() if key == server or key.startswith(f"{server} ") else None


def moment_of(raw: dict[str, Json], now: datetime) -> datetime | None:
    """When a result's JSON says that it was measured, if that can be: a date in the future says nothing."""
    moment = read_moment(raw.get("tested_at"))
    return None if moment is None or moment > now + _AHEAD else moment


def tested_length(raw: dict[str, Json]) -> int:
    """`ContextResult.tested_context_length` of a result's JSON; 0 while nothing is proven."""
    loadable = read_count(raw.get("loadable_context_length")) or 0
    effective = read_count(raw.get("effective_context_length"))
    return loadable if effective is None else min(loadable, effective)


def result_from_json(raw: dict[str, Json]) -> ContextResult:
    engine, host = server_of(raw)
    return ContextResult(
        configuration=Configuration(engine=engine, host=host, load=_load_from_json(raw["configuration"])),
        outcome=raw["outcome"],
        # A word of a later version is kept as it is, like a cache type.
        ended_by=cast("EndedBy | None", read_text(raw.get("ended_by"))),
        tested_at=read_moment(raw.get("tested_at")) or EPOCH,
        effective_range=_range(raw.get("effective_range")),
        recall_curve=_curve(raw.get("recall_curve")),
        provenance=_provenance_from_json(raw.get("provenance")),
        capped_by=failure_from_json(raw.get("capped_by")),
        **read_fields(ContextResult, raw),
    )


def _load_from_json(raw: dict[str, Json]) -> LoadConfig:
    # A cache type this version does not know is kept as it is: a newer one has tested it, and will want it back.
    return LoadConfig(
        context_length=None,
        k_cache_type=cast("CacheType | None", read_text(raw.get("k_cache_type"))),
        v_cache_type=cast("CacheType | None", read_text(raw.get("v_cache_type"))),
        flash_attention=read_flag(raw.get("flash_attention")),
        gpu_ratio=read_number(raw.get("gpu_ratio")),
        parallel_slots=read_count(raw.get("parallel_slots")) or 1,
        eval_batch_size=read_count(raw.get("eval_batch_size")) or None,
    )


def _provenance_from_json(raw: Json) -> Provenance | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("engine"), str):
        return None
    details = raw.get("details")
    return Provenance(
        engine=raw["engine"],
        load=_load_from_json(raw),
        details=details if isinstance(details, dict) else {},
        **read_fields(Provenance, raw),
    )


def _range(raw: Json) -> tuple[int, int] | None:
    if not isinstance(raw, list) or len(raw) != 2:
        return None
    low, high = (read_count(length) for length in raw)
    return None if low is None or high is None else (low, high)


def _curve(raw: Json) -> tuple[RecallPoint, ...]:
    if not isinstance(raw, list):
        return ()
    pairs = [item for item in raw if isinstance(item, list) and len(item) == 2]
    points = [(read_count(length), read_number(score)) for length, score in pairs]
    return tuple(RecallPoint(length, score) for length, score in points if length is not None and score is not None)
