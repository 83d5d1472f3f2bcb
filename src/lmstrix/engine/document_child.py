"""The process that reads one Word document: standard library only, started with `python -I`, gone when it has answered.

Protocol: one JSON line of limits on stdin, then the file; the text on stdout and exit code 0, or the reason why there
is none and exit code 1. It limits its own memory and processor time before it looks at the first byte, so a document
that is made to explode fails here, where it takes nothing from anybody.

The body is read as a stream, each piece of text going to the innermost open paragraph: time and memory grow with its
size, whatever is nested in what.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import zipfile
from typing import TYPE_CHECKING, Any, NoReturn
from xml.parsers import expat

if TYPE_CHECKING:
    from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = 1000
"""The first to go when memory runs out: a document can be sent again."""
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


def main() -> NoReturn:
    """Read the document on stdin, answer, and end."""
    limits = json.loads(sys.stdin.buffer.readline())
    _limit(limits)
    code = 1
    try:
        answer = word_text(
            sys.stdin.buffer.read(),
            max_body_bytes=limits["max_body_bytes"],
            max_text_bytes=limits["max_text_bytes"],
        )
        code = 0
    except RefusedError as exc:
        answer = str(exc)
    except MemoryError:
        answer = f"it needs more than {limits['memory_bytes'] // 2**20} MiB of memory"
    except Exception:  # noqa: BLE001 - zipfile and expat raise a dozen kinds; to the client they are one
        answer = "it is no readable Word document"
    sys.stdout.buffer.write(answer.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()
    os._exit(code)


def _limit(limits: Mapping[str, Any]) -> None:
    """Die with the parent, go first when memory runs out, and take no more memory and processor time than given."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - 5 ms less
            file.write(str(_OOM_SCORE))
    if sys.platform != "win32":
        import resource

        # Windows has neither limit: there the parent's clock and the sizes above are what holds.
        memory_bytes, cpu_s = limits["memory_bytes"], limits["cpu_s"]
        # The second of grace makes the end a signal of its own, which says why; at the hard limit it is a plain kill.
        for kind, limit in ((resource.RLIMIT_AS, (memory_bytes,) * 2), (resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))):
            # macOS refuses to limit the address space; the system may allow less already, and then that stands.
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(kind, limit)


if __name__ == "__main__":
    main()
