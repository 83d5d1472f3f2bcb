"""Files that clients upload, kept in memory for as long as they stay, within bounds for each client and for all.

Types are told from the first bytes, the name only decides among kinds of text; `documents` reads the text. What a
client uploads beyond its bound takes the place of its own oldest files, never of another client's.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from lmstrix.engine.faults import EngineFault
from lmstrix.ground.units import format_bytes
from lmstrix.loaders.images import image_format

FileType = Literal["image", "text/plain", "application/pdf", "application/word", "text/other", "unknown"]

_PLAIN_SUFFIXES = {".txt", ".text", ".log", ""}
_SNIFFED_BYTES = 8192
_WORD_BODY = b"word/document.xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """What uploads may take: 256 MiB are some hundred photographs, and two such clients fit at once.

    Counts are bounded beside sizes, because a million empty files take memory too.
    """

    client_bytes: int = 256 * 2**20
    client_files: int = 1000
    all_bytes: int = 512 * 2**20
    all_files: int = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """An uploaded file. `identifier` is what messages refer to."""

    identifier: str
    name: str
    file_type: FileType
    data: bytes

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return len(self.data)


@dataclass(slots=True)
class UploadLedger:
    """What the files of all clients take together."""

    held_bytes: int = 0
    held_files: int = 0


class FileStore:
    """One client's files. `close` forgets them all; `reading` is held while one of them is read."""

    def __init__(self, limits: UploadLimits | None = None, ledger: UploadLedger | None = None) -> None:
        self._limits = limits or UploadLimits()
        self._ledger = ledger or UploadLedger()
        self._files: dict[str, StoredFile] = {}
        self._texts: dict[str, str] = {}
        self._held_bytes = 0
        self.reading = asyncio.Lock()

    def add(self, name: str, data: bytes, file_type: FileType | None = None) -> StoredFile:
        """Keep `data` under a new identifier; the client's oldest files go when there are too many of them."""
        limits, ledger = self._limits, self._ledger
        if len(data) > limits.client_bytes:
            raise EngineFault(
                f"No room for {name}: it has {format_bytes(len(data))}, and one client's uploads may take "
                f"{format_bytes(limits.client_bytes)} together.",
                kind="refused",
            )
        while self._files and (
            self._held_bytes + len(data) > limits.client_bytes or len(self._files) >= limits.client_files
        ):
            self._drop(next(iter(self._files)))
        # Own files only make room: what another client holds may be in use.
        if ledger.held_bytes + len(data) > limits.all_bytes or ledger.held_files >= limits.all_files:
            raise EngineFault(
                f"No room for {name}: uploads of all clients may take {format_bytes(limits.all_bytes)} in "
                f"{limits.all_files} files together, and they hold "
                f"{format_bytes(ledger.held_bytes)} in {ledger.held_files}.",
                kind="refused",
                suggestion="Try again when another client has left.",
            )
        suffix = PurePath(name).suffix.lower()[:16]
        file = StoredFile(
            identifier=f"f-{secrets.token_hex(8)}{suffix}",
            name=name,
            file_type=file_type or sniff(name, data),
            data=data,
        )
        self._files[file.identifier] = file
        self._count(len(data), files=1)
        return file

    def get(self, identifier: str) -> StoredFile:
        """The file. Raises `EngineFault` "not_found"."""
        if identifier not in self._files:
            raise no_such_upload(identifier)
        return self._files[identifier]

    def __contains__(self, identifier: str) -> bool:
        return identifier in self._files

    def known_text(self, identifier: str) -> str | None:
        """The text of a document that was read before."""
        return self._texts.get(identifier)

    def keep_text(self, identifier: str, text: str) -> None:
        """Keep the text of a document beside it, if it is still there and there is room without dropping anything."""
        size, limits = len(text.encode()), self._limits
        if (
            identifier in self._files
            and self._held_bytes + size <= limits.client_bytes
            and self._ledger.held_bytes + size <= limits.all_bytes
        ):
            self._texts[identifier] = text
            self._count(size, files=0)

    def close(self) -> None:
        """Forget every file."""
        for identifier in list(self._files):
            self._drop(identifier)

    def _drop(self, identifier: str) -> None:
        size = self._files.pop(identifier).size_bytes + len(self._texts.pop(identifier, "").encode())
        self._count(-size, files=-1)

    def _count(self, size_bytes: int, *, files: int) -> None:
        self._held_bytes += size_bytes
        self._ledger.held_bytes += size_bytes
        self._ledger.held_files += files


def no_such_upload(identifier: str | None) -> EngineFault:
    """A message refers to a file that is not there."""
    return EngineFault(
        f"No uploaded file answers to {identifier}",
        kind="not_found",
        suggestion="Upload it first; again if it was long ago, as new uploads take the place of a client's oldest.",
    )


def sniff(name: str, data: bytes) -> FileType:
    """What `data` is, as LM Studio classes files. Looks, and unpacks nothing."""
    if image_format(data) is not None:
        return "image"
    if data.startswith(b"%PDF-"):
        return "application/pdf"
    if data.startswith(b"PK\x03\x04"):
        # Word files are zip archives, in which names stand as they are; other archives are no documents.
        return "application/word" if _WORD_BODY in data else "unknown"
    if b"\0" in data[:_SNIFFED_BYTES]:
        return "unknown"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "unknown"
    return "text/plain" if PurePath(name).suffix.lower() in _PLAIN_SUFFIXES else "text/other"
