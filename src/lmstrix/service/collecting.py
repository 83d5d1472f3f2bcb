"""`collections`: texts as vectors, added with the collection's one model, and found by what they are about."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmstrix.core.vectors.chunks import chunks_of
from lmstrix.core.vectors.prefixes import Prefixes, prefixes_of
from lmstrix.core.vectors.records import (
    AddedTexts,
    AddProgress,
    CollectionInfo,
    EmbeddedPart,
    FailedEntry,
    Found,
    check_name,
    content_hash,
)
from lmstrix.core.vectors.similarity import as_unit
from lmstrix.core.vectors.store import COLLECTIONS, UNIT, CollectionStore, unknown_collection
from lmstrix.ground.callbacks import in_caller
from lmstrix.ground.errors import ContextOverflowError, LMStrixError, PromptError, UsageError
from lmstrix.ground.ranges import COUNT, IDLE, check_number
from lmstrix.ground.wording import call, parameter
from lmstrix.service.collection_entries import check_entries
from lmstrix.service.embedding import EMBEDDING, chosen_embedding_model, embedding_model
from lmstrix.service.finding import find_model, known_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import LoadedModel
    from lmstrix.service.collection_entries import TextEntry
    from lmstrix.service.workspace import Workspace

_AT_ONCE = 32  # texts per transaction: what an interrupt loses
_MARKERS = 2  # tokens that a model puts around a text, which servers' counts leave out: BERT's [CLS] and [SEP]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions:
    """How texts are added. `model` None is the collection's, for a new one the only embedding model there is.

    A text of more tokens than the model takes is refused, unless `chunk_tokens` cuts texts into pieces of at most so
    many. `keep_texts` None keeps them where the log keeps texts. `ttl_s` 0 unloads at once what was loaded for it.
    `drop_gone` takes out the texts whose files are gone. `document_prefix` and `query_prefix` None are the
    collection's, for a new one those that the model's family wants.
    """

    model: str | None = None
    chunk_tokens: int | None = None
    keep_texts: bool | None = None
    ttl_s: float | None = 300.0
    drop_gone: bool = False
    document_prefix: str | None = None
    query_prefix: str | None = None


class Collections:
    """The collections of one LMStrix."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def file(self) -> Path:
        return self._workspace.paths.own / COLLECTIONS

    @contextmanager
    def open(self, *, for_reading: bool = False) -> Iterator[CollectionStore]:
        """The store. Who meets a damaged one is told where it was moved."""
        with CollectionStore(self.file, for_reading=for_reading) as store:
            if store.set_aside is not None:
                self._workspace.notify(f"{self.file.name} was damaged and is set aside as {store.set_aside}")
            yield store

    @contextmanager
    def open_with(self, name: str) -> Iterator[CollectionStore]:
        """The same, to read a collection. Raises UsageError where there is none, and makes no file to say so."""
        if not self.file.exists():
            raise unknown_collection(name, ())
        with self.open(for_reading=True) as store:
            store.get(name)
            yield store

    def infos(self) -> list[CollectionInfo]:
        """All of them, by name."""
        if not self.file.exists():
            return []
        with self.open(for_reading=True) as store:
            return store.collections()

    def get(self, name: str) -> CollectionInfo:
        """One of them. Raises UsageError where there is none."""
        with self.open_with(name) as store:
            return store.get(name)

    def gone(self, name: str) -> list[str]:
        """The ids of the texts whose files are gone."""
        with self.open_with(name) as store:
            return _gone(store, name)

    def delete(self, name: str, ids: Sequence[str] = ()) -> list[str]:
        """Delete a collection, or only these texts of it; returns the ids of what was there."""
        with self.open_with(name) as store:
            if ids:
                return store.delete_entries(name, ids)
            store.delete(name)
            return [name]

    async def add(
        self,
        name: str,
        entries: Sequence[TextEntry],
        options: AddOptions,
        *,
        on_progress: Callable[[AddProgress], None] | None = None,
    ) -> AddedTexts:
        """Embed texts and keep their vectors. What is there unchanged is left; a text that fails keeps no other."""
        check_name(name)
        check_number("ttl_s", options.ttl_s, IDLE)
        check_number("chunk_tokens", options.chunk_tokens, COUNT)
        check_entries(entries)
        if not entries:
            self.get(name)  # with nothing to add, none is made
        with self.open() as store:
            async with AsyncExitStack() as stack:
                adding = _Adding(self._workspace, store, name, options, stack)
                if entries:
                    await adding.all(entries, on_progress and in_caller(on_progress))
            dropped = store.delete_entries(name, _gone(store, name)) if options.drop_gone else []
            return adding.outcome(store.find(name), dropped)

    async def search(
        self,
        name: str,
        text: str | None = None,
        *,
        like: str | None = None,
        top: int = 5,
        model: str | None = None,
        ttl_s: float | None = 300.0,
    ) -> Found:
        """The texts nearest to `text`, or to the text of the collection with the id `like`, which needs no server."""
        check_number("top", top, COUNT)
        check_number("ttl_s", ttl_s, IDLE)
        if (text is None) == (like is None):
            raise UsageError(f"what is searched for? give a text, or {parameter('like')} with an id")
        if text is not None and not text.strip():
            raise UsageError("the text to search for is empty; an empty text has no vector")
        with self.open_with(name) as store:
            info = store.get(name)
            if text is not None:
                wanted = await self._vector(info, text, model, ttl_s)
            else:
                if model is not None:
                    await _model_of(self._workspace, info, model)
                wanted = _kept_vector(store, name, like or "")
            return Found(collection=info, matches=tuple(await asyncio.to_thread(store.nearest, name, wanted, top)))

    async def _vector(self, info: CollectionInfo, text: str, model: str | None, ttl_s: float | None) -> bytes:
        deadline = self._workspace.deadline()
        record = await _model_of(self._workspace, info, model)
        async with (
            embedding_model(self._workspace, record, deadline, ttl_s=ttl_s) as (backend, loaded),
            deadline.step(EMBEDDING),
        ):
            asked = info.query_prefix + text
            await _check_length(backend, loaded, asked, "the text to search for", can_be_cut=False)
            (vector,) = await backend.embed(loaded.instance_id, [asked])
        return _unit_of(info, vector)


class _Adding:
    """Texts on their way into one collection. The model is loaded when the first of them needs it."""

    def __init__(
        self, workspace: Workspace, store: CollectionStore, name: str, options: AddOptions, stack: AsyncExitStack
    ) -> None:
        self._workspace = workspace
        self._store = store
        self._name = name
        self._options = options
        self._stack = stack
        self._deadline = workspace.deadline()
        self._keeps_texts = workspace.settings.log_texts if options.keep_texts is None else options.keep_texts
        self._info = store.find(name)
        self._prefixes = Prefixes()
        self._record: ModelRecord | None = None
        self._loaded: tuple[ModelBackend, LoadedModel] | None = None
        self._waiting: list[tuple[EmbeddedPart, str]] = []
        self._added = self._parts = self._unchanged = 0
        self._failed: list[FailedEntry] = []

    async def all(self, entries: Sequence[TextEntry], on_progress: Callable[[AddProgress], None] | None) -> None:
        """Add them one after the other, their vectors in batches."""
        # Before anything is read: a model that the collection has not is a slip of the whole command.
        self._record = await self._chosen()
        self._prefixes = self._chosen_prefixes(self._record)
        for done, entry in enumerate(entries, 1):
            failed = None
            try:
                await self._one(entry)
            except (PromptError, ContextOverflowError) as exc:
                failed = FailedEntry(entry_id=entry.entry_id, error=str(exc))
                self._failed.append(failed)
            if len(self._waiting) >= _AT_ONCE or done == len(entries):
                await self._flush()
            if on_progress is not None:
                on_progress(AddProgress(done=done, total=len(entries), failed=failed))

    def outcome(self, info: CollectionInfo | None, dropped: Sequence[str]) -> AddedTexts:
        return AddedTexts(
            name=self._name,
            collection=info,
            added=self._added,
            parts=self._parts,
            unchanged=self._unchanged,
            failed=tuple(self._failed),
            dropped=tuple(dropped),
        )

    async def _chosen(self) -> ModelRecord:
        if self._info is not None:
            return await _model_of(self._workspace, self._info, self._options.model)
        return await chosen_embedding_model(self._workspace, self._options.model)

    def _chosen_prefixes(self, record: ModelRecord) -> Prefixes:
        """The collection's, or for a new one those asked for, or the family's."""
        options, info = self._options, self._info
        if info is None:
            own = prefixes_of(record.model_key, record.display_name)
            asked = (options.document_prefix, options.query_prefix)
            return Prefixes(*(each if word is None else word for word, each in zip(asked, own, strict=True)))
        for name, asked_prefix, kept in (
            ("document_prefix", options.document_prefix, info.document_prefix),
            ("query_prefix", options.query_prefix, info.query_prefix),
        ):
            if asked_prefix not in (None, kept):
                raise UsageError(
                    f"{parameter(name)}: the collection {info.name} was begun with {kept!r}, and vectors with another "
                    "cannot be compared; leave it out, or begin another collection"
                )
        return Prefixes(info.document_prefix, info.query_prefix)

    async def _one(self, entry: TextEntry) -> None:
        text = await asyncio.to_thread(entry.read)
        digest = content_hash(text, self._options.chunk_tokens)
        kept = self._store.kept(self._name, entry.entry_id, digest)
        if kept and len(kept) == next(iter(kept.values())):
            self._unchanged += 1
            if entry.source is not None:
                self._store.note_source(self._name, entry.entry_id, entry.source)
            return
        pieces = await self._pieces(entry, text)
        numbers = range(1, len(pieces) + 1) if len(pieces) > 1 else (0,)
        for number, piece in zip(numbers, pieces, strict=True):
            if number not in kept:
                part = EmbeddedPart(
                    entry_id=entry.entry_id,
                    part=number,
                    parts=len(pieces),
                    content_hash=digest,
                    vector=b"",
                    text=piece if self._keeps_texts else None,
                    source=entry.source,
                )
                self._waiting.append((part, self._prefixes.document + piece))
        self._added += 1

    async def _pieces(self, entry: TextEntry, text: str) -> list[str]:
        backend, loaded = await self._model()
        async with self._deadline.step(EMBEDDING):
            if self._options.chunk_tokens is None:
                whole = self._prefixes.document + text
                await _check_length(backend, loaded, whole, entry.entry_id, can_be_cut=True)
                return [text]
            steps = chunks_of(text, self._options.chunk_tokens)
            try:
                asked = next(steps)
                while True:
                    tokens = await backend.count_tokens(loaded.instance_id, self._prefixes.document + asked)
                    asked = steps.send(tokens)
            except StopIteration as end:
                pieces: list[str] = end.value
                return pieces

    async def _model(self) -> tuple[ModelBackend, LoadedModel]:
        """The model, loaded; once, for all texts."""
        if self._loaded is None:
            assert self._record is not None
            using = embedding_model(self._workspace, self._record, self._deadline, ttl_s=self._options.ttl_s)
            self._loaded = await self._stack.enter_async_context(using)
            _check_chunks(self._options.chunk_tokens, self._loaded[1])
        return self._loaded

    async def _flush(self) -> None:
        """Embed and keep what waits, a batch at a time."""
        while self._waiting:
            batch, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            backend, loaded = await self._model()
            async with self._deadline.step(EMBEDDING):
                vectors = await backend.embed(loaded.instance_id, [text for _, text in batch])
            info = self._begun(len(vectors[0]))
            parts = [
                replace(part, vector=_unit_of(info, vector)) for (part, _), vector in zip(batch, vectors, strict=True)
            ]
            await asyncio.to_thread(self._store.add, self._name, parts)
            self._parts += len(parts)

    def _begun(self, dimensions: int) -> CollectionInfo:
        """The collection, made with the first vector: only that tells its dimensions."""
        if self._info is None:
            assert self._record is not None
            moment = datetime.now(UTC)
            wanted = CollectionInfo(
                name=self._name,
                model_key=self._record.model_key,
                model_path=self._record.path,
                dimensions=dimensions,
                scaling=UNIT,
                created_at=moment,
                changed_at=moment,
                document_prefix=self._prefixes.document,
                query_prefix=self._prefixes.query,
            )
            # Another process may have begun it with another model meanwhile.
            self._info = _checked(self._store.begin(wanted), self._record)
            if any(self._prefixes):
                document, query = self._prefixes
                self._workspace.notify(
                    f"{self._name} puts {document!r} before each text and {query!r} before a question"
                )
        return self._info


async def _model_of(workspace: Workspace, info: CollectionInfo, named: str | None) -> ModelRecord:
    """The model of a collection, which is also the one that is named, if one is."""
    registry = await known_models(workspace)
    if named is not None:
        record = await find_model(workspace, registry, named)
        _checked(info, record)
        return record
    return registry.get(info.model_path) or registry.find(info.model_key)


def _checked(info: CollectionInfo, record: ModelRecord) -> CollectionInfo:
    """Raise UsageError where the collection has the vectors of another model."""
    if record.model_key != info.model_key and record.path != info.model_path:
        raise UsageError(
            f"the collection {info.name} has vectors of {info.model_key}, which those of {record.model_key} cannot be "
            f"compared with; leave out {parameter('model')}, or begin another collection"
        )
    return info


def _gone(store: CollectionStore, name: str) -> list[str]:
    """The ids of the texts whose files are gone; one that may not be looked at is there."""
    return [entry_id for entry_id, source in store.sources(name).items() if _is_gone(source)]


def _is_gone(source: str) -> bool:
    try:
        os.stat(source)  # noqa: PTH116 - Path.exists() takes what may not be looked at for gone in some versions
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _unit_of(info: CollectionInfo, vector: Sequence[float]) -> bytes:
    if len(vector) != info.dimensions:
        raise LMStrixError(
            f"{info.model_key} makes vectors of {len(vector)} numbers now, and the collection {info.name} has those of "
            f"{info.dimensions}; begin another collection"
        )
    return as_unit(vector)


def _kept_vector(store: CollectionStore, name: str, wanted: str) -> bytes:
    vector = store.vector(name, wanted)
    if vector is None:
        raise UsageError(
            f"the collection {name} has no text {wanted[:80]!r}; {call('collections.parts', name)} lists them"
        )
    return vector


async def _check_length(backend: ModelBackend, loaded: LoadedModel, text: str, name: str, *, can_be_cut: bool) -> None:
    """Raise ContextOverflowError where the model does not take the whole text: some servers would cut it silently."""
    room = loaded.context_length - _MARKERS
    # A token has a byte at least, so most texts need not be counted.
    if len(text.encode("utf-8", "replace")) <= room:
        return
    tokens = await backend.count_tokens(loaded.instance_id, text)
    if tokens > room:
        remedy = f"{parameter('chunk_tokens', room)} cuts it into pieces" if can_be_cut else "give a shorter one"
        raise ContextOverflowError(
            f"{name} has {tokens:,} tokens, and {loaded.model_key} takes {room:,}; {remedy}",
            prompt_tokens=tokens,
            context_length=loaded.context_length,
        )


def _check_chunks(chunk_tokens: int | None, loaded: LoadedModel) -> None:
    room = loaded.context_length - _MARKERS
    if chunk_tokens is not None and chunk_tokens > room:
        raise UsageError(
            f"{parameter('chunk_tokens')}: {loaded.model_key} takes {room:,} tokens at most; give {room} or less"
        )
