"""Reads one Word document: standard library only, run by `limited_child.py`, where what explodes hurts nobody.

The body is read as a stream, each piece of text going to the innermost open paragraph: time and memory grow with its
size, whatever is nested in what.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, NoReturn
from xml.parsers import expat

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHUNK_BYTES = 2**16
_BODY = "word/document.xml"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "
_FALLBACK = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
_SPACING = {f"{_WORD}tab": "\t", f"{_WORD}br": "\n", f"{_WORD}cr": "\n"}


class RefusedError(Exception):
    """The document cannot be read; the message completes "Reading it was stopped: …"."""


class WordText:
    """Collects the text of a body as its tags come by: paragraphs in the order they begin."""

    def __init__(self, max_text_bytes: int) -> None:
        self._room = max_text_bytes
        self._paragraphs: list[list[str]] = []
        self._open: list[list[str]] = []
        self._in_text = 0
        self._in_fallback = 0

    def text(self) -> str:
        """Everything, one paragraph per line."""
        return "\n".join("".join(pieces) for pieces in self._paragraphs)

    def begin(self, name: str, _attributes: Mapping[str, str]) -> None:
        """An element begins."""
        if name == _FALLBACK:
            # The same content once more, for programs that do not know the newer form.
            self._in_fallback += 1
        elif name == f"{_WORD}p" and not self._in_fallback:
            pieces: list[str] = []
            self._paragraphs.append(pieces)
            self._open.append(pieces)
            self._take(1)
        elif name == f"{_WORD}t":
            self._in_text += 1
        elif name in _SPACING:
            self._add(_SPACING[name])

    def end(self, name: str) -> None:
        """An element ends."""
        if name == _FALLBACK:
            self._in_fallback -= 1
        elif name == f"{_WORD}p" and not self._in_fallback:
            self._open.pop()
        elif name == f"{_WORD}t":
            self._in_text -= 1

    def characters(self, data: str) -> None:
        """Text between tags."""
        if self._in_text:
            self._add(data)

    def _add(self, text: str) -> None:
        if self._open and not self._in_fallback:
            self._open[-1].append(text)
            self._take(len(text.encode()))

    def _take(self, n_bytes: int) -> None:
        self._room -= n_bytes
        if self._room < 0:
            raise RefusedError("it has more text than can be read")


def word_text(data: bytes, *, max_body_bytes: int, max_text_bytes: int) -> str:
    """The paragraphs of the document's body. Raises RefusedError, or what zipfile and expat raise for broken ones."""
    collected = WordText(max_text_bytes)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = collected.begin
    parser.EndElementHandler = collected.end
    parser.CharacterDataHandler = collected.characters
    # Real documents have no DOCTYPE; entities, which only it can define, are how XML is made to explode.
    parser.StartDoctypeDeclHandler = _refuse_doctype
    with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(_BODY) as body:
        room = max_body_bytes
        # Counted while unpacking: what the archive says of its sizes is its author's word.
        while chunk := body.read(_CHUNK_BYTES):
            room -= len(chunk)
            if room < 0:
                raise RefusedError(f"it unpacks to more than {max_body_bytes // 2**20} MiB")
            parser.Parse(chunk, False)
    parser.Parse(b"", True)
    return collected.text()


def _refuse_doctype(*_: object) -> NoReturn:
    raise RefusedError("it declares a document type, which no Word document does")


def answer(request: bytes) -> bytes:
    """A line of JSON with the limits and the file; "+" and the text, or "-" and the reason why there is none."""
    line, _, data = request.partition(b"\n")
    limits = json.loads(line)
    try:
        text = word_text(data, max_body_bytes=limits["max_body_bytes"], max_text_bytes=limits["max_text_bytes"])
    except RefusedError as exc:
        return f"-{exc}".encode()
    except MemoryError:  # the process says that itself
        raise
    except Exception:  # noqa: BLE001 - zipfile and expat raise a dozen kinds; to the client they are one
        return b"-it is no readable Word document"
    return b"+" + text.encode("utf-8", "replace")
