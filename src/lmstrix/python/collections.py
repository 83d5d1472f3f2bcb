"""Collections in the Python API: texts kept as vectors, and found by what they are about."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmstrix.python.values import check_fields, paths, text, texts, texts_by_name
from lmstrix.service.collecting import AddOptions
from lmstrix.service.collection_entries import entries_of_files, entries_of_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lmstrix.api.portal import Portal
    from lmstrix.core.vectors.records import AddedTexts, AddProgress, CollectionInfo, EmbeddedPart, Match
    from lmstrix.service import LMStrixService


class AsyncCollections:
    """The collections of texts, for asyncio."""

    def __init__(self, service: LMStrixService) -> None:
        self._collections = service.collections

    async def infos(self) -> list[CollectionInfo]:
        """The collections there are, by name."""
        return await asyncio.to_thread(self._collections.infos)

    async def parts(self, name: str) -> list[EmbeddedPart]:
        """All that is in a collection, by id; a vector is of little-endian 32-bit floats, and its length is 1."""
        return await asyncio.to_thread(self._parts, text("name", name))

    async def add(
        self,
        name: str,
        texts: Mapping[str, str] | str | Sequence[str] = (),
        *,
        files: str | Path | Sequence[str | Path] = (),
        model: str | None = None,
        chunk_tokens: int | None = None,
        keep_texts: bool | None = None,
        drop_gone: bool = False,
        document_prefix: str | None = None,
        query_prefix: str | None = None,
        ttl_s: float | None = 300.0,
        on_progress: Callable[[AddProgress], None] | None = None,
    ) -> AddedTexts:
        """Add texts by their ids, or texts and `files` (by pattern), to a collection, which is made if there is none.

        What is in it unchanged is not embedded again. A text that fails is in `failed`, and keeps no other from it:
        one of more tokens than the model takes is refused, unless `chunk_tokens` cuts texts into pieces (ID#1, ID#2).
        `drop_gone` takes out the texts whose files are gone. What a new collection puts before texts and questions is
        what its model's family wants, unless `document_prefix` and `query_prefix` say it.
        """
        options = AddOptions(
            model=model,
            chunk_tokens=chunk_tokens,
            keep_texts=keep_texts,
            ttl_s=ttl_s,
            drop_gone=drop_gone,
            document_prefix=document_prefix,
            query_prefix=query_prefix,
        )
        check_fields(options)
        entries = entries_of_texts(texts_by_name("texts", texts)) + entries_of_files(paths("files", files))
        return await self._collections.add(text("name", name), entries, options, on_progress=on_progress)

    async def search(
        self,
        name: str,
        wanted: str | None = None,
        *,
        like: str | None = None,
        top: int = 5,
        model: str | None = None,
        ttl_s: float | None = 300.0,
    ) -> tuple[Match, ...]:
        """The texts nearest to `wanted`, or to the one with the id `like`; the nearest first, with their cosine."""
        if wanted is not None:
            wanted = text("wanted", wanted)
        found = await self._collections.search(text("name", name), wanted, like=like, top=top, model=model, ttl_s=ttl_s)
        return found.matches

    async def gone(self, name: str) -> list[str]:
        """The ids of the texts whose files are gone."""
        return await asyncio.to_thread(self._collections.gone, text("name", name))

    async def delete(self, name: str, ids: str | Sequence[str] = ()) -> list[str]:
        """Delete a collection, or only the texts with these ids; returns what was there."""
        return await asyncio.to_thread(self._collections.delete, text("name", name), texts("ids", ids))

    def _parts(self, name: str) -> list[EmbeddedPart]:
        with self._collections.open_with(name) as store:
            return list(store.parts(name))


class Collections:
    """The collections of texts."""

    def __init__(self, portal: Portal, collections: AsyncCollections) -> None:
        self._portal = portal
        self._collections = collections

    def infos(self) -> list[CollectionInfo]:
        """The collections there are, by name."""
        return self._portal.run(self._collections.infos())

    def parts(self, name: str) -> list[EmbeddedPart]:
        """All that is in a collection, by id; a vector is of little-endian 32-bit floats, and its length is 1."""
        return self._portal.run(self._collections.parts(name))

    def add(
        self,
        name: str,
        texts: Mapping[str, str] | str | Sequence[str] = (),
        *,
        files: str | Path | Sequence[str | Path] = (),
        model: str | None = None,
        chunk_tokens: int | None = None,
        keep_texts: bool | None = None,
        drop_gone: bool = False,
        document_prefix: str | None = None,
        query_prefix: str | None = None,
        ttl_s: float | None = 300.0,
        on_progress: Callable[[AddProgress], None] | None = None,
    ) -> AddedTexts:
        """Add texts by their ids, or texts and `files` (by pattern), to a collection, which is made if there is none.

        What is in it unchanged is not embedded again. A text that fails is in `failed`, and keeps no other from it:
        one of more tokens than the model takes is refused, unless `chunk_tokens` cuts texts into pieces (ID#1, ID#2).
        `drop_gone` takes out the texts whose files are gone. What a new collection puts before texts and questions is
        what its model's family wants, unless `document_prefix` and `query_prefix` say it.
        """
        return self._portal.run(
            self._collections.add(
                name,
                texts,
                files=files,
                model=model,
                chunk_tokens=chunk_tokens,
                keep_texts=keep_texts,
                drop_gone=drop_gone,
                document_prefix=document_prefix,
                query_prefix=query_prefix,
                ttl_s=ttl_s,
                on_progress=on_progress,
            )
        )

    def search(
        self,
        name: str,
        wanted: str | None = None,
        *,
        like: str | None = None,
        top: int = 5,
        model: str | None = None,
        ttl_s: float | None = 300.0,
    ) -> tuple[Match, ...]:
        """The texts nearest to `wanted`, or to the one with the id `like`; the nearest first, with their cosine."""
        return self._portal.run(self._collections.search(name, wanted, like=like, top=top, model=model, ttl_s=ttl_s))

    def gone(self, name: str) -> list[str]:
        """The ids of the texts whose files are gone."""
        return self._portal.run(self._collections.gone(name))

    def delete(self, name: str, ids: str | Sequence[str] = ()) -> list[str]:
        """Delete a collection, or only the texts with these ids; returns what was there."""
        return self._portal.run(self._collections.delete(name, ids))
