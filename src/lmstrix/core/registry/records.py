"""One model as the registry holds it: what a scan says of it, and the record that keeps this with its test results.

A record is a thin view over its JSON object: fields are checked when they are read, so ten thousand records cost a
dictionary each, and fields this version does not know stay where they are. Whether a model is present and how its
test went are separate facts; the status is worked out from the results. A record is seen from a place, an engine on a
machine, and says of its tests only what was measured there. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from lmstrix.core.registry.json_fields import (
    EPOCH,
    Json,
    known_fields,
    read_count,
    read_fields,
    read_moment,
    read_number,
    read_text,
)
from lmstrix.core.registry.results import (
    Configuration,
    ContextResult,
    is_result,
    result_from_json,
    server_of,
    settings_of,
    tested_length,
)
from lmstrix.ground.model_names import file_stem, model_key_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from lmstrix.core.registry.places import Place
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import ModelKind

T = TypeVar("T")

TestStatus = Literal["untested", "testing", "completed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a scan says about one model; None where the scan does not know. `path` is relative to the models directory.

    `bits_per_weight` is what a value takes with its scales, where the files say it. `content_hash` identifies the file
    wherever it lies. `file` is the model's first file where that is not `path`. `models_dir` is the models directory it
    was found in, where that is not the home's own.
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
    bits_per_weight: float | None = None
    params: str | None = None
    display_name: str | None = None
    publisher: str | None = None
    vision: bool = False
    projector_bytes: int | None = None
    trained_for_tool_use: bool = False
    mtime_ns: int | None = None
    content_hash: str | None = None
    file: str | None = None
    models_dir: str | None = None


class _Stored(Generic[T]):
    """A field of a record's JSON object, of the same name."""

    __slots__ = ("_name", "_read")

    def __init__(self, read: Callable[[Json], T]) -> None:
        self._read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: ModelRecord, owner: type) -> T:
        return self._read(record.raw.get(self._name))


def _is_true(value: Json) -> bool:
    return value is True


class ModelRecord:
    """One model: a typed view over `raw`, its object in lmstrix.json.

    Its results are those of `place`; of all places where that is None, and then the newest says what to use.
    """

    __slots__ = ("path", "place", "raw")

    size_bytes = _Stored(read_count)
    architecture = _Stored(read_text)
    quantization = _Stored(read_text)
    bits = _Stored(read_count)
    bits_per_weight = _Stored(read_number)
    params = _Stored(read_text)
    publisher = _Stored(read_text)
    vision = _Stored(_is_true)
    projector_bytes = _Stored(read_count)
    trained_for_tool_use = _Stored(_is_true)
    mtime_ns = _Stored(read_count)
    content_hash = _Stored(read_text)
    models_dir = _Stored(read_text)

    def __init__(self, path: str, raw: dict[str, Json], place: Place | None = None) -> None:
        self.path = path
        self.raw = raw
        self.place = place

    @property
    def all_bytes(self) -> int:
        """All its files: the model's, and its projector where the scan found one (a server counts both as one)."""
        return (self.size_bytes or 0) + (self.projector_bytes or 0)

    def __repr__(self) -> str:
        return f"ModelRecord({self.path!r}, model_key={self.model_key!r})"

    @property
    def model_key(self) -> str:
        return read_text(self.raw.get("model_key")) or model_key_for(self.path)

    @property
    def kind(self) -> ModelKind:
        return "embedding" if self.raw.get("kind") == "embedding" else "llm"

    @property
    def format(self) -> str:
        return read_text(self.raw.get("format")) or "gguf"

    @property
    def is_mlx(self) -> bool:
        """Whether LM Studio runs it with MLX, as it does all that is no GGUF file."""
        return self.format != "gguf"

    @property
    def max_context_length(self) -> int | None:
        """The declared context length."""
        return read_count(self.raw.get("max_context_length")) or None

    @property
    def display_name(self) -> str:
        return read_text(self.raw.get("display_name")) or file_stem(self.path)

    @property
    def file(self) -> str:
        """The model's first file, relative to the models directory."""
        return read_text(self.raw.get("file")) or self.path

    @property
    def tags(self) -> tuple[str, ...]:
        tags = self.raw.get("tags")
        return tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()

    @property
    def note(self) -> str | None:
        """What the user noted."""
        return read_text(self.raw.get("note"))

    @property
    def missing_since(self) -> datetime | None:
        """When a scan first failed to find it; None while it is there."""
        return read_moment(self.raw.get("missing_since"))

    @property
    def is_missing(self) -> bool:
        # The key alone counts: a date that cannot be read must not bring a missing model back.
        return self.raw.get("missing_since") is not None

    def seen_from(self, place: Place) -> ModelRecord:
        """The same model, as a server at this place has it."""
        return ModelRecord(self.path, self.raw, place)

    @property
    def results(self) -> tuple[ContextResult, ...]:
        """The results of every configuration, wherever measured, that this version can read."""
        return tuple(result_from_json(raw) for raw in self._all_raw_results().values())

    @property
    def has_other_results(self) -> bool:
        """Whether there are results beside `best_result`: of other engines, hosts or settings."""
        return len(self._all_raw_results()) > (self._best_raw() is not None)

    def result(self, configuration: Configuration) -> ContextResult | None:
        raw = self._all_raw_results().get(configuration.key)
        return result_from_json(raw) if raw is not None else None

    def result_with(self, load: LoadConfig) -> ContextResult | None:
        """The result for these load settings."""
        raw = self._best_raw(Configuration(load=load).settings)
        return result_from_json(raw) if raw is not None else None

    @property
    def best_result(self) -> ContextResult | None:
        """The result for default load settings, which says what context to use."""
        raw = self._best_raw()
        return result_from_json(raw) if raw is not None else None

    # The next three are asked of every model of a list, so they read the JSON without making records of it.

    @property
    def tested_context_length(self) -> int | None:
        """The longest context proven with default load settings."""
        raw = self._best_raw()
        return tested_length(raw) or None if raw is not None else None

    @property
    def tested_at(self) -> datetime | None:
        """When the latest test that says something of the model, in whatever configuration, ended; None for results of
        the earlier LMStrix without a date, which have the epoch in its place.
        """
        told = (raw for raw in self._raw_results().values() if _says_something(raw))
        moments = (read_moment(raw.get("tested_at")) for raw in told)
        return max((moment for moment in moments if moment is not None and moment > EPOCH), default=None)

    @property
    def test_status(self) -> TestStatus:
        """ "testing" while a test runs; else what the results of all configurations say."""
        if self.raw.get("testing_since") is not None:
            return "testing"
        raw_results = self._raw_results().values()
        if any(tested_length(raw) for raw in raw_results):
            return "completed"
        # A run that says nothing about the model leaves it as if it had not been tested.
        return "failed" if any(map(_says_something, raw_results)) else "untested"

    @property
    def effectiveness_ratio(self) -> float | None:
        """Tested over declared context length, 0..1."""
        tested, declared = self.tested_context_length, self.max_context_length
        return tested / declared if tested and declared else None

    def _best_raw(self, settings: str = "") -> dict[str, Json] | None:
        """The result with these load settings; the newest that proves something, where several places have one."""
        found = [raw for key, raw in self._raw_results().items() if settings_of(key, raw) == settings]
        return max(found, key=self._rank, default=None)

    def _rank(self, raw: dict[str, Json]) -> tuple[object, ...]:
        length = tested_length(raw)
        # What names its host was certainly measured here; what does not is used only where there is nothing else.
        certain = self.place is not None and _says_something(raw) and server_of(raw)[1] is not None
        return certain, length > 0, read_moment(raw.get("tested_at")) or EPOCH, length

    def _raw_results(self) -> dict[str, dict[str, Json]]:
        found, place = self._all_raw_results(), self.place
        return found if place is None else {key: raw for key, raw in found.items() if place.holds(*server_of(raw))}

    def _all_raw_results(self) -> dict[str, dict[str, Json]]:
        tests = self.raw.get("tests")
        return {key: raw for key, raw in tests.items() if is_result(raw)} if isinstance(tests, dict) else {}


def _says_something(raw: dict[str, Json]) -> bool:
    """Whether a result says anything about the model; one of a test that a lost server ended does not."""
    return tested_length(raw) > 0 or raw.get("conclusive") is not False


def facts_of(record: ModelRecord) -> ModelFacts:
    """What the last scan said of a model."""
    return ModelFacts(
        path=record.path,
        model_key=record.model_key,
        kind=record.kind,
        format=record.format,
        **read_fields(ModelFacts, record.raw) | {"max_context_length": record.max_context_length},
    )


def facts_to_json(facts: ModelFacts) -> dict[str, Json]:
    raw = known_fields(facts)
    del raw["path"]  # it is the record's name in the registry
    return raw
