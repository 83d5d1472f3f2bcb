"""The models directory, laid out as LM Studio does (`publisher/repository/file.gguf`), as a list of models to load.

Every look at the list compares the times of change of the directories, and of the files that were no good, which is
cheap, and walks them again when one differs; headers of good files are read once per file, size and time. A file that
cannot be a model is a problem on a list of its own, logged once, and never keeps the others from being listed.

Reading many new headers takes seconds: call `refresh` in a thread first. While it runs, everyone else sees the list as
it was, and nobody waits, except for the very first list.

Traded away: a good file replaced in place, without its directory changing, is noticed only by `rescan`.
"""

from __future__ import annotations

import difflib
import threading
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import TYPE_CHECKING

from lmstrix.core.memory.shape import ModelShape, shape_from_metadata
from lmstrix.core.registry.models_folder import FoundFile, FoundFolder, FoundProblem, changed_ns, walk_models_folder
from lmstrix.engine.faults import SAMPLE_SIZE, EngineFault
from lmstrix.engine.records import CatalogEntry
from lmstrix.ground.drives import drive_of
from lmstrix.ground.errors import GgufError
from lmstrix.ground.model_names import (
    NamedModel,
    bits_of,
    file_stem,
    is_mmproj,
    match_names,
    model_key_for,
    parse_shard,
    quantization_of,
    unique_keys,
)
from lmstrix.loaders.gguf import read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from lmstrix.ground.types import ModelKind
    from lmstrix.loaders.gguf_header import GgufHeader

# Nothing in a GGUF says that a model was trained for tools; a template that mentions them comes closest.
_TOOL_MARKS = ("tools", "tool_call")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogProblem:
    """A file in the models directory that cannot be used, and why. `path` is relative to it."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What one file's header says, without the header itself, which may be large."""

    architecture: str
    kind: ModelKind
    name: str | None
    quantization: str | None
    params: str | None
    parameter_count: int
    context_length: int
    chat_template: str | None
    shape: ModelShape
    projector: bool


_NEVER_NS = -2
"""No time of change: the folder is looked through each time."""


class Catalog:
    """The models under `directory`. `on_problem` is called once for each unusable file."""

    def __init__(self, directory: Path, *, on_problem: Callable[[CatalogProblem], None] = lambda _: None) -> None:
        self.directory = directory
        self._on_problem = on_problem
        self._scanning = threading.Lock()
        self._looked_at: dict[str, int] | None = None
        self._facts: dict[FoundFile, _Facts | str] = {}
        self._entries: dict[str, CatalogEntry] = {}
        self._shapes: dict[str, ModelShape] = {}
        self._mlx_folders: tuple[str, ...] = ()
        self._problems: tuple[CatalogProblem, ...] = ()

    @property
    def entries(self) -> list[CatalogEntry]:
        """Every model, by key; current as of this call."""
        self.refresh()
        return list(self._entries.values())

    @property
    def problems(self) -> tuple[CatalogProblem, ...]:
        """Every file that is not a usable model."""
        self.refresh()
        return self._problems

    def find(self, query: str, *, kind: ModelKind | None = None) -> CatalogEntry:
        """The model `query` means: a key, a path, or the beginning of either. Raises `EngineFault` "not_found"."""
        entries = {entry.path: entry for entry in self.entries}
        paths = match_names(query, [(entry.path, entry.model_key) for entry in entries.values()])
        matching = [entries[path] for path in paths]
        fitting = [entry for entry in matching if kind is None or entry.kind == kind]
        if fitting:
            return fitting[0]
        if matching:
            raise _wrong_kind(query, matching[0], kind)
        if match_names(query, [(path, model_key_for(path)) for path in self._mlx_folders]):
            raise _no_gguf(query)
        raise self._not_found(query)

    def shape(self, entry: CatalogEntry) -> ModelShape:
        """The entry's model as the memory formulas see it."""
        return self._shapes[entry.model_key]

    def rescan(self) -> None:
        """Walk the directories now, whatever their times say."""
        with self._scanning:
            self._scan()

    def refresh(self) -> None:
        """Walk the directories if one changed, unless another thread already does."""
        # The first caller has to wait, or it would see an empty list; later ones read the list as it was.
        if not self._scanning.acquire(blocking=self._looked_at is None):
            return
        try:
            seen = self._looked_at
            if seen is None or any(changed_ns(location) != at_ns for location, at_ns in seen.items()):
                self._scan()
        finally:
            self._scanning.release()

    def _scan(self) -> None:
        walk = walk_models_folder(self.directory)
        files = [file for folder in walk.folders for file in folder.files if file.path.lower().endswith(".gguf")]
        self._mlx_folders = tuple(folder.path for folder in walk.folders if _holds_mlx(folder))
        new = [file for file in files if not self._known(file)]
        # Taken before they are read: what is written meanwhile must count as a change.
        times = {file.location: changed_ns(file.location) for file in new}
        self._facts = {file: self._known(file) or _facts(self.directory, file) for file in files}
        unusable = {file: reason for file, reason in self._facts.items() if isinstance(reason, str)}
        problems = [CatalogProblem(path=each.path, reason=_reason(each)) for each in walk.problems]
        problems += [CatalogProblem(path=file.path, reason=reason) for file, reason in unusable.items()]
        self._build(problems)
        # A file that is still being written grows without its folder changing.
        self._looked_at = walk.looked_at | {file.location: times[file.location] for file in unusable}
        if not drive_of(self.directory).times_folders:
            self._looked_at[str(self.directory)] = _NEVER_NS

    def _known(self, file: FoundFile) -> _Facts | None:
        """What was read of this very file: same path, size and time. What kept it from being read may be gone."""
        known = self._facts.get(file)
        return known if isinstance(known, _Facts) else None

    def _build(self, problems: list[CatalogProblem]) -> None:
        """Turn the files' facts into entries: shards joined, projectors attached, keys settled."""
        usable = {file: facts for file, facts in self._facts.items() if not isinstance(facts, str)}
        # Vision projectors lie beside their model and are not models themselves.
        projectors = [file for file, facts in usable.items() if facts.projector or is_mmproj(file.path)]
        models: dict[str, list[FoundFile]] = {}
        for files in _models(file for file in usable if file not in projectors):
            shard = parse_shard(files[0].path)
            # Told here with the remedy, not left to a load that fails later.
            if shard and len(files) < shard.total:
                reason = f"{shard.total - len(files)} of {shard.total} parts are missing: download them again"
                problems.append(CatalogProblem(path=files[0].path, reason=reason))
            else:
                models[files[0].path] = files
        firsts = {path: usable[files[0]] for path, files in models.items()}
        keys = unique_keys(NamedModel(path, facts.kind, facts.quantization) for path, facts in firsts.items())
        entries: dict[str, CatalogEntry] = {}
        shapes: dict[str, ModelShape] = {}
        for path, key in sorted(keys.items(), key=lambda item: item[1]):
            projector = _projector_of(path, projectors)
            params = firsts[path].params or _params_text(sum(usable[file].parameter_count for file in models[path]))
            entries[key] = _entry(self.directory, key, models[path], firsts[path], projector, params=params)
            shapes[key] = _whole_shape(firsts[path].shape, models[path], projector)
        # Replaced, never changed in place: a thread that lists the models meanwhile keeps a whole list.
        self._entries, self._shapes = entries, shapes
        self._tell(problems)

    def _tell(self, problems: list[CatalogProblem]) -> None:
        # A rescan finds the same broken file each time; it is worth one line of log.
        known = set(self._problems)
        self._problems = tuple(sorted(problems, key=lambda problem: problem.path))
        for problem in self._problems:
            if problem not in known:
                self._on_problem(problem)

    def _not_found(self, query: str) -> EngineFault:
        keys = list(self._entries)
        close = difflib.get_close_matches(query, keys, n=SAMPLE_SIZE, cutoff=0.4) or keys[:SAMPLE_SIZE]
        return EngineFault(
            f"Model not found: {query}",
            kind="not_found",
            suggestion=f"Available models: {', '.join(close)}" if close else f"Put models into {self.directory}",
            display_data={
                "code": "generic.pathNotFound",
                "path": query,
                "availablePathsSample": close,
                "totalModels": len(keys),
            },
        )


def _wrong_kind(query: str, entry: CatalogEntry, kind: ModelKind | None) -> EngineFault:
    return EngineFault(
        f"The model {entry.model_key} is of type {entry.kind}, not {kind}",
        kind="not_found",
        display_data={
            "code": "generic.domainMismatch",
            "path": query,
            "actualDomain": entry.kind,
            "expectedDomain": kind,
        },
    )


def _holds_mlx(folder: FoundFolder) -> bool:
    names = [file.path.rpartition("/")[2].lower() for file in folder.files]
    return (
        "config.json" in names
        and any(name.endswith(".safetensors") for name in names)
        and not any(name.endswith(".gguf") for name in names)
    )


def _no_gguf(query: str) -> EngineFault:
    return EngineFault(
        f"{query} is an MLX model and the embedded engine loads GGUF files only: load it in LM Studio on a Mac, or "
        "download the model as GGUF",
        kind="unsupported",
    )


def _reason(problem: FoundProblem) -> str:
    return f"cannot be read ({problem.detail})" if problem.kind == "unreadable" else problem.detail


def _facts(directory: Path, file: FoundFile) -> _Facts | str:
    """The header's facts, or the reason why there are none."""
    try:
        header = read_header(directory / file.path)
        # A download that stopped early has a good header and not all of its tensors.
        header.check_tensor_data()
        return _facts_of(header, file)
    except GgufError as exc:
        return str(exc)


def _facts_of(header: GgufHeader, file: FoundFile) -> _Facts:
    architecture = header.architecture or ""
    shard = parse_shard(file.path)
    if not architecture and not (shard and shard.number > 1):  # parts after the first hold tensors only
        raise GgufError(f"{header.path}: names no architecture, so nothing can load it; download another file")
    return _Facts(
        architecture=architecture,
        kind="embedding" if header.is_embedding else "llm",
        name=header.name,
        quantization=quantization_of(file.path) or header.quantization,
        params=header.size_label,
        parameter_count=header.parameter_count,
        context_length=header.context_length or 0,
        chat_template=header.chat_template,
        shape=shape_from_metadata(header.metadata, file_bytes=file.size_bytes, n_vocab=header.vocabulary_size),
        projector=header.is_projector,
    )


def _models(files: Iterable[FoundFile]) -> list[list[FoundFile]]:
    """The files of each model, in order: one, or its parts."""
    models: dict[tuple[str, str, int], list[FoundFile]] = {}
    for file in files:
        shard = parse_shard(file.path)
        folder = file.path.rpartition("/")[0]
        model = (folder, shard.base, shard.total) if shard else (file.path, "", 0)
        models.setdefault(model, []).append(file)
    return [sorted(parts, key=lambda file: file.path) for parts in models.values()]


def _projector_of(path: str, projectors: list[FoundFile]) -> FoundFile | None:
    """The projector in the same folder; of several, the one whose name begins most like the model's."""
    folder = path.rpartition("/")[0]
    beside = [file for file in projectors if file.path.rpartition("/")[0] == folder]
    stem = file_stem(path).lower()
    # Of names, not of paths: character by character is what is meant.
    return max(beside, key=lambda file: len(commonprefix([stem, _bare_name(file.path)])), default=None)  # noqa: RUF071


def _bare_name(path: str) -> str:
    return file_stem(path).lower().replace("mmproj", "").strip("-._")


def _entry(
    directory: Path,
    key: str,
    shards: list[FoundFile],
    facts: _Facts,
    projector: FoundFile | None,
    *,
    params: str | None,
) -> CatalogEntry:
    path = shards[0].path
    template = facts.chat_template or ""
    return CatalogEntry(
        model_key=key,
        kind=facts.kind,
        path=path,
        file=str(directory / path),
        shard_files=tuple(str(directory / shard.path) for shard in shards[1:]),
        mmproj_file=str(directory / projector.path) if projector else None,
        size_bytes=sum(shard.size_bytes for shard in shards) + (projector.size_bytes if projector else 0),
        publisher=path.partition("/")[0] if "/" in path else "",
        display_name=facts.name or file_stem(path),
        architecture=facts.architecture,
        params=params,
        quantization=facts.quantization,
        bits=bits_of(facts.quantization),
        max_context_length=facts.context_length,
        vision=projector is not None,
        trained_for_tool_use=any(mark in template for mark in _TOOL_MARKS),
        has_chat_template=bool(template),
        reasoning_options=_reasoning_options(template),
    )


def _reasoning_options(template: str) -> tuple[str, ...]:
    """What the template can be told of reasoning, by the variables it asks for, in LM Studio's words."""
    switch = ("off", "on") if "enable_thinking" in template else ()
    return (*switch, *("low", "medium", "high")) if "reasoning_effort" in template else switch


def _params_text(count: int) -> str | None:
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + unit
    return None


def _whole_shape(shape: ModelShape, shards: list[FoundFile], projector: FoundFile | None) -> ModelShape:
    return replace(
        shape,
        file_bytes=sum(shard.size_bytes for shard in shards),
        mmproj_bytes=projector.size_bytes if projector else 0,
    )
