"""The context lengths that tests have proven here, read from LMStrix's registry, which others write while we run.

A length counts when it was found on this machine with this engine at default settings, and the model's file is still
the one that was tested. A registry that is missing or cannot be read proves nothing, and stops nothing.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmstrix.core.registry.places import place_here
from lmstrix.core.registry.store import RegistryStore
from lmstrix.ground.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.engine.records import CatalogEntry

_ENGINE: Final = "embedded"


class ProvenContexts:
    """The proven lengths of the models in `registry_file`; `note` gets a line for the log about one that is damaged."""

    def __init__(self, registry_file: Path | None, note: Callable[[str], None]) -> None:
        self._file = registry_file
        self._note = note
        self._lock = threading.Lock()
        self._read_at: tuple[int, ...] | None = None
        self._registry: ModelRegistry | None = None

    async def length_of(self, entry: CatalogEntry) -> int | None:
        """The longest context proven for a model, never above what it declares; None where nothing is."""
        if self._file is None:
            return None
        # In a thread: a registry of ten thousand models takes a tenth of a second to read.
        length, problem = await asyncio.to_thread(self._look_up, self._file, entry)
        if problem is not None:
            self._note(problem)
        return length

    def _look_up(self, file: Path, entry: CatalogEntry) -> tuple[int | None, str | None]:
        with self._lock:
            problem = self._read_again(file)
            registry = self._registry
        record = None if registry is None else registry.get(entry.path)
        if record is None or not _is_same_file(record, entry):
            return None, problem
        tested = record.seen_from(place_here(_ENGINE)).tested_context_length
        return (min(tested, entry.max_context_length or tested) if tested else None), problem

    def _read_again(self, file: Path) -> str | None:
        """Read the registry if it is another than the last time; what is wrong with it, once for each state of it."""
        try:
            status = file.stat()
        except OSError:
            self._read_at = self._registry = None
            return None
        # Every change replaces the file, so the number of its place on the disk changes even within one tick.
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp == self._read_at:
            return None
        self._read_at = stamp
        try:
            self._registry = RegistryStore(file).load()
        except RegistryError as exc:
            self._registry = None
            return f"models load at the default context: {exc}"
        return None


def _is_same_file(record: ModelRecord, entry: CatalogEntry) -> bool:
    """Whether a model is still what was tested; another may have been put in its place since."""
    if record.size_bytes is None:
        return True
    try:
        # From the disk, not from the catalogue, which is as old as the last look at the folder.
        weights_bytes = sum(Path(file).stat().st_size for file in (entry.file, *entry.shard_files))
        projector_bytes = Path(entry.mmproj_file).stat().st_size if entry.mmproj_file else 0
    except OSError:
        return False
    # A projector counts as a part of the model in some listings, and in others not.
    return record.size_bytes in (weights_bytes, weights_bytes + projector_bytes)
