"""What is on disk and in the server, as model facts.

A models directory is laid out `publisher/repository/file.gguf`. Parts of a split model are one model; `mmproj` files
give vision to the models beside them; a folder with config.json and safetensors is an MLX model. A file that is no
usable model becomes a problem on a list and never breaks the scan. A header is read, and the content hashed, only when
the size or time of its file differ from what is known: a look at a thousand known models costs little more than a stat.

The content hash covers the size and both ends of the first file: enough to tell fine-tunes of one model apart, which
share their header, without reading gigabytes. Traded away: a file changed in its middle, keeping size and time.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from lmstrix.core.registry.models_folder import PARTIAL_SUFFIXES, FoundFile, FoundFolder, walk_models_folder
from lmstrix.core.registry.records import ModelFacts
from lmstrix.ground import log
from lmstrix.ground.errors import GgufError, MlxError, ProblemKind
from lmstrix.ground.model_names import NamedModel, bits_of, is_mmproj, parse_shard, quantization_of, unique_keys
from lmstrix.ground.regular_files import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from lmstrix.ground.types import ModelInfo, ModelKind

_HASHED_END_BYTES = 64 * 1024


class ModelHeader(Protocol):
    """What the scan asks of a parsed GGUF header."""

    @property
    def architecture(self) -> str | None: ...
    @property
    def name(self) -> str | None: ...
    @property
    def size_label(self) -> str | None: ...
    @property
    def context_length(self) -> int | None: ...
    @property
    def quantization(self) -> str | None: ...
    @property
    def chat_template(self) -> str | None: ...
    @property
    def is_embedding(self) -> bool: ...
    @property
    def is_projector(self) -> bool: ...
    @property
    def missing_bytes(self) -> int: ...


class ModelFolder(Protocol):
    """What the scan asks of a folder with an MLX model."""

    @property
    def model_type(self) -> str: ...
    @property
    def kind(self) -> ModelKind: ...
    @property
    def size_label(self) -> str | None: ...
    @property
    def context_length(self) -> int | None: ...
    @property
    def quantization(self) -> str | None: ...
    @property
    def bits(self) -> int | None: ...
    @property
    def bits_per_weight(self) -> float | None: ...
    @property
    def vision(self) -> bool: ...
    @property
    def trained_for_tool_use(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanProblem:
    """A file or folder that is not a usable model. `path` is relative to the models directory; `detail` says why."""

    path: str
    kind: ProblemKind
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskScan:
    """What a models directory holds. `headers_read` counts the files and MLX folders that had to be opened."""

    models: tuple[ModelFacts, ...]
    problems: tuple[ScanProblem, ...]
    headers_read: int


class _Problem(Exception):  # noqa: N818 - it is not an error of ours but a finding to be listed
    def __init__(self, kind: ProblemKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def scan_models_dir(
    directory: Path,
    *,
    known: Mapping[str, ModelFacts],
    read_header: Callable[[Path], ModelHeader],
    read_folder: Callable[[Path], ModelFolder],
) -> DiskScan:
    """All models below `directory`. `known` maps a model's first file to its facts, as the registry remembers them."""
    return _Scan(directory, known, read_header, read_folder).run()


def merge_listing(disk: Iterable[ModelFacts], listing: Iterable[ModelInfo]) -> list[ModelFacts]:
    """Join the disk's facts with what a server lists.

    The server names its models (key, path, capabilities); the disk knows their files. Matching is by path. A listed
    model without a file of its own path (LM Studio's virtual models) takes over the one unlisted file of equal size
    and architecture. Models only one side knows are kept.
    """
    unlisted = {facts.path: facts for facts in disk}
    matched = [(info, unlisted.pop(info.path, None)) for info in listing]
    merged = []
    # Twins are looked for after all exact matches, so that none of them takes a file another model names.
    for info, facts in matched:
        twin = facts or _twin(info, unlisted.values())
        if twin is not None:
            unlisted.pop(twin.path, None)
        merged.append(_listed_facts(info, twin))
    return merged + list(unlisted.values())


class _Scan:
    """One look through a models directory, collecting models and problems."""

    def __init__(
        self,
        directory: Path,
        known: Mapping[str, ModelFacts],
        read_header: Callable[[Path], ModelHeader],
        read_folder: Callable[[Path], ModelFolder],
    ) -> None:
        self.directory = directory
        self.known = known
        self.read_header = read_header
        self.read_folder = read_folder
        self.models: list[ModelFacts] = []
        self.problems: list[ScanProblem] = []
        self.headers_read = 0

    def run(self) -> DiskScan:
        walk = walk_models_folder(self.directory)
        if walk.missing:
            self._problem(".", "unreadable", os.strerror(errno.ENOENT))
        for problem in walk.problems:
            self._problem(problem.path, problem.kind, problem.detail)
        for folder in walk.folders:
            self._take_folder(folder)
        log.debug(
            "{}: {} folders, {} models, {} problems, {} headers read",
            self.directory,
            len(walk.folders),
            len(self.models),
            len(self.problems),
            self.headers_read,
        )
        # Only now, because a key depends on which other models there are.
        keys = unique_keys(NamedModel(m.path, m.kind, m.quantization) for m in self.models)
        models = (replace(m, model_key=keys[m.path]) if m.model_key != keys[m.path] else m for m in self.models)
        return DiskScan(
            models=tuple(sorted(models, key=lambda m: m.path)),
            problems=tuple(sorted(self.problems, key=lambda p: p.path)),
            headers_read=self.headers_read,
        )

    def _take_folder(self, folder: FoundFolder) -> None:
        for file in folder.files:
            if file.path.lower().endswith(PARTIAL_SUFFIXES):
                self._problem(file.path, "incomplete", "a download that has not finished: let LM Studio finish it")
        gguf = [file for file in folder.files if file.path.lower().endswith(".gguf")]
        if gguf:
            self._take_gguf(gguf)
        elif any(file.path.endswith(".safetensors") for file in folder.files):
            self._take_mlx(folder)

    def _take_gguf(self, files: list[FoundFile]) -> None:
        projectors = [file.size_bytes for file in files if is_mmproj(file.path)]
        found = []
        for parts in _models_of([file for file in files if not is_mmproj(file.path)]):
            try:
                facts = self._gguf_facts(parts)
            except _Problem as exc:
                self._problem(parts[0].path, exc.kind, str(exc))
                continue
            # A projector under another name, which only its header tells: it too gives vision to those beside it.
            if facts is None:
                projectors.append(parts[0].size_bytes)
            else:
                found.append(facts)
        for facts in found:
            # Of several, whichever the server chooses: the largest is what to have room for.
            projector_bytes = max(projectors, default=0) if facts.kind == "llm" else 0
            # 0 takes back what an earlier scan said, which None would leave standing.
            told = projector_bytes or (0 if facts.projector_bytes else None)
            self.models.append(replace(facts, vision=projector_bytes > 0, projector_bytes=told))

    def _gguf_facts(self, parts: list[FoundFile]) -> ModelFacts | None:
        """The facts of a model; None for a vision projector under another name."""
        first, size_bytes, mtime_ns = parts[0], sum(p.size_bytes for p in parts), max(p.mtime_ns for p in parts)
        if not all(part.size_bytes for part in parts):
            raise _Problem("empty", "the file is empty: download it again")
        shard = parse_shard(first.path)
        if shard and (shard.number != 1 or len(parts) != shard.total):
            raise _Problem("incomplete", f"{len(parts)} of {shard.total} parts are there: download the others")
        known = self.known.get(first.path)
        if known is not None and (known.size_bytes, known.mtime_ns) == (size_bytes, mtime_ns):
            # A virtual model is known under the server's path; here it is its file again, until the listing is merged.
            return replace(known, path=first.path, file=None) if known.file else known
        header = self._header(first)
        if header.is_projector:
            return None
        if header.missing_bytes:
            raise _Problem("corrupt", f"{header.missing_bytes:,} bytes are missing at its end: download it again")
        if header.context_length is None:
            raise _Problem(
                "not a model", f"its header ({header.architecture or 'no architecture'}) has no context length"
            )
        quantization = quantization_of(first.path) or header.quantization
        return ModelFacts(
            path=first.path,
            model_key="",
            kind="embedding" if header.is_embedding else "llm",
            size_bytes=size_bytes,
            max_context_length=header.context_length,
            architecture=header.architecture,
            quantization=quantization,
            bits=bits_of(quantization),
            params=header.size_label,
            display_name=header.name,
            publisher=_publisher(first.path),
            trained_for_tool_use="tools" in (header.chat_template or ""),
            mtime_ns=mtime_ns,
            content_hash=self._content_hash(first, size_bytes),
        )

    def _header(self, file: FoundFile) -> ModelHeader:
        self.headers_read += 1
        try:
            return self.read_header(self.directory / file.path)
        except GgufError as exc:
            unreadable = isinstance(exc.__cause__, OSError)
            detail = str(exc).removeprefix(f"{self.directory / file.path}: ")
            raise _Problem("unreadable" if unreadable else "corrupt", detail) from exc

    def _take_mlx(self, folder: FoundFolder) -> None:
        weights = [file for file in folder.files if file.path.endswith(".safetensors")]
        # In the models directory itself files are loose ones; a model is named by the folder it lies in. One without
        # a config.json is no model but, for example, an adapter.
        if not folder.path or not any(file.path.rpartition("/")[2] == "config.json" for file in folder.files):
            return
        size_bytes, mtime_ns = sum(f.size_bytes for f in weights), max(f.mtime_ns for f in folder.files)
        known = self.known.get(folder.path)
        # What was found before headers were read has no bits per weight, and may be of another kind than was thought.
        as_before = known is not None and (known.size_bytes, known.mtime_ns) == (size_bytes, mtime_ns)
        if known is not None and as_before and known.bits_per_weight is not None:
            self.models.append(known)
            return
        try:
            self.models.append(self._mlx_facts(folder.path, weights[0], size_bytes, mtime_ns))
        except _Problem as exc:
            self._problem(folder.path, exc.kind, str(exc))

    def _mlx_facts(self, path: str, weights: FoundFile, size_bytes: int, mtime_ns: int) -> ModelFacts:
        model = self._folder(path)
        return ModelFacts(
            path=path,
            model_key="",
            kind=model.kind,
            format="safetensors",
            size_bytes=size_bytes,
            max_context_length=model.context_length,
            architecture=model.model_type,
            quantization=model.quantization,
            bits=model.bits,
            bits_per_weight=model.bits_per_weight,
            params=model.size_label,
            publisher=_publisher(path),
            vision=model.vision,
            trained_for_tool_use=model.trained_for_tool_use,
            mtime_ns=mtime_ns,
            content_hash=self._content_hash(weights, size_bytes),
        )

    def _folder(self, path: str) -> ModelFolder:
        self.headers_read += 1
        try:
            return self.read_folder(self.directory / path)
        except MlxError as exc:
            raise _Problem(exc.kind, str(exc)) from exc

    def _content_hash(self, file: FoundFile, size_bytes: int) -> str:
        digest = hashlib.blake2b(str(size_bytes).encode(), digest_size=16)
        try:
            with open_regular(file.location) as content:
                digest.update(content.read(_HASHED_END_BYTES))
                # A shorter file is simply read to its end: its two ends would overlap.
                if file.size_bytes > 2 * _HASHED_END_BYTES:
                    content.seek(-_HASHED_END_BYTES, os.SEEK_END)
                digest.update(content.read())
        except OSError as exc:
            raise _Problem("unreadable", exc.strerror or str(exc)) from exc
        return digest.hexdigest()

    def _problem(self, path: str, kind: ProblemKind, detail: str) -> None:
        self.problems.append(ScanProblem(path=path, kind=kind, detail=detail))


def _models_of(files: list[FoundFile]) -> list[list[FoundFile]]:
    """The files of one folder, those of a split model together and in order."""
    groups: defaultdict[tuple[str, int], list[FoundFile]] = defaultdict(list)
    for file in files:
        shard = parse_shard(file.path)
        groups[(shard.base, shard.total) if shard else (file.path, 0)].append(file)
    return [sorted(group) for group in groups.values()]


def _publisher(path: str) -> str | None:
    return path.partition("/")[0] if "/" in path else None


def _twin(info: ModelInfo, unlisted: Iterable[ModelFacts]) -> ModelFacts | None:
    """The one file a virtual model can stand for; weights of equal byte size are, in practice, the same weights."""
    equal = [
        facts for facts in unlisted if (facts.size_bytes, facts.architecture) == (info.size_bytes, info.architecture)
    ]
    return equal[0] if len(equal) == 1 else None


def _listed_facts(info: ModelInfo, facts: ModelFacts | None) -> ModelFacts:
    # The server's word goes before the file's, except for the size: the next scan compares that with the files.
    known = facts or ModelFacts(path=info.path, model_key=info.model_key, size_bytes=info.size_bytes)
    return replace(
        known,
        path=info.path,
        model_key=info.model_key,
        kind=info.kind,
        format=info.format,
        max_context_length=info.max_context_length or known.max_context_length,
        architecture=info.architecture or known.architecture,
        quantization=info.quantization or known.quantization,
        bits=info.bits or known.bits,
        params=info.params or known.params,
        display_name=info.display_name or known.display_name,
        publisher=info.publisher or known.publisher,
        vision=info.vision,
        trained_for_tool_use=info.trained_for_tool_use,
        file=known.path if known.path != info.path else None,
    )
