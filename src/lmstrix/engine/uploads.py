"""Files a client uploaded, kept in memory for as long as it stays, and the text of those that are documents.

Types are told from the first bytes, the name only decides among kinds of text. Plain text of any kind and Word files
(.docx) are read with the standard library; PDF is refused by name, since nothing here reads it faithfully.
"""

from __future__ import annotations

import io
import secrets
import zipfile
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from lmstrix.engine.faults import EngineFault
from lmstrix.loaders.images import image_format

FileType = Literal["image", "text/plain", "application/pdf", "application/word", "text/other", "unknown"]

_PLAIN_SUFFIXES = {".txt", ".text", ".log", ""}
_SNIFFED_BYTES = 8192
_MAX_STORE_BYTES = 512 * 2**20
_MAX_DOCUMENT_BYTES = 64 * 2**20
_WORD_BODY = "word/document.xml"
_WORD_NAMESPACE = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


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


class FileStore:
    """One client's files. `close` forgets them all."""

    def __init__(self, *, max_bytes: int = _MAX_STORE_BYTES) -> None:
        self._files: dict[str, StoredFile] = {}
        self._room_bytes = max_bytes

    def add(self, name: str, data: bytes) -> StoredFile:
        """Keep `data` under a new identifier."""
        if len(data) > self._room_bytes:
            raise EngineFault(
                f"No room for {name}: uploads of one client may take {_MAX_STORE_BYTES // 2**20} MiB together",
                kind="invalid",
                suggestion="Reconnect to drop earlier uploads.",
            )
        # Never given back before the client goes: there is no way to delete a single file.
        self._room_bytes -= len(data)
        suffix = PurePath(name).suffix.lower()[:16]
        file = StoredFile(
            identifier=f"f-{secrets.token_hex(8)}{suffix}", name=name, file_type=sniff(name, data), data=data
        )
        self._files[file.identifier] = file
        return file

    def get(self, identifier: str) -> StoredFile:
        """The file. Raises `EngineFault` "not_found"."""
        if identifier not in self._files:
            raise no_such_upload(identifier)
        return self._files[identifier]

    def text_of(self, identifier: str) -> str:
        """The text of a document. Raises `EngineFault` "unsupported", naming the type, for what we cannot read."""
        file = self.get(identifier)
        if file.file_type in ("text/plain", "text/other"):
            return file.data.decode("utf-8-sig")
        if file.file_type == "application/word":
            return _word_text(file)
        raise EngineFault(
            f"Reading {file.name} is not supported: no text can be extracted from files of type {file.file_type}",
            kind="unsupported",
            suggestion="Send its content as text.",
        )

    def close(self) -> None:
        """Forget every file."""
        self._files.clear()


def no_such_upload(identifier: str | None) -> EngineFault:
    """A message refers to a file that is not there."""
    return EngineFault(f"No uploaded file answers to {identifier}", kind="not_found", suggestion="Upload it first.")


def sniff(name: str, data: bytes) -> FileType:
    """What `data` is, as LM Studio classes files."""
    if image_format(data) is not None:
        return "image"
    if data.startswith(b"%PDF-"):
        return "application/pdf"
    if data.startswith(b"PK\x03\x04"):
        # Word files are zip archives; other archives are no documents.
        return "application/word" if _WORD_BODY in _zip_names(data) else "unknown"
    if b"\0" in data[:_SNIFFED_BYTES]:
        return "unknown"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "unknown"
    return "text/plain" if PurePath(name).suffix.lower() in _PLAIN_SUFFIXES else "text/other"


def _zip_names(data: bytes) -> list[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []


def _word_text(file: StoredFile) -> str:
    """The paragraphs of the document body, one per line."""
    from xml.etree import ElementTree as ET

    fault = EngineFault(f"{file.name} is no readable Word document", kind="invalid")
    try:
        with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
            # A few kilobytes may unpack to gigabytes.
            if archive.getinfo(_WORD_BODY).file_size > _MAX_DOCUMENT_BYTES:
                raise fault
            body = archive.read(_WORD_BODY)
        if b"<!DOCTYPE" in body[:1024]:  # real ones have none; entities are how XML is made to explode
            raise fault
        root = ET.fromstring(body)  # noqa: S314 - without a DOCTYPE there are no entities to expand
    except (zipfile.BadZipFile, ET.ParseError, KeyError, OSError) as exc:
        raise fault from exc
    # Tables and text boxes are paragraphs too, wherever they are nested.
    paragraphs = root.iter(f"{_WORD_NAMESPACE}p")
    return "\n".join("".join(text.text or "" for text in each.iter(f"{_WORD_NAMESPACE}t")) for each in paragraphs)
